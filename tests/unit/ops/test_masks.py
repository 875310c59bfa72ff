"""Holes, islands and overlaps of masks beside SciPy's components."""

from typing import Any

import jax
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from edgetam_jax.ops import masks
from tests.support.shapes import examples

areas_jit = jax.jit(masks.component_areas)
EIGHT = np.ones((3, 3))


def scipy_areas(mask: np.ndarray) -> np.ndarray:
    labels: Any = ndimage.label(mask, EIGHT)
    labels = labels[0]
    return np.bincount(labels.ravel())[labels] * mask


def spiral(size: int) -> np.ndarray:
    """One path of ones, a pixel wide, winding inwards between walls of zeros."""
    mask = np.zeros((size, size), bool)
    y, x, dy, dx = 0, 0, 0, 1
    mask[0, 0] = True
    for leg in range(2 * size):
        steps = size - 1 - 2 * max(0, (leg - 1) // 2)
        for _ in range(steps):
            y, x = y + dy, x + dx
            mask[y, x] = True
        dy, dx = dx, -dy
    return mask


CASES = {
    "empty": np.zeros((64, 64), bool),
    "full": np.ones((64, 64), bool),
    "spiral": spiral(64),
    "spiral, ends swapped": np.rot90(spiral(64), 2),
    "walls": ~spiral(64),
    "checkerboard": np.indices((64, 64)).sum(0) % 2 == 0,
    "points": np.indices((64, 64)).max(0) % 2 == 1,
    "stripes": np.indices((64, 64))[0] % 2 == 0,
    "blobs": ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((64, 64)), 2) > 0,
}


@pytest.mark.parametrize("name", CASES)
def test_areas_equal_scipys(name):
    mask = CASES[name]
    np.testing.assert_array_equal(areas_jit(mask), scipy_areas(mask))


@examples(40)
@given(st.floats(0.02, 0.98), st.integers(0, 2**31 - 1))
def test_areas_equal_scipys_on_random_masks(density, seed):
    mask = np.random.default_rng(seed).random((3, 33, 47)) < density
    got = areas_jit(mask)
    for i in range(3):
        np.testing.assert_array_equal(got[i], scipy_areas(mask[i]))


def test_masks_of_a_batch_do_not_touch():
    batch = np.stack([CASES["full"], CASES["points"], CASES["full"]])
    want = np.stack([scipy_areas(mask) for mask in batch])
    np.testing.assert_array_equal(areas_jit(batch), want)
    np.testing.assert_array_equal(jax.jit(jax.vmap(masks.component_areas))(batch), want)
    np.testing.assert_array_equal(areas_jit(batch[:, None]), want[:, None])


@pytest.mark.parametrize("density", [0.3, 0.5, 0.75])
def test_fill_holes_and_remove_islands(density):
    logits = (np.random.default_rng(1).random((64, 64)).astype(np.float32) - 1 + density) * 30
    logits[5, 5] = 0.0  # the threshold itself is background
    holes = (logits <= 0) & (scipy_areas(logits <= 0) <= 8)
    islands = (logits > 0) & (scipy_areas(logits > 0) <= 8)
    assert holes.any() or islands.any()
    np.testing.assert_array_equal(jax.jit(masks.fill_holes)(logits), np.where(holes, np.float32(0.1), logits))
    np.testing.assert_array_equal(jax.jit(masks.remove_islands)(logits), np.where(islands, np.float32(-0.1), logits))


def test_area_limits_are_inclusive_and_zero_does_nothing():
    logits = np.full((12, 12), 5.0, np.float32)
    logits[2:5, 2:5] = -5  # nine pixels
    np.testing.assert_array_equal(masks.fill_holes(logits, 8), logits)
    assert (np.asarray(masks.fill_holes(logits, 9))[2:5, 2:5] == np.float32(0.1)).all()
    np.testing.assert_array_equal(masks.fill_holes(logits, 0), logits)
    np.testing.assert_array_equal(masks.remove_islands(-logits, 8), -logits)
    assert (np.asarray(masks.remove_islands(-logits, 9, value=-3.0))[2:5, 2:5] == -3).all()


def test_clean_mask_finds_islands_before_holes_are_filled():
    logits = np.full((9, 9), -4.0, np.float32)
    logits[1:4, 1:4] = 4
    logits[2, 2] = -4  # a ring of eight around a hole of one: filled first, it would have nine
    got = np.asarray(masks.clean_mask(logits, 1, 8, threshold=1.0))
    want = logits.copy()
    want[1:4, 1:4] = 1 - 10
    want[2, 2] = 1 + 10
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(masks.clean_mask(logits, 0, 0), logits)


def test_non_overlapping():
    logits = np.random.default_rng(0).standard_normal((3, 1, 8, 9)).astype(np.float32) * 8
    logits[:, 0, 0, 0] = [2, 2, -30]  # a tie goes to the first, what is lower stays
    got = np.asarray(masks.non_overlapping(logits))
    best = torch.from_numpy(logits).argmax(0, keepdim=True) == torch.arange(3).reshape(3, 1, 1, 1)
    want = torch.where(best, torch.from_numpy(logits), torch.from_numpy(logits).clamp(max=-10)).numpy()
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(got[:, 0, 0, 0], [2, -10, -30])
    np.testing.assert_array_equal(masks.non_overlapping(logits[:1]), logits[:1])
