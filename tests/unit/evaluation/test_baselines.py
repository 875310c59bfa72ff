"""Tracking without a network, on pictures in which the right answer is known."""

import numpy as np
import pytest

from edgetam_jax.evaluation.baselines import correlation, match_box, repeat_mask

HEIGHT, WIDTH, SIDE = 60, 80, 12
REACH = 6  # a tenth of the height


def scene(places: list[tuple[int, int]], gain: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A textured square (y, x) on other noise: frames [T, H, W, 3], its light changing, and masks [T, H, W].

    The mask is a part of the square: what lies around it in its box belongs to the pattern.
    """
    rng = np.random.default_rng(0)
    thing = rng.integers(40, 200, (SIDE, SIDE, 3))
    shape = np.add.outer(np.arange(SIDE), np.arange(SIDE)) >= SIDE - 1
    frames, masks = rng.integers(0, 255, (len(places), HEIGHT, WIDTH, 3)), np.zeros((len(places), HEIGHT, WIDTH), bool)
    for t, (y, x) in enumerate(places):
        frames[t, y : y + SIDE, x : x + SIDE] = thing * gain**t
        masks[t, y : y + SIDE, x : x + SIDE] = shape
    return frames.astype(np.uint8), masks


def test_correlation_is_that_of_statistics() -> None:
    rng = np.random.default_rng(1)
    window, patch = rng.integers(0, 255, (9, 12, 3), np.uint8), rng.integers(0, 255, (4, 5, 3), np.uint8)
    window[3:7, 6:11] = 10 + patch // 2
    got = correlation(window, patch)
    assert got.shape == (6, 8)
    centred = patch - patch.mean((0, 1))
    for y, x in np.ndindex(got.shape):
        there = window[y : y + 4, x : x + 5] - window[y : y + 4, x : x + 5].mean((0, 1))
        want = (there * centred).sum() / np.sqrt((there**2).sum() * (centred**2).sum())
        assert got[y, x] == pytest.approx(want, abs=1e-9)
    assert np.unravel_index(got.argmax(), got.shape) == (3, 6) and got.max() > 0.999
    flat = np.full_like(window, 7)
    np.testing.assert_allclose(correlation(flat, patch), 0, atol=1e-9)
    np.testing.assert_allclose(correlation(window, flat[:4, :5]), 0, atol=1e-9)


def test_a_box_is_followed_wherever_it_goes() -> None:
    """Into corners too, by as many pixels as it may move, and through a change of light."""
    places = [(30, 40), (30 + REACH, 40 - REACH), (38, 30), (44, 24), (48, 18), (48, 12), (44, 6), (40, 0), (45, 5)]
    frames, masks = scene(places, gain=1.03)
    np.testing.assert_array_equal(match_box(frames, masks[0]), masks)


def test_a_box_that_moves_farther_is_lost_until_it_is_near_again() -> None:
    frames, masks = scene([(30, 40), (30, 40 + REACH + 1), (30, 40 + REACH), (30, 42)])
    found = match_box(frames, masks[0])
    assert (found[1] != masks[1]).any()
    lost = np.argwhere(found[1]).min(0)
    assert np.abs(lost - (30, 40)).max() <= REACH and found[1].sum() == masks[1].sum()
    frames[1] = frames[0]  # it stays where it was: then it is found again
    np.testing.assert_array_equal(match_box(frames, masks[0]), masks[[0, 0, 2, 3]])


def test_a_mask_held_still() -> None:
    frames, masks = scene([(30, 40), (20, 40), (10, 40)])
    np.testing.assert_array_equal(repeat_mask(frames, masks[0]), masks[[0, 0, 0]])
