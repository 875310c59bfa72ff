"""Masks on their way out: resizing, holes and islands, overlaps.

All is pure JAX, works under `jit` and `vmap`, and takes any leading axes. Run-lengths are in `rle.py`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def component_areas(mask: Bool[Array, "*b h w"]) -> Int[Array, "*b h w"]:
    """For every pixel the number of pixels in its 8-connected component; 0 outside the mask."""
    labels = _roots(mask)
    sums = jnp.zeros(mask.size + 1, jnp.int32).at[labels.ravel()].add(1, mode="promise_in_bounds")
    return jnp.where(mask, sums.at[labels].get(mode="promise_in_bounds").reshape(mask.shape), 0)


def small_components(mask: Bool[Array, "*b h w"], max_area: int) -> Bool[Array, "*b h w"]:
    """The pixels of 8-connected components with at most `max_area` pixels."""
    return mask & (component_areas(mask) <= max_area) if max_area > 0 else jnp.zeros_like(mask)


def fill_holes(
    logits: Float[Array, "*b h w"], max_area: int = 8, threshold: float = 0.0, value: float = 0.1
) -> Float[Array, "*b h w"]:
    """Background (logit <= threshold) of at most `max_area` connected pixels becomes `value`."""
    return jnp.where(small_components(logits <= threshold, max_area), jnp.asarray(value, logits.dtype), logits)


def remove_islands(
    logits: Float[Array, "*b h w"], max_area: int = 8, threshold: float = 0.0, value: float = -0.1
) -> Float[Array, "*b h w"]:
    """Foreground (logit > threshold) of at most `max_area` connected pixels becomes `value`."""
    return jnp.where(small_components(logits > threshold, max_area), jnp.asarray(value, logits.dtype), logits)


def clean_mask(
    logits: Float[Array, "*b h w"], max_hole_area: int, max_island_area: int, threshold: float = 0.0
) -> Float[Array, "*b h w"]:
    """The image predictor's cleaning: holes to threshold + 10, islands to threshold - 10, both found on the input."""
    filled = fill_holes(logits, max_hole_area, threshold, threshold + 10)
    islands = small_components(logits > threshold, max_island_area)
    return jnp.where(islands, jnp.asarray(threshold - 10, logits.dtype), filled)


def non_overlapping(logits: Float[Array, "o *p"]) -> Float[Array, "o *p"]:
    """Every pixel goes to the object with the largest logit, the first of equals; the others' are at most -10 there."""
    winner = jnp.argmax(logits, axis=0)
    objects = jnp.arange(logits.shape[0]).reshape((-1,) + (1,) * (logits.ndim - 1))
    return jnp.where(objects == winner, logits, jnp.minimum(logits, -10))


def _roots(mask: jax.Array) -> jax.Array:
    """[n, h, w]: each pixel's component as the smallest index into the flat batch; the batch's size outside.

    They are trees of pixels that point to smaller ones. Each round hangs whole trees onto their smallest neighbour and
    then shortens all paths, so that even spirals need only some ten rounds.
    """
    outside = mask.size
    mask = jnp.asarray(mask).reshape(-1, *mask.shape[-2:])

    def hang_and_shorten(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        parent, _ = state
        reach = jnp.where(mask, _neighbour_min(parent), outside)
        # One cell more than pixels: those outside the mask point there.
        cells = jnp.append(reach.ravel(), outside)
        cells = cells.at[parent.ravel()].min(reach.ravel(), mode="promise_in_bounds")
        for _ in range(2):
            cells = cells.at[cells].get(mode="promise_in_bounds")
        new = jnp.where(mask, cells[:-1].reshape(mask.shape), outside)
        return new, jnp.any(new != parent)

    start = jnp.where(mask, jnp.arange(outside, dtype=jnp.int32).reshape(mask.shape), outside)
    return jax.lax.while_loop(lambda state: state[1], hang_and_shorten, (start, jnp.any(mask)))[0]


def _neighbour_min(labels: jax.Array) -> jax.Array:
    """The smallest label in each 3x3 neighbourhood of [n, h, w]."""
    for axis in (1, 2):
        pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        padded = jnp.pad(labels, pad, constant_values=jnp.iinfo(labels.dtype).max)
        length = labels.shape[axis]
        before, after = (jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in (0, 2))
        labels = jnp.minimum(labels, jnp.minimum(before, after))
    return labels
