import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgetam_jax.data.synthetic import ClipConfig, SyntheticClip, make_clip
from edgetam_jax.data.synthetic.batches import SyntheticBatches, SyntheticConfig
from edgetam_jax.data.synthetic.clips import render
from edgetam_jax.data.synthetic.outlines import ShapeKind
from edgetam_jax.data.synthetic.scenes import Scene, project_scene, sample_scene
from edgetam_jax.data.uniform_stream import UniformStream
from edgetam_jax.errors import ConfigError

CONFIG = ClipConfig(frames=16, height=48, width=64, exposures=1)
CLIPS = 60


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(jax.random.key(seed), CONFIG) for seed in range(CLIPS)]


@pytest.fixture(scope="module")
def clips(scenes: list[Scene]) -> list[SyntheticClip]:
    return [jax.tree.map(np.asarray, render(scene, CONFIG)) for scene in scenes]


def test_a_key_makes_a_clip(clips: list[SyntheticClip]) -> None:
    again = make_clip(jax.random.key(3), CONFIG)
    for got, want in zip(again, clips[3], strict=True):
        np.testing.assert_array_equal(got, want)
    assert (clips[3].frames != clips[4].frames).mean() > 0.9
    assert clips[3].frames.shape == (16, 48, 64, 3) and clips[3].frames.dtype == np.uint8
    assert clips[3].masks.shape == (16, 3, 48, 64) and clips[3].masks.dtype == bool
    assert clips[3].boxes.shape == (16, 3, 4)


def test_clips_come_in_batches() -> None:
    keys = jax.random.split(jax.random.key(0), 5)
    batch = jax.eval_shape(jax.vmap(lambda key: make_clip(key, CONFIG)), keys)
    assert batch.frames.shape == (5, 16, 48, 64, 3)
    assert batch.masks.shape == (5, 16, 3, 48, 64)


BATCHES = SyntheticConfig(frames=2, least=0.02)
STILLS = SyntheticConfig(frames=1, stills=3)


def test_batches_follow_from_the_seed_and_their_number() -> None:
    """Also those of a run that goes on, and of several hosts, each of which makes its own part."""
    whole = SyntheticBatches(BATCHES, 32, 4, seed=5)
    first, second = next(whole), next(whole)
    assert first.frames.shape == (4, 2, 32, 32, 3) and first.masks.shape == (4, 2, 3, 32, 32)
    clips = [*first.frames, *second.frames, *next(SyntheticBatches(BATCHES, 32, 4, seed=6)).frames]
    assert len({np.asarray(clip).tobytes() for clip in clips}) == 12
    resumed = SyntheticBatches(BATCHES, 32, 4, seed=5)
    resumed.set_state({"batches": 1})
    assert resumed.get_state() == {"batches": 1}
    jax.tree.map(np.testing.assert_array_equal, next(resumed), second)
    assert resumed.get_state() == whole.get_state() == {"batches": 2}
    hosts = [SyntheticBatches(BATCHES, 32, 4, 5, (host, 2)) for host in range(2)]
    parts = [next(host) for host in hosts]
    jax.tree.map(lambda *x: np.testing.assert_array_equal(np.concatenate(x[:2]), x[2]), *parts, first)


def test_what_hardly_shows_at_first_has_no_row() -> None:
    examples = jax.tree.map(np.asarray, next(SyntheticBatches(BATCHES, 32, 16, seed=0)))
    np.testing.assert_array_equal(examples.valid, examples.masks[:, 0].mean((-2, -1)) >= BATCHES.least)
    assert 0 < examples.valid.mean() < 1


def test_stills_of_one_scene_come_together() -> None:
    """Three of each, far apart in time."""
    examples = jax.tree.map(np.asarray, next(SyntheticBatches(STILLS, 32, 6, seed=0)))
    assert examples.frames.shape == (6, 1, 32, 32, 3) and examples.valid.shape == (6, 3)
    clip = make_clip(jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 1), STILLS.clip(32))
    np.testing.assert_array_equal(examples.frames[3:, 0], clip.frames)
    with pytest.raises(ConfigError, match="batch is 4; expected a multiple of 6, of the hosts and the stills"):
        SyntheticBatches(STILLS, 32, 4, 0, (0, 2))


def plain(scene: Scene, texels: np.ndarray) -> Scene:
    """The scene without shadows, blur, noise and changes of light, in other textures."""
    light = jax.tree.map(jnp.zeros_like, scene.light)
    light = light._replace(tint=jnp.ones_like(light.tint), focus=jnp.full_like(light.focus, 1e-3))
    return scene._replace(light=light, atlas=scene.atlas._replace(texels=jnp.asarray(texels, jnp.int32)))


@pytest.mark.parametrize("seed", range(8))
def test_masks_are_what_is_drawn(seed: int, scenes: list[Scene], clips: list[SyntheticClip]) -> None:
    """With a flat colour a thing, the frames show the masks."""
    scene, size = scenes[seed], CONFIG.texture_size
    colors = np.arange(1, CONFIG.things + 2) * 0x1F2B17 % 2**24
    texels = np.concatenate([np.full(4 * size * size, colors[0]), np.repeat(colors[1:], size * size)])
    flat = render(plain(scene, texels), CONFIG)
    got = np.asarray(flat.frames).astype(int) @ [1, 1 << 8, 1 << 16]
    assert set(np.unique(got)) <= set(colors)
    for layer, number in enumerate(np.asarray(scene.object_indices)):
        if number >= 0:
            np.testing.assert_array_equal(got == colors[1 + layer], clips[seed].masks[:, number])
    np.testing.assert_array_equal(flat.masks, clips[seed].masks)


def turns(lines: Any, points: np.ndarray) -> np.ndarray:
    """How often the edges [E] run around points [P, 2]: the sum of the angles under which these see them."""
    (ax, ay), (bx, by) = ((np.asarray(end, np.float64)[:, None] - points).transpose(2, 0, 1) for end in lines)
    return np.round(np.arctan2(ax * by - ay * bx, ax * bx + ay * by).sum(0) / (2 * np.pi))


def test_masks_are_the_polygons_in_the_order_of_their_depth(scenes: list[Scene], clips: list[SyntheticClip]) -> None:
    draw = jax.jit(project_scene, static_argnums=2)
    y, x = np.mgrid[:48, :64].reshape(2, -1)
    points, wrong, kinds = np.stack([x, y], -1), 0, set()
    for scene, clip in zip(scenes[:20], clips[:20], strict=True):
        lines, _ = draw(scene, jnp.asarray(5.0), CONFIG)
        owner = np.full(len(points), -1)
        for layer, kind in enumerate(np.asarray(scene.outlines.kind)):
            start, end = lines.start[layer], lines.end[layer]
            # One contour, one with a hole, or four parts.
            groups = 4 if kind >= ShapeKind.LIMBS else 2 if kind == ShapeKind.RING else 1
            pairs = zip(np.split(start, groups), np.split(end, groups), strict=True)
            per_group = [turns(pair, points) != 0 for pair in pairs]
            inside = per_group[0] ^ per_group[1] if kind == ShapeKind.RING else np.any(per_group, 0)
            owner[inside] = scene.object_indices[layer]
            kinds.add(int(kind))
        masks = clip.masks[5].reshape(3, -1)
        wrong += sum((masks[o] != (owner == o)).sum() for o in range(3))
    assert kinds == set(ShapeKind)
    assert wrong <= 5  # of 180000; pixels that an edge goes through


def test_visibility_boxes_and_cover_agree_with_the_masks(clips: list[SyntheticClip]) -> None:
    for clip in clips:
        assert (clip.masks.sum(1) <= 1).all()
        np.testing.assert_array_equal(clip.visible, clip.masks.any((-2, -1)))
        assert (clip.boxes[~clip.visible] == 0).all()
        assert ((clip.covered >= 0) & (clip.covered <= 1)).all()
        assert (clip.covered[clip.visible] < 1).all()
        for t, o in np.argwhere(clip.visible)[::17]:
            rows, columns = np.nonzero(clip.masks[t, o])
            assert clip.boxes[t, o].tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]


def test_objects_hide_each_other_leave_and_come_back(scenes: list[Scene], clips: list[SyntheticClip]) -> None:
    """As often as meant: training depends on it."""
    visible = np.stack([clip.visible for clip in clips])  # [CLIPS, T, O]
    covered = np.stack([clip.covered for clip in clips])
    area = np.stack([clip.masks.mean((-2, -1)) for clip in clips])
    assert visible[:, 0].mean() > 0.9 and visible.any(1).mean() > 0.97
    assert 0.8 < visible.mean() < 0.95
    hidden = ~visible & (covered == 1)
    assert 0.005 < hidden.mean() < 0.06
    assert 0.05 < (~visible & ~hidden).mean() < 0.18  # outside of the frame
    assert 0.2 < (covered[visible] > 0.1).mean() < 0.5
    assert 0.08 < (covered[visible] > 0.5).mean() < 0.25
    steps = np.diff(visible.astype(int), axis=1)
    lost, back = (steps < 0).any(1), (steps > 0).any(1) & visible[:, 0]
    assert 0.25 < lost.mean() < 0.55 and 0.2 < back.mean() < 0.5
    assert np.median(area[visible]) == pytest.approx(0.024, abs=0.006)
    assert (area[visible] < 0.002).mean() < 0.06 and area.max() < 0.4
    exits = [np.any(np.asarray(s.motions.exit_path[:, 3:]), axis=-1, keepdims=True)[:, 0] for s in scenes]
    leaving = np.stack([each[np.asarray(s.object_indices) >= 0] for each, s in zip(exits, scenes, strict=True)])
    assert leaving.mean() == pytest.approx(CONFIG.leaving, abs=0.11)  # three deviations of 180 draws


def test_pictures_are_neither_dark_nor_flat_and_all_moves(clips: list[SyntheticClip]) -> None:
    level = np.array([clip.frames.mean() for clip in clips])
    spread = np.array([clip.frames.std() for clip in clips])
    assert 90 < level.mean() < 130 and level.min() > 30 and level.max() < 230
    assert spread.min() > 8
    change = [np.abs(np.diff(clip.frames.astype(float), axis=0)).mean((1, 2, 3)).min() for clip in clips]
    assert min(change) > 0.5


def test_motion_blurs_pictures_and_leaves_masks(scenes: list[Scene], clips: list[SyntheticClip]) -> None:
    config = dataclasses.replace(CONFIG, exposures=3)
    soft = render(scenes[0], config)
    np.testing.assert_array_equal(soft.masks, clips[0].masks)
    difference = np.abs(np.asarray(soft.frames, float) - clips[0].frames)
    assert 0.1 < difference.mean() < 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 0}, "frames is 0; expected at least 1"),
        ({"exposures": 2}, "exposures is 2; expected an odd number"),
        ({"objects": 80}, "80 objects, 1 distractors and 1 occluders"),
        ({"radius": (0.3, 0.2)}, "radius is"),
        ({"leaving": 1.1}, "leaving is 1.1"),
        ({"pace": float("nan")}, "pace is nan"),
    ],
)
def test_impossible_clips_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(ClipConfig(), **change)


def test_draws() -> None:
    stream = UniformStream(jnp.linspace(0, 1, 7)[:-1])
    np.testing.assert_allclose(stream(2, low=1, high=[3, 5]), [1, 1 + 4 / 6])
    assert stream.choice((7, 8, 9)) == 8  # from 2 / 6
    assert stream.integer(1, 4) == 3  # from 3 / 6
    np.testing.assert_allclose(stream.normal(1), [0.4307], atol=1e-4)  # two thirds lie below
    assert not stream.bernoulli(0.8)
    with pytest.raises(ValueError, match="7 numbers are needed, 6 were drawn"):
        stream()
