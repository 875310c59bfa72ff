"""Postprocessing of predicted masks: holes, islands and overlaps.

All functions are pure JAX, work under `jit` and `vmap`, and take any leading axes. Resizing is in `resize.py`,
run-length encoding in `rle.py`.
"""

import einops
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

Masks = Array | np.ndarray


def component_areas(mask: Bool[Masks, "*b h w"]) -> Int[Array, "*b h w"]:
    """The number of pixels in the 8-connected component of each pixel; 0 outside the mask."""
    mask = jnp.asarray(mask)
    batch, lead = einops.pack([mask], "* h w")
    labels = _component_labels(batch)
    areas = jnp.zeros(mask.size + 1, jnp.int32).at[labels.ravel()].add(1, mode="promise_in_bounds")
    areas = jnp.where(batch, areas.at[labels].get(mode="promise_in_bounds"), 0)
    return einops.unpack(areas, lead, "* h w")[0]


def small_components(mask: Bool[Masks, "*b h w"], max_area: int) -> Bool[Array, "*b h w"]:
    """The pixels of 8-connected components with at most `max_area` pixels."""
    mask = jnp.asarray(mask)
    return mask & (component_areas(mask) <= max_area) if max_area > 0 else jnp.zeros_like(mask)


def fill_holes(
    logits: Float[Masks, "*b h w"], max_area: int = 8, threshold: float = 0.0, value: float = 0.1
) -> Float[Array, "*b h w"]:
    """Sets background (logit <= threshold) of at most `max_area` connected pixels to `value`."""
    return jnp.where(small_components(logits <= threshold, max_area), jnp.asarray(value, logits.dtype), logits)


def remove_islands(
    logits: Float[Masks, "*b h w"], max_area: int = 8, threshold: float = 0.0, value: float = -0.1
) -> Float[Array, "*b h w"]:
    """Sets foreground (logit > threshold) of at most `max_area` connected pixels to `value`."""
    return jnp.where(small_components(logits > threshold, max_area), jnp.asarray(value, logits.dtype), logits)


def clean_mask(
    logits: Float[Masks, "*b h w"], max_hole_area: int, max_island_area: int, threshold: float = 0.0
) -> Float[Array, "*b h w"]:
    """The image predictor's postprocessing: sets holes to threshold + 10 and islands of the input to threshold - 10."""
    filled = fill_holes(logits, max_hole_area, threshold, threshold + 10)
    islands = small_components(logits > threshold, max_island_area)
    return jnp.where(islands, jnp.asarray(threshold - 10, logits.dtype), filled)


def non_overlapping(logits: Float[Masks, "O *pixels"]) -> Float[Array, "O *pixels"]:
    """Keeps a pixel's largest logit, of equals the first object's; clips those of other objects to at most -10."""
    winner = jnp.argmax(logits, axis=0, keepdims=True)
    objects = jnp.arange(logits.shape[0]).reshape(-1, *[1] * (logits.ndim - 1))
    return jnp.where(objects == winner, logits, jnp.minimum(logits, -10))


def _component_labels(mask: Bool[Array, "n h w"]) -> Int[Array, "n h w"]:
    """Each pixel's component, as the smallest index of its pixels in the flat batch; the batch's size outside the mask.

    The labels form trees: a pixel's label is the index of its parent. Each round attaches whole trees to their smallest
    neighbour and then shortens all paths, so that even spirals need only about ten rounds.
    """
    outside = mask.size

    def attach_and_shorten(state: tuple[Array, Array]) -> tuple[Array, Array]:
        parent, _ = state
        smallest = jnp.where(mask, _neighbour_min(parent), outside)
        # One more than there are pixels: the parent of those outside the mask.
        flat = jnp.append(smallest.ravel(), outside)
        flat = flat.at[parent.ravel()].min(smallest.ravel(), mode="promise_in_bounds")
        for _ in range(2):
            flat = flat.at[flat].get(mode="promise_in_bounds")
        new = jnp.where(mask, flat[:-1].reshape(mask.shape), outside)
        return new, jnp.any(new != parent)

    start = jnp.where(mask, jnp.arange(outside, dtype=jnp.int32).reshape(mask.shape), outside)
    return lax.while_loop(lambda state: state[1], attach_and_shorten, (start, jnp.any(mask)))[0]


def _neighbour_min(labels: Int[Array, "n h w"]) -> Int[Array, "n h w"]:
    """The smallest label in each 3x3 neighbourhood."""
    for axis in (1, 2):
        pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        padded = jnp.pad(labels, pad, constant_values=jnp.iinfo(labels.dtype).max)
        length = labels.shape[axis]
        before, after = (lax.slice_in_dim(padded, i, i + length, axis=axis) for i in (0, 2))
        labels = jnp.minimum(labels, jnp.minimum(before, after))
    return labels
