"""J and F against a slow implementation, written from their definition."""

from fractions import Fraction
from math import ceil, floor, sqrt
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from edgetam_jax.errors import PromptError
from edgetam_jax.evaluation.measures import boundary, boundary_accuracy, region_similarity, statistics

SIZES = [(20, 30), (1, 1), (1, 9), (7, 1), (75, 100), (30, 250), (240, 320)]
# Their tolerances are 1 for the small, 1 (a whole number before it is rounded up), 3 and 4 pixels.


def blob(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    smooth = ndimage.gaussian_filter(rng.normal(size=(height, width)), rng.uniform(0.3, 6))
    return smooth > rng.normal() * smooth.std() * 0.5


def masks() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Found, true, void."""
    rng = np.random.default_rng(0)
    cases = []
    for height, width in SIZES:
        dot, full, empty = (np.zeros((height, width), bool) for _ in range(3))
        dot[rng.integers(height), rng.integers(width)] = True
        corner = np.zeros_like(dot)
        corner[-1, -1] = True
        full[:] = True
        left = np.zeros_like(dot)
        left[:, : ceil(width / 2)] = True  # touches three borders
        special = [dot, full, empty, corner, left]
        for _ in range(8):
            one = blob(rng, height, width)
            shift = rng.integers(-4, 5, 2)
            cases += [(one, np.roll(one, shift, (0, 1))), (one, blob(rng, height, width))]
        cases += [(one, other) for one in special for other in special]
        cases += [(one, blob(rng, height, width)) for one in special]
        cases += [(blob(rng, height, width), one) for one in special]
    return [(one, other, blob(rng, *one.shape) & blob(rng, *one.shape)) for one, other in cases]


def slow_boundary(mask: np.ndarray) -> np.ndarray:
    """Differs from the right, lower or lower right one? The last row looks right only, the last column down."""
    result = np.zeros_like(mask)
    result[:-1, :-1] |= mask[:-1, :-1] ^ mask[:-1, 1:]
    result[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, :-1]
    result[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    result[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
    result[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
    return result


def slow_j(found: np.ndarray, truth: np.ndarray, void: np.ndarray) -> float:
    union = ((found | truth) & ~void).sum()
    return ((found & truth) & ~void).sum() / union if union else 1.0


def slow_f(found: np.ndarray, truth: np.ndarray, void: np.ndarray) -> float:
    radius = ceil(0.008 * sqrt(found.shape[0] ** 2 + found.shape[1] ** 2))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = x**2 + y**2 <= radius**2
    one, other = slow_boundary(found & ~void), slow_boundary(truth & ~void)
    if not one.any() and not other.any():
        return 1.0
    if not one.any() or not other.any():
        return 0.0
    precision = (one & ndimage.binary_dilation(other, disk)).sum() / one.sum()
    recall = (other & ndimage.binary_dilation(one, disk)).sum() / other.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_equal_to_the_definition() -> None:
    cases = masks()
    nothing = [np.zeros_like(void) for *_, void in cases]
    for voids in (nothing, [void for *_, void in cases]):
        want_j, want_f, got_j, got_f = [], [], [], []
        for (found, truth, _), void in zip(cases, voids, strict=True):
            want_j.append(slow_j(found, truth, void))
            want_f.append(slow_f(found, truth, void))
            given = None if voids is nothing else void
            got_j.append(region_similarity(found, truth, given))
            got_f.append(boundary_accuracy(found, truth, given))
        for got, want in ((got_j, want_j), (got_f, want_f)):
            assert np.std(want) > 0.3 and len(set(np.round(want, 6))) > 40
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_boundary() -> None:
    lines = ["......", ".##...", ".##..#", "....##"]
    edges = ["###...", "#.#.##", "#####.", "...#.."]
    mask, want = (np.array([[c == "#" for c in line] for line in rows]) for rows in (lines, edges))
    np.testing.assert_array_equal(boundary(mask), want)
    for found, _, _ in masks():
        np.testing.assert_array_equal(boundary(found), slow_boundary(found))


# From the official scorer of DAVIS 2017, on the masks of the test below.
OFFICIAL = {
    0: (0.8685714285714285, 0.994392523364486),
    1: (0.06063947078280044, 0.13768195250082083),
    2: (0.7253787878787878, 0.5331203717148251),
    3: (0.03304347826086956, 0.13530655391120508),
    4: (0.7549857549857549, 0.7686660698299016),
    5: (0.04215456674473068, 0.18672199170124482),
}


def disks(seed: int, height: int = 60, width: int = 80, scale: int = 1) -> np.ndarray:
    """A union of disks, by integers alone."""
    y, x = np.mgrid[:height, :width]
    places = [scale * np.array([17 * seed + 31 * k, 29 * seed + 23 * k, 5 + (seed + 7 * k) % 9]) for k in range(4)]
    return np.any([(x - cx % width) ** 2 + (y - cy % height) ** 2 <= r**2 for cx, cy, r in places], 0)


def test_numbers_of_the_official_scorer() -> None:
    for seed, (j, f) in OFFICIAL.items():
        found, truth = disks(seed), np.roll(disks(seed + seed % 2), (seed % 3, 1), (0, 1))
        np.testing.assert_allclose(region_similarity(found, truth), j, rtol=0, atol=1e-9)
        np.testing.assert_allclose(boundary_accuracy(found, truth), f, rtol=0, atol=1e-9)


# The same scorer's mean, recall and decay of J and of F: without void pixels, and with them.
OFFICIAL_SEQUENCE = (
    ((0.5896863258827562, 0.6, 0.7458976695976622), (0.5235516012225345, 0.5, 0.8865196124448304)),
    ((0.5904580317686376, 0.6, 0.7460379508200278), (0.527997867221744, 0.5, 0.8740009914700597)),
)


def test_a_sequence_of_480p_scored_by_the_official_scorer() -> None:
    """Ten frames of an object that is found worse and worse; once it is away, and once it is not found at all."""
    truth = np.stack([np.roll(disks(1, 480, 854, 6), (3 * t, 5 * t), (0, 1)) for t in range(10)])
    found = np.stack([np.roll(mask, (t * t, -t), (0, 1)) for t, mask in enumerate(truth)])
    truth[4], found[4], found[6] = False, False, False
    void = np.stack([disks(9 + t, 480, 854, 3) for t in range(10)])
    for given, want in zip((None, void), OFFICIAL_SEQUENCE, strict=True):
        got = [statistics(measure(found, truth, given)) for measure in (region_similarity, boundary_accuracy)]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)


def test_stacks() -> None:
    rng = np.random.default_rng(1)
    one, other = (np.stack([blob(rng, 20, 30) for _ in range(6)]).reshape(2, 3, 20, 30) for _ in range(2))
    void = blob(rng, 20, 30)
    for measure in (region_similarity, boundary_accuracy):
        together = measure(one, other, void)
        assert together.shape == (2, 3)
        assert together[1, 2] == measure(one[1, 2], other[1, 2], void)
        assert together.std() > 0


def test_a_wider_tolerance_finds_more() -> None:
    found, truth = disks(1), np.roll(disks(1), 3, 1)
    strict, wide = (float(boundary_accuracy(found, truth, tolerance=t)) for t in (0.008, 0.05))
    assert strict < 0.4 and wide > 0.9


def slow_statistics(values: list[float]) -> list[float]:
    """Quarters that begin and end at whole frames, halves rounded up."""
    count = len(values)
    ends = [floor(1 + Fraction(k * (count - 1), 4) + Fraction(1, 2)) - 1 for k in range(5)]
    known = [v for v in values if v == v]

    def mean(some: list[float]) -> float:
        some = [v for v in some if v == v]
        return sum(some) / len(some) if some else float("nan")

    recall = sum(v > 0.5 for v in known) / count
    return [mean(known), recall, mean(values[: ends[1] + 1]) - mean(values[ends[3] :])]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 64, 103, 400])
def test_statistics(count: int) -> None:
    rng = np.random.default_rng(count)
    values = rng.random(count)
    if count > 10:
        values[rng.integers(0, count, 3)] = np.nan
    np.testing.assert_allclose(statistics(values), slow_statistics(values.tolist()), rtol=0, atol=1e-12)


def test_statistics_by_hand() -> None:
    # One half is not above one half. Quarters end at frames 2 (1.5, up), 2, 3 (2.5, up) and 3 of 3.
    assert statistics([0.5, 0.75, 1.0]) == (0.75, 2 / 3, (0.5 + 0.75) / 2 - 1.0)
    mean, recall, decay = statistics(np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]))
    assert (mean, recall) == (pytest.approx(0.55), 0.5)
    # Quarters end at frames 3 (2.75), 5 (4.5, up), 6 (6.25) and 8 of 8.
    assert decay == pytest.approx((0.9 + 0.8 + 0.7) / 3 - (0.4 + 0.3 + 0.2) / 3)
    assert np.isnan(statistics([])).all()


@pytest.mark.parametrize(
    ("found", "truth", "void", "message"),
    [
        (np.zeros((4, 5)), np.zeros((4, 6)), None, "the masks are"),
        (np.zeros(5), np.zeros(5), None, "expected both"),
        (np.zeros((0, 5)), np.zeros((0, 5)), None, "expected both"),
        (np.zeros((4, 5)), np.zeros((4, 5)), np.zeros((5, 4)), "the void pixels are"),
    ],
)
def test_masks_that_do_not_fit(found: Any, truth: Any, void: Any, message: str) -> None:
    for measure in (region_similarity, boundary_accuracy):
        with pytest.raises(PromptError, match=message):
            measure(found, truth, void)
