"""Bounding boxes of masks and non-maximum suppression, in pure JAX with fixed shapes. A box is (x0, y0, x1, y1)."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int


def boxes_around(masks: Bool[Array | np.ndarray, "*b h w"]) -> Int[Array, "*b 4"]:
    """The bounding box of each mask, with the last column and row inside; zeros for an empty mask."""
    return box_of_spans(jnp.any(masks, -2), jnp.any(masks, -1))


def box_of_spans(
    columns: Bool[Array | np.ndarray, "*b w"], rows: Bool[Array | np.ndarray, "*b h"]
) -> Int[Array, "*b 4"]:
    """`boxes_around` of masks, given which of their columns and rows have a pixel."""
    (x0, x1), (y0, y1) = _first_and_last(columns), _first_and_last(rows)
    return jnp.where(columns.any(-1, keepdims=True), jnp.stack([x0, y0, x1, y1], -1), 0)


def _first_and_last(flags: Bool[Array | np.ndarray, "*b n"]) -> tuple[Int[Array, "*b"], Int[Array, "*b"]]:
    return jnp.argmax(flags, -1), flags.shape[-1] - 1 - jnp.argmax(flags[..., ::-1], -1)


def nms(
    boxes: Float[Array | np.ndarray, "n 4"],
    scores: Float[Array | np.ndarray, "n"],
    threshold: float | np.float32 | Float[Array, ""],
    valid: Bool[Array | np.ndarray, "n"] | None = None,
) -> Int[Array, "n"]:
    """Non-maximum suppression, equal to torchvision's, which compares with the threshold in float64.

    A box is kept unless its IoU with a kept box of a higher score exceeds `threshold`.

    Args:
        boxes: [N, 4].
        scores: [N]. Of equal scores, the first box comes first.
        threshold: A Python number is rounded down to float32 (see `float32_below`); an array is taken as it is.
        valid: [N], by default all. Boxes that are not valid are ignored.

    Returns:
        [N] int32: the indices of the boxes that are kept, by descending score, padded with -1.
    """
    count = boxes.shape[0]
    if not count:
        return jnp.zeros(0, jnp.int32)
    boxes, scores = jnp.asarray(boxes), jnp.asarray(scores)
    limit = float32_below(threshold) if isinstance(threshold, float | int) else threshold
    valid = jnp.ones(count, bool) if valid is None else jnp.asarray(valid)
    order = jnp.lexsort((-scores, ~valid))
    x0, y0, x1, y1 = boxes[order].T
    area = (x1 - x0) * (y1 - y0)
    rank = jnp.arange(count)

    # One box at a time, so that memory does not grow with the square of the count.
    def suppress(i: Array, kept: Array) -> Array:
        width = jnp.minimum(x1[i], x1) - jnp.maximum(x0[i], x0)
        height = jnp.minimum(y1[i], y1) - jnp.maximum(y0[i], y0)
        intersection = jnp.maximum(width, 0) * jnp.maximum(height, 0)
        union = area[i] + area - intersection
        iou = intersection / jnp.where(union == 0, 1, union)  # 0 for two boxes without area
        return kept & ~(kept[i] & (iou > limit) & (rank > i))

    kept = lax.fori_loop(0, valid.sum(), suppress, valid[order])
    kept_first = jnp.argsort(~kept)  # stable: the order among the kept boxes remains
    return jnp.where(kept[kept_first], order[kept_first], -1).astype(jnp.int32)


def xywh(box: Any) -> list[float]:
    """A box as COCO writes it: x, y, width and height."""
    x0, y0, x1, y1 = map(float, box)
    return [x0, y0, x1 - x0, y1 - y0]


def float32_below(value: float) -> np.float32:
    """The largest float32 that is not above `value`: for a float32 x, `x > value` is the same as `x > this`."""
    nearest = np.float32(value)
    return np.nextafter(nearest, np.float32(-np.inf)) if float(nearest) > value else nearest
