"""Boxes of masks, and non-maximum suppression beside a plain one and torchvision's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgetam_jax.ops.boxes import box_of_spans, boxes_around, float32_below, nms
from tests.support import oracle
from tests.support.shapes import examples

nms_jit = jax.jit(nms)
their_nms = oracle.torch.ops.torchvision.nms  # torchvision's, or what stands in for it where it cannot be loaded
ROOM = 64


def plain_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        x0, y0, x1, y1 = boxes[i]
        for x2, y2, x3, y3 in boxes[kept]:
            width, height = max(min(x1, x3) - max(x0, x2), 0), max(min(y1, y3) - max(y0, y2), 0)
            union = (x1 - x0) * (y1 - y0) + (x3 - x2) * (y3 - y2) - width * height
            if union > 0 and float(np.float32(width * height) / np.float32(union)) > threshold:
                break
        else:
            kept.append(int(i))
    return kept


def random_boxes(seed: int, count: int, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    """Many of them overlap, some are equal, some have no area; scores have ties."""
    random = np.random.default_rng(seed)
    corners, sides = random.uniform(0, 60, (count, 2)), random.uniform(0, 50, (count, 2))
    boxes = np.concatenate([corners, corners + sides], 1)
    boxes[: count // 8] = boxes[count // 2 :][: count // 8]
    boxes[::9, 2] = boxes[::9, 0]
    scores = np.round(random.uniform(0, 1, count), 1 + seed % 3)
    return (np.round(boxes) if whole else boxes).astype(np.float32), scores.astype(np.float32)


# float32 puts 0.3 above and 0.7 below; IoUs of exactly a half and a third are common among whole boxes.
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1 / 3, 0.5, 0.7, 0.95, 1.0])
@pytest.mark.parametrize("whole", [True, False], ids=["pixels", "fractions"])
def test_nms_is_torchvisions(threshold: float, whole: bool) -> None:
    stayed = []
    for seed in range(12):
        boxes, scores = random_boxes(seed, ROOM, whole)
        want = plain_nms(boxes, scores, threshold)
        theirs = their_nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
        got = np.asarray(nms_jit(boxes, scores, float32_below(threshold)))
        assert theirs.tolist() == want
        assert got.tolist() == want + [-1] * (ROOM - len(want))
        stayed.append(len(want))
    assert threshold == 1 or 1 < np.mean(stayed) < ROOM - 1


@examples(30)
@given(st.integers(0, 1000), st.floats(0, 1), st.integers(0, ROOM))
def test_boxes_that_are_not_valid_are_not_there(seed: int, threshold: float, count: int) -> None:
    boxes, scores = random_boxes(seed, ROOM, whole=True)
    valid = np.random.default_rng(seed).permutation(ROOM) < count
    where = np.flatnonzero(valid)
    boxes[~valid], scores[~valid] = np.nan, np.nan
    got = np.asarray(nms_jit(boxes, scores, float32_below(threshold), valid))
    assert got[got >= 0].tolist() == where[plain_nms(boxes[valid], scores[valid], threshold)].tolist()


def test_a_threshold_is_taken_as_it_is() -> None:
    """IoU 0.3 as a float32 lies above the number 0.3."""
    boxes = np.array([[0, 0, 10, 1], [0, 0, 3, 1]], np.float32)
    scores = np.array([1, 0.5], np.float32)
    assert nms(boxes, scores, 0.3).tolist() == [0, -1]
    assert nms(boxes, scores, float(np.float32(0.3))).tolist() == [0, 1]
    assert float32_below(0.7) == np.float32(0.7) and float32_below(0.3) < np.float32(0.3)


def test_nms_of_none_and_of_batches() -> None:
    assert nms(jnp.zeros((0, 4)), jnp.zeros(0), 0.5).shape == (0,)
    boxes, scores = map(np.stack, zip(*(random_boxes(seed, ROOM, True) for seed in range(3)), strict=True))
    got = jax.vmap(lambda b, s: nms(b, s, 0.5))(boxes, scores)
    for one, b, s in zip(got, boxes, scores, strict=True):
        assert one[one >= 0].tolist() == plain_nms(b, s, 0.5)


def test_memory_of_nms_grows_with_the_count_alone() -> None:
    def temporaries(count: int) -> int:
        shapes = jax.ShapeDtypeStruct((count, 4), jnp.float32), jax.ShapeDtypeStruct((count,), jnp.float32)
        used = nms_jit.lower(*shapes, 0.5).compile().memory_analysis()
        assert used is not None
        return used.temp_size_in_bytes

    assert temporaries(4096) < 20 * 4 * 4096


def test_boxes_around() -> None:
    masks = np.random.default_rng(0).random((3, 5, 13, 17)) < 0.02
    masks[1, 2] = False
    masks[2] = False
    masks[2, 0, 4, 5], masks[2, 1, :, 16], masks[2, 2] = True, True, True
    got = np.asarray(jax.jit(boxes_around)(masks))
    for index in np.ndindex(3, 5):
        rows, columns = np.nonzero(masks[index])
        want = [columns.min(), rows.min(), columns.max(), rows.max()] if len(rows) else [0, 0, 0, 0]
        assert got[index].tolist() == want
    np.testing.assert_array_equal(box_of_spans(masks.any(-2), masks.any(-1)), got)
