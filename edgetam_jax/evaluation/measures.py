"""J and F of masks against the truth, as the DAVIS 2017 benchmark defines them (Pont-Tuset et al., arXiv:1704.00675).

J, region similarity, is the intersection over the union. F, boundary accuracy, is the harmonic mean of the precision
and recall of boundary pixels, where a pixel matches if the other boundary is near. Both are 1 where both masks are
empty.

Functions take masks [..., H, W] and return [...]. Pixels in `void` are ignored.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from edgetam_jax.errors import PromptError

TOLERANCE = 0.008  # the distance at which boundary pixels match, as a share of the image's diagonal
RECALL_THRESHOLD = 0.5  # frames above it count for the recall
PARTS = 4  # of a video: the decay is the mean of the first part minus that of the last


class Statistics(NamedTuple):
    """Statistics of J or F of one object over the frames of a video; NaN if there are none."""

    mean: float
    recall: float  # the share of frames above 0.5
    decay: float  # the mean of the first quarter minus that of the last


def region_similarity(masks: ArrayLike, truth: ArrayLike, void: ArrayLike | None = None) -> np.ndarray:
    """J, the intersection over the union.

    Args:
        masks: [..., H, W] predicted masks.
        truth: [..., H, W] true masks.
        void: [..., H, W] or [H, W], pixels to ignore; none by default.

    Returns:
        [...] in 0..1.

    Raises:
        PromptError: The shapes do not match.
    """
    masks, truth = _checked(masks, truth, void)
    intersection, union = (np.count_nonzero(x, axis=(-2, -1)) for x in (masks & truth, masks | truth))
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


def boundary_accuracy(
    masks: ArrayLike, truth: ArrayLike, void: ArrayLike | None = None, tolerance: float = TOLERANCE
) -> np.ndarray:
    """F, the harmonic mean of the precision and recall of boundary pixels.

    Args:
        masks: [..., H, W] predicted masks.
        truth: [..., H, W] true masks.
        void: [..., H, W] or [H, W], pixels to ignore; none by default.
        tolerance: The distance at which boundary pixels match, as a share of the image's diagonal. In pixels, it is
            rounded up.

    Returns:
        [...] in 0..1.

    Raises:
        PromptError: The shapes do not match.
    """
    masks, truth = _checked(masks, truth, void)
    *batch, height, width = masks.shape
    radius = math.ceil(tolerance * math.hypot(height, width))
    pairs = zip(masks.reshape(-1, height, width), truth.reshape(-1, height, width), strict=True)
    return np.array([_boundary_accuracy(mask, true_mask, radius) for mask, true_mask in pairs]).reshape(batch)


def boundary(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask [H, W] that differ from the next one to the right, below, or diagonally below.

    The edge of the image is no boundary.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:])


def statistics(values: ArrayLike) -> Statistics:
    """Mean, recall and decay of J or F by frame. NaN is left out of means, and does not count as recalled.

    Adjacent quarters share a frame. The official scorer keeps frame numbers in eight bits, so that its decay differs
    for 256 frames and more; no sequence of DAVIS is as long.
    """
    values = np.asarray(values, float)
    if not values.size:
        return Statistics(math.nan, math.nan, math.nan)
    # Halves are rounded up, also those that a rounding error has made smaller.
    ends = np.round(np.linspace(1, len(values), PARTS + 1) + 1e-10).astype(int) - 1
    first, last = values[: ends[1] + 1], values[ends[-2] : ends[-1] + 1]
    return Statistics(_mean(values), float((values > RECALL_THRESHOLD).mean()), _mean(first) - _mean(last))


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _boundary_accuracy(mask: np.ndarray, truth: np.ndarray, radius: int) -> float:
    predicted, true = boundary(mask), boundary(truth)
    count, true_count = np.count_nonzero(predicted), np.count_nonzero(true)
    if not count or not true_count:
        return float(count == true_count)
    # Cropping the empty margins saves time.
    either = predicted | true
    crop = tuple(slice(at[0], at[-1] + 1) for at in (np.flatnonzero(either.any(axis)) for axis in (1, 0)))
    predicted, true = predicted[crop], true[crop]
    precision, recall = _count_near(predicted, true, radius) / count, _count_near(true, predicted, radius) / true_count
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _count_near(pixels: np.ndarray, others: np.ndarray, radius: int) -> int:
    """How many of `pixels` have one of `others` within `radius`.

    For each of `pixels`, the `others` in a disk around it are counted row by row, from their running sum along rows.
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
    masks: ArrayLike, truth: ArrayLike, void: ArrayLike | None
) -> tuple[Bool[np.ndarray, "*b h w"], Bool[np.ndarray, "*b h w"]]:
    """Both masks as booleans, False in void pixels."""
    masks, truth = np.asarray(masks).astype(bool), np.asarray(truth).astype(bool)
    if masks.shape != truth.shape or masks.ndim < 2 or 0 in masks.shape[-2:]:
        raise PromptError(
            f"the masks are {masks.shape} and {truth.shape}; expected both [..., height, width], of one shape."
        )
    if void is None:
        return masks, truth
    ignored = np.asarray(void).astype(bool)
    if ignored.shape[-2:] != masks.shape[-2:] or ignored.ndim > masks.ndim:
        raise PromptError(f"the void pixels are {ignored.shape}, the masks {masks.shape}; expected the same size.")
    return masks & ~ignored, truth & ~ignored
