"""Boxes around masks, and which of many boxes to keep. Pure JAX, fixed shapes; a box is x0, y0, x1, y1."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int


def boxes_around(masks: Bool[Array, "*b h w"]) -> Int[Array, "*b 4"]:
    """The first and last column and row that each mask touches; zeros for an empty mask."""
    return box_of_spans(masks.any(-2), masks.any(-1))


def box_of_spans(columns: Bool[Array, "*b w"], rows: Bool[Array, "*b h"]) -> Int[Array, "*b 4"]:
    """`boxes_around` from the columns and rows that a mask touches."""
    (x0, x1), (y0, y1) = _ends(columns), _ends(rows)
    return jnp.where(columns.any(-1, keepdims=True), jnp.stack([x0, y0, x1, y1], -1), 0)


def _ends(touched: Bool[Array, "*b n"]) -> tuple[Array, Array]:
    return jnp.argmax(touched, -1), touched.shape[-1] - 1 - jnp.argmax(touched[..., ::-1], -1)


def nms(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, "n"],
    threshold: float | Array,
    valid: Bool[Array, "n"] | None = None,
) -> Int[Array, "n"]:
    """Non-maximum suppression: a box stays unless its IoU with a better one that stays exceeds `threshold`.

    The indices of those that stay, the best first and of equals the first, filled up with -1. Boxes that are not
    `valid` are as if they were not there. Equal to torchvision's, which takes the threshold in float64.
    """
    count = boxes.shape[0]
    if not count:
        return jnp.zeros(0, jnp.int32)
    boxes, scores = jnp.asarray(boxes), jnp.asarray(scores)
    limit = float32_below(threshold) if isinstance(threshold, float | int) else threshold
    valid = jnp.ones(count, bool) if valid is None else valid
    order = jnp.lexsort((-scores, ~valid))
    x0, y0, x1, y1 = boxes[order].T
    area = (x1 - x0) * (y1 - y0)
    place = jnp.arange(count)

    # Row by row, so that memory does not grow with the square of the count.
    def visit(i: Array, stays: Array) -> Array:
        width = jnp.minimum(x1[i], x1) - jnp.maximum(x0[i], x0)
        height = jnp.minimum(y1[i], y1) - jnp.maximum(y0[i], y0)
        shared = jnp.maximum(width, 0) * jnp.maximum(height, 0)
        union = area[i] + area - shared
        iou = shared / jnp.where(union == 0, 1, union)  # two boxes without area share nothing
        return stays & ~(stays[i] & (iou > limit) & (place > i))

    stays = lax.fori_loop(0, valid.sum(), visit, valid[order])
    last_to_front = jnp.argsort(~stays)  # stable: the best stay in front
    return jnp.where(stays[last_to_front], order[last_to_front], -1).astype(jnp.int32)


def float32_below(value: float) -> np.float32:
    """The largest float32 that is not above `value`: x > value means the same of a float32 x as x > this."""
    near = np.float32(value)
    return np.nextafter(near, np.float32(-np.inf)) if float(near) > value else near
