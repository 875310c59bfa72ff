import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from edgetam_jax.data.simulated_user import (
    Click,
    Plan,
    User,
    add_click,
    border_distance,
    click_on,
    correction,
    make_plan,
    noisy_box,
)
from edgetam_jax.errors import ConfigError
from edgetam_jax.prompts import check_against_video
from edgetam_jax.types import Label

HEIGHT, WIDTH = 20, 28
FRAMES, PLANS = 5, 2000
distance_jit = jax.jit(border_distance)


def blobs(seed: int, level: float = 0.0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((HEIGHT, WIDTH))
    return ndimage.gaussian_filter(noise, 2) > level


REGIONS = {
    "empty": np.zeros((HEIGHT, WIDTH), bool),
    "full": np.ones((HEIGHT, WIDTH), bool),
    "pixel": np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) == 3 * WIDTH + 5,
    "corner": np.indices((HEIGHT, WIDTH)).sum(0) < 9,
    "all but a pixel": np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) != 3 * WIDTH + 5,
    "blobs": blobs(0),
    "more": blobs(1, -0.05),
}


def distances(region: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.distance_transform_edt(np.pad(region, 1)))[1:-1, 1:-1] ** 2


@pytest.mark.parametrize("name", REGIONS)
def test_distances_are_scipys(name: str) -> None:
    np.testing.assert_array_equal(distance_jit(REGIONS[name]), distances(REGIONS[name]).round())


def test_clicks_at_the_centre_are_farthest_from_the_border() -> None:
    click_jit = jax.jit(partial(click_on, aim="centre"))
    for name, region in REGIONS.items():
        click = click_jit(jax.random.key(0), region)
        if name == "empty":
            assert click.label == Label.ABSENT
            continue
        x, y = np.asarray(click.point, int)
        assert click.label == Label.POSITIVE
        assert y * WIDTH + x == distances(region).round().argmax()


def test_clicks_fall_anywhere_in_a_region_alike() -> None:
    region = REGIONS["blobs"] & (np.arange(WIDTH) < 12)
    draw = jax.jit(jax.vmap(click_on, (0, None)))
    clicks = draw(jax.random.split(jax.random.key(0), 20000), region)
    x, y = np.asarray(clicks.point, int).T
    count = np.zeros(region.shape, int)
    np.add.at(count, (y, x), 1)
    assert (count[~region] == 0).all() and (count[region] > 0).all()
    expected = 20000 / region.sum()
    # The sum of squares of so many deviations spreads around their number by the root of twice that.
    chi = ((count[region] - expected) ** 2 / expected).sum()
    assert abs(chi - region.sum()) < 5 * np.sqrt(2 * region.sum())


@pytest.mark.parametrize("aim", ["uniform", "centre"])
def test_corrections_say_what_is_wrong(aim: Any) -> None:
    user = User(aim=aim, from_truth=0)
    fix = jax.jit(jax.vmap(lambda key, truth, answer: correction(key, truth, answer, user)))
    truths = np.stack([blobs(seed) for seed in range(60)])
    answers = np.stack([blobs(seed + 60, (seed % 3 - 1) * 0.15) for seed in range(60)])
    answers[:2] = truths[:2]
    truths[0], answers[0] = True, True
    clicks = jax.tree.map(np.asarray, fix(jax.random.split(jax.random.key(1), 60), truths, answers))
    assert clicks.label[0] == Label.ABSENT  # nothing is wrong, and nothing is off the object
    x, y = clicks.point.astype(int).T
    hit = truths[np.arange(60), y, x]
    assert clicks.label[1] == Label.NEGATIVE and not hit[1]
    assert (answers[np.arange(60), y, x] != hit)[2:].all()
    np.testing.assert_array_equal(clicks.label[2:] == Label.POSITIVE, hit[2:])
    assert 10 < (clicks.label == Label.POSITIVE).sum() < 50
    if aim == "centre":
        for truth, answer, point in zip(truths[2:], answers[2:], clicks.point[2:], strict=True):
            depth = np.maximum(distances(truth & ~answer), distances(answer & ~truth))
            assert round(depth[int(point[1]), int(point[0])]) == round(depth.max())


def test_some_corrections_are_just_on_the_object() -> None:
    truth, answer = REGIONS["corner"], REGIONS["corner"] | REGIONS["pixel"]  # all errors are one pixel of surplus
    fix = jax.jit(jax.vmap(lambda key: correction(key, truth, answer, User(from_truth=0.3))))
    clicks = fix(jax.random.split(jax.random.key(2), 2000))
    assert (clicks.label == Label.POSITIVE).mean() == pytest.approx(0.3, abs=0.05)


def test_boxes_are_off_by_a_tenth_at_most() -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:15, 2:23] = True  # 10 and 20 pixels from first to last
    keys = jax.random.split(jax.random.key(0), 500)
    draw = jax.jit(jax.vmap(noisy_box, (0, None)))
    boxes = np.asarray(draw(keys, mask))
    off = boxes - np.array([[2, 4], [22, 14]])
    np.testing.assert_allclose(np.abs(off).max(0), [[2, 1], [2, 1]], atol=0.05)
    assert np.abs(off.mean(0)).max() < 0.2
    limited = jax.jit(jax.vmap(lambda key: noisy_box(key, mask, User(box_noise_limit=0.5))))(keys)
    assert np.abs(np.asarray(limited) - [[2, 4], [22, 14]]).max() <= 0.5
    all_points = draw(keys, np.ones_like(mask))
    assert all_points.min() == 0 and (all_points.max((0, 1)) == np.array([WIDTH - 1, HEIGHT - 1])).all()


def test_lists_of_points_grow_by_a_click_until_they_are_full() -> None:
    points, labels = jnp.zeros((4, 2)), jnp.array([2, 3, -1, -2])
    same = add_click(points, labels, Click(jnp.ones(2), jnp.array(Label.ABSENT)))
    np.testing.assert_array_equal(same[1], labels)
    points, labels = add_click(points, labels, Click(jnp.array([5.0, 6.0]), jnp.array(Label.NEGATIVE)))
    np.testing.assert_array_equal(labels, [2, 3, 0, -1])
    np.testing.assert_array_equal(points[2], [5, 6])
    full = add_click(points, labels, Click(jnp.ones(2), jnp.array(Label.POSITIVE)))
    np.testing.assert_array_equal(full[1], labels)
    np.testing.assert_array_equal(full[0], points)


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    """Three objects: one always seen, one from frame 1 on and not on 3, one never."""
    masks = np.stack([[blobs(t), blobs(t + 9), blobs(0)] for t in range(FRAMES)])
    masks[[0, 3], 1] = False
    masks[:, 2] = False
    return masks


@pytest.fixture(scope="module")
def plans(masks: np.ndarray) -> Plan:
    plan = jax.jit(jax.vmap(make_plan, (0, None)))
    return jax.tree.map(np.asarray, plan(jax.random.split(jax.random.key(0), PLANS), masks))


def test_prompts_lie_on_the_objects_and_begin_where_these_are_first_seen(plans: Plan, masks: np.ndarray) -> None:
    prompts, noise = plans.prompts, 0.1 * np.array([WIDTH, HEIGHT])
    assert not prompts.valid[:, 2].any() and not prompts.is_mask[:, 2].any()
    assert (prompts.labels[:, 2] == Label.ABSENT).all()
    for o, first in ((0, 0), (1, 1)):
        assert prompts.valid[:, o, 0].all()
        assert (prompts.frames[:, o, 0] == first).all()
    for p, o, k in np.argwhere(prompts.valid)[:1500]:
        mask = masks[prompts.frames[p, o, k], o]
        assert mask.any()
        points, labels = prompts.points[p, o, k], prompts.labels[p, o, k]
        if prompts.is_mask[p, o, k]:
            np.testing.assert_array_equal(prompts.masks[p, o, k], mask)
            assert (labels == Label.ABSENT).all()
            continue
        assert not prompts.masks[p, o, k].any()
        if labels[0] == Label.POSITIVE:
            np.testing.assert_array_equal(labels[1:3], [Label.NOT_A_POINT, Label.ABSENT])
            assert mask[int(points[0, 1]), int(points[0, 0])]
        else:
            np.testing.assert_array_equal(labels[:4], [2, 3, Label.NOT_A_POINT, Label.ABSENT])
            y, x = np.nonzero(mask)
            box = np.array([[x.min(), y.min()], [x.max(), y.max()]])
            assert (np.abs(points[:2] - box) <= noise).all() and (points[0] < points[1]).all()


def test_users_are_those_of_sam_2() -> None:
    """Its example of fine-tuning, and its `sample_box_points`."""
    assert User() == User(
        points=0.5,
        boxes=0.5,
        first_frames=2,
        corrected_frames=2,
        corrections=7,
        from_truth=0.1,
        aim="uniform",
        least_pixels=1,
        box_noise=0.1,
        box_noise_limit=20.0,
    )


def test_prompts_come_as_often_as_in_sam_2(plans: Plan) -> None:
    prompts, near = plans.prompts, 0.04
    seen = slice(0, 2)
    assert prompts.is_mask[:, seen, 0].mean() == pytest.approx(0.5, abs=near)
    said = prompts.valid[:, seen] & ~prompts.is_mask[:, seen]
    assert (prompts.labels[:, seen, :, 0] == Label.BOX_START)[said].mean() == pytest.approx(0.5, abs=near)
    assert prompts.valid[:, seen, 1].mean() == pytest.approx(0.5, abs=near)
    second = prompts.frames[:, 0, 1][prompts.valid[:, 0, 1]]
    np.testing.assert_allclose(np.bincount(second, minlength=FRAMES) / len(second), [0, *[1 / 4] * 4], atol=0.06)
    assert set(prompts.frames[:, 1, 1][prompts.valid[:, 1, 1]]) == {2, 4}


def test_corrected_are_the_prompted_frames_and_some_others(plans: Plan) -> None:
    prompts, corrected = plans.prompts, plans.corrected  # [PLANS, T, O]
    pointed = prompts.valid.any(-1) & ~prompts.is_mask.any(-1)
    count = prompts.valid.sum(-1)
    assert not corrected.sum(1)[~pointed].any()
    for o in (0, 1):
        one = pointed[:, o] & (count[:, o] == 1)
        assert corrected[pointed[:, o], prompts.frames[pointed[:, o], o, 0], o].all()
        assert (corrected[:, :, o].sum(1)[one] == 2).mean() == pytest.approx(0.5, abs=0.07)
        two = pointed[:, o] & (count[:, o] == 2)
        assert (corrected[:, :, o].sum(1)[two] == 2).all()
        assert corrected[two, prompts.frames[two, o, 1], o].all()


def test_prompts_are_fit_for_tracking(plans: Plan) -> None:
    check_against_video(jax.tree.map(lambda x: x[0], plans.prompts), FRAMES, (HEIGHT, WIDTH))
    assert plans.prompts.obj_ids.tolist() == [[0, 1, 2]] * PLANS
    assert plans.prompts.labels.shape == (PLANS, 3, 2, User().capacity)


def test_single_frames_get_no_masks_and_places_may_exceed_frames(masks: np.ndarray) -> None:
    plan = jax.jit(make_plan, static_argnums=2)(jax.random.key(0), masks[:1], User(first_frames=3, corrected_frames=3))
    assert plan.prompts.valid.tolist() == [[True, False, False], [False] * 3, [False] * 3]
    assert not plan.prompts.is_mask.any() and plan.prompts.masks.shape == (3, 3, 0, 0)
    assert plan.corrected.tolist() == [[True, False, False]]


def test_users_can_be_exact_and_wait_until_they_see_enough(masks: np.ndarray) -> None:
    """Boxes without noise, on the first frame that shows some part of the object."""
    masks = masks.copy()
    masks[:2, 0] = REGIONS["pixel"]
    masks[:, 1] = REGIONS["pixel"] & np.array([0, 0, 0, 1, 0], bool)[:, None, None]
    user = User(points=1, boxes=1, first_frames=1, corrected_frames=1, corrections=0, box_noise=0, least_pixels=9)
    plan = jax.jit(make_plan, static_argnums=2)(jax.random.key(0), masks, user)
    assert plan.prompts.frames[0, 0] == 2
    y, x = np.nonzero(masks[2, 0])
    np.testing.assert_array_equal(plan.prompts.points[0, 0, :2], [[x.min(), y.min()], [x.max(), y.max()]])
    assert plan.prompts.frames[1, 0] == 3 and plan.prompts.valid[1, 0]  # never more than a pixel


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": 1.5}, "points is 1.5; expected a share"),
        ({"aim": "center"}, "aim is 'center'; expected one of"),
        ({"first_frames": 3}, "first_frames is 3 and corrected_frames 2"),
        ({"corrections": -1}, "corrections is -1"),
    ],
)
def test_impossible_users_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(User(), **change)
