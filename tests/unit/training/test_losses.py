from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from edgetam_jax.training.losses import Losses, LossWeights, object_losses, reduce_losses
from edgetam_jax.types import MaskPrediction
from tests.support.tolerances import assert_close

LEAD, SIZE = (3, 2, 4), (12, 16)  # rounds, frames, objects
LOSS_RTOL = 1e-5
compute = jax.jit(object_losses)


@pytest.fixture(scope="module")
def case() -> tuple[MaskPrediction, np.ndarray, np.ndarray, np.ndarray]:
    """Random logits, some of them perfect and some completely wrong, and absent objects."""
    rng = np.random.default_rng(0)
    truth = rng.random((*LEAD, *SIZE)) < rng.random((*LEAD, 1, 1))
    visible = rng.random(LEAD) < 0.6
    truth &= visible[..., None, None]
    logits = 6 * rng.standard_normal((*LEAD, 4, *SIZE))
    logits[0, 0, :, 2] = np.where(truth[0, 0], 40, -40)
    logits[1, 1, :, 3] = -1024
    prediction = MaskPrediction(
        logits=jnp.asarray(logits, jnp.float32),
        ious=jnp.asarray(rng.random((*LEAD, 4)), jnp.float32),
        tokens=jnp.zeros((*LEAD, 4, 1)),
        score=jnp.asarray(3 * rng.standard_normal(LEAD), jnp.float32),
    )
    return prediction, truth, visible, rng.random(LEAD) < 0.5


def reference(prediction: Any, truth: np.ndarray, visible: np.ndarray, multimask: np.ndarray) -> dict[str, np.ndarray]:
    """The formulas of the papers, one object at a time, in float64."""
    found = {name: np.zeros(visible.shape) for name in ("focal", "dice", "iou", "score", "total")}
    for at in np.ndindex(visible.shape):
        target = torch.tensor(truth[at]).double()
        present = torch.tensor(float(visible[at])).double()
        score = torch.tensor(float(prediction.score[at])).double()
        found["score"][at] = torch.nn.functional.binary_cross_entropy_with_logits(score, present)
        if visible[at]:
            options = [1, 2, 3] if multimask[at] else [0]
            rows = []
            for mask in options:
                x = torch.tensor(np.asarray(prediction.logits[at][mask])).double()
                p = torch.sigmoid(x)
                p_t = torch.where(target > 0, p, 1 - p)
                alpha = torch.where(target > 0, 0.25, 0.75)
                ce = torch.nn.functional.binary_cross_entropy_with_logits(x, target, reduction="none")
                focal = (alpha * (1 - p_t) ** 2 * ce).mean()
                dice = 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)
                union = ((x > 0) | (target > 0)).sum()
                iou = ((x > 0) & (target > 0)).sum() / max(int(union), 1)
                rows.append((float(focal), float(dice), abs(float(prediction.ious[at][mask]) - float(iou))))
            best = min(rows, key=lambda row: 20 * row[0] + row[1])
            found["focal"][at], found["dice"][at] = best[:2]
            found["iou"][at] = np.mean([row[2] for row in rows])
        found["total"][at] = sum(
            weight * found[name][at] for name, weight in (("focal", 20), ("dice", 1), ("iou", 1), ("score", 1))
        )
    return found


@pytest.fixture(scope="module")
def each(case: Any) -> Losses:
    return compute(*case)


def test_losses_match_a_plain_implementation(case: Any, each: Losses) -> None:
    want = reference(*case)
    _, _, visible, multimask = case
    assert visible.any() and not visible.all() and multimask.any() and not multimask.all()
    for name, value in want.items():
        assert_close(name, getattr(each, name), value, rtol=LOSS_RTOL)
    assert (np.asarray(each.focal)[~visible] == 0).all()


def test_sums_are_over_valid_entries_and_per_object(case: Any, each: Losses) -> None:
    valid = np.ones(LEAD, bool)
    valid[..., -1] = False
    total = reduce_losses(each, jnp.asarray(valid), jnp.asarray(3))
    for name, value in reference(*case).items():
        assert_close(name, getattr(total, name), value[valid].sum() / 3, rtol=LOSS_RTOL)


@pytest.mark.parametrize("lead", [(0,), (2, 0), (0, 3)])
def test_empty_batches_have_no_loss(lead: tuple[int, ...]) -> None:
    shapes = (*lead, 4, *SIZE), (*lead, 4), (*lead, 4, 1), lead
    prediction = MaskPrediction(*(np.zeros(shape, np.float32) for shape in shapes))
    nothing = np.zeros(lead, bool)
    each = compute(prediction, np.zeros((*lead, *SIZE), bool), nothing, nothing)
    assert each.total.shape == lead
    assert all(float(x) == 0 for x in reduce_losses(each, jnp.asarray(nothing), jnp.zeros(())))


def test_batches_of_absent_objects_have_only_a_score_loss(case: Any) -> None:
    prediction, truth, visible, multimask = case
    each = compute(prediction, np.zeros_like(truth), np.zeros_like(visible), multimask)
    total = reduce_losses(each, jnp.ones(LEAD, bool), jnp.asarray(4))
    assert float(total.total) == float(total.score) > 0


def test_gradients_reach_only_supervised_outputs(case: Any) -> None:
    prediction, *targets = case
    _, visible, multimask = targets
    with_gradient = jax.jit(jax.grad(lambda p, *targets: object_losses(p, *targets).total.sum()))
    gradient = jax.tree.map(np.asarray, with_gradient(prediction, *targets))
    assert all(np.isfinite(x).all() for x in gradient)
    masks = np.abs(gradient.logits).max((-2, -1)) > 0  # [..., 4]
    expected = visible[..., None] & np.where(
        multimask[..., None], [False, True, True, True], [True, False, False, False]
    )
    assert not (masks & ~expected).any()
    assert (masks.sum(-1) <= 1).all() and masks.sum() >= 0.9 * visible.sum()  # but for those that are perfect
    np.testing.assert_array_equal(gradient.ious != 0, expected)
    assert (gradient.score != 0).all()


def test_half_precision_is_summed_in_float32(case: Any, each: Losses) -> None:
    prediction, truth, visible, multimask = case
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), prediction)
    got = compute(half, truth, visible, multimask)
    want = compute(jax.tree.map(jnp.float32, half), truth, visible, multimask)
    np.testing.assert_array_equal(got.total, want.total)
    assert got.total.dtype == jnp.float32


def test_weights(case: Any, each: Losses) -> None:
    got = jax.jit(object_losses, static_argnums=4)(*case, LossWeights(focal=0.0, dice=0.0, iou=2.0, score=0.5))
    np.testing.assert_allclose(got.total, 2 * each.iou + 0.5 * each.score, rtol=1e-6)
