"""J and F of masks against the truth, as the DAVIS 2017 benchmark defines them (Pont-Tuset et al., arXiv:1704.00675).

J, region similarity, is the intersection over the union. F, boundary accuracy, is the harmonic mean of the shares of
either mask's boundary that lie near the other's. Both are 1 where both masks are empty.

All take masks [..., H, W] and give [...]. Pixels in `void` count for nothing.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from edgetam_jax.errors import PromptError

TOLERANCE = 0.008  # how far boundaries may lie apart, as a share of the image's diagonal
RECALLED = 0.5  # frames above it count for the recall
PARTS = 4  # of a video: the decay is the first's mean less the last's


class Statistics(NamedTuple):
    """Of one object over the frames of a video; NaN where there is no frame."""

    mean: float
    recall: float  # the share of frames above one half
    decay: float  # how much worse the last quarter is than the first


def region_similarity(found: ArrayLike, truth: ArrayLike, void: ArrayLike | None = None) -> np.ndarray:
    """J."""
    one, other, void = _checked(found, truth, void)
    if void is not None:
        one, other = one & ~void, other & ~void
    shared, union = (np.count_nonzero(x, axis=(-2, -1)) for x in (one & other, one | other))
    return np.where(union == 0, 1.0, shared / np.maximum(union, 1))


def boundary_accuracy(
    found: ArrayLike, truth: ArrayLike, void: ArrayLike | None = None, tolerance: float = TOLERANCE
) -> np.ndarray:
    """F."""
    one, other, void = _checked(found, truth, void)
    if void is not None:
        one, other = one & ~void, other & ~void
    radius = math.ceil(tolerance * math.hypot(*one.shape[-2:]))
    pairs = zip(one.reshape(-1, *one.shape[-2:]), other.reshape(-1, *one.shape[-2:]), strict=True)
    return np.array([_boundary_accuracy(a, b, radius) for a, b in pairs]).reshape(one.shape[:-2])


def boundary(mask: np.ndarray) -> np.ndarray:
    """The pixels of [H, W] that differ from the one to the right, below, or both. The image's edge is no boundary."""
    beyond = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != beyond[:-1, 1:]) | (mask != beyond[1:, :-1]) | (mask != beyond[1:, 1:])


def statistics(values: ArrayLike) -> Statistics:
    """Mean, recall and decay of J or F by frame. NaN is left out of means, and is not recalled.

    The quarters share the frames at which they meet. The official scorer keeps frame numbers in eight bits, so that
    its decay is another for 256 frames and more; no sequence of DAVIS is as long.
    """
    values = np.asarray(values, float)
    if not values.size:
        return Statistics(math.nan, math.nan, math.nan)
    # Half a frame is rounded up; rounding errors are kept from deciding.
    ends = np.round(np.linspace(1, len(values), PARTS + 1) + 1e-10).astype(int) - 1
    first, last = values[: ends[1] + 1], values[ends[-2] : ends[-1] + 1]
    return Statistics(_mean(values), float((values > RECALLED).mean()), _mean(first) - _mean(last))


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _boundary_accuracy(found: np.ndarray, truth: np.ndarray, radius: int) -> float:
    one, other = boundary(found), boundary(truth)
    count, other_count = np.count_nonzero(one), np.count_nonzero(other)
    if not count or not other_count:
        return float(count == other_count)
    # Only how they lie to each other matters: away with the empty rest.
    either = one | other
    place = tuple(slice(at[0], at[-1] + 1) for at in (np.flatnonzero(either.any(axis)) for axis in (1, 0)))
    one, other = one[place], other[place]
    precision, recall = _near(one, other, radius) / count, _near(other, one, radius) / other_count
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _near(pixels: np.ndarray, others: np.ndarray, radius: int) -> int:
    """How many of `pixels` have one of `others` within `radius`.

    Asked at these pixels only, row by row of a disk around each, from the others' running sum along rows.
    """
    y, x = np.nonzero(pixels)
    sums = np.cumsum(np.pad(others, ((radius, radius), (radius + 1, radius))), axis=1, dtype=np.int32)
    near = np.zeros(len(y), bool)
    for row in range(-radius, radius + 1):
        reach = math.isqrt(radius**2 - row**2)
        line = y + radius + row
        near |= sums[line, x + radius + 1 + reach] > sums[line, x + radius - reach]
    return int(near.sum())


def _checked(
    found: ArrayLike, truth: ArrayLike, void: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    one, other = np.asarray(found).astype(bool), np.asarray(truth).astype(bool)
    if one.shape != other.shape or one.ndim < 2 or 0 in one.shape[-2:]:
        raise PromptError(f"the masks are {one.shape} and {other.shape}; expected both [..., height, width], as many.")
    if void is None:
        return one, other, None
    nothing = np.asarray(void).astype(bool)
    if nothing.shape[-2:] != one.shape[-2:] or nothing.ndim > one.ndim:
        raise PromptError(f"the void pixels are {nothing.shape}, the masks {one.shape}; expected the same size.")
    return one, other, nothing
