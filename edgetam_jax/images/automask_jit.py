"""The compiled programs of the mask generator: click points, refine masks, enlarge and measure those that are left."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from edgetam_jax.images.crops import Crop
from edgetam_jax.images.segment import completed, decoder_embedding
from edgetam_jax.model import Model
from edgetam_jax.nn.mask_decoder import select_mask
from edgetam_jax.ops.boxes import box_of_spans
from edgetam_jax.ops.masks import clean_mask
from edgetam_jax.ops.resize import two_taps
from edgetam_jax.ops.tree import map_or_vmap, zeros_like_output
from edgetam_jax.types import MASK_PROMPT_CLAMP, ImageFeatures, Label, PromptInputs


class Axis(NamedTuple):
    """How one side of the network's mask becomes a side of n pixels. What is not inside is background."""

    first: np.ndarray  # [n] the first pixel under each
    weights: np.ndarray  # [2, n] its weight, and the next one's
    inside: np.ndarray  # [n] bool


class Canvas(NamedTuple):
    rows: Axis
    columns: Axis

    @property
    def masks_at_once(self) -> int:
        """So many that memory stays flat, however large the image is."""
        return max(1, min(16, 2**25 // (len(self.rows.first) * len(self.columns.first))))


def room(crops: list[Crop]) -> tuple[int, int]:
    """Rows and columns that hold the masks of any of these crops, so that they share one program."""
    heights, widths = zip(*(crop.size for crop in crops), strict=True)
    return max(heights) + 1, max(widths)  # run-lengths need a row of background below


def canvas(mask_size: int, crop: Crop, room: tuple[int, int]) -> Canvas:
    def axis(length: int, room: int) -> Axis:
        first, weights = two_taps(mask_size, length)
        spare = room - length
        return Axis(np.pad(first, (0, spare)), np.pad(weights, ((0, 0), (0, spare))), np.arange(room) < length)

    (height, width), (rows, columns) = crop.size, room
    return Canvas(axis(height, rows), axis(width, columns))


@partial(jax.jit, static_argnums=4)
def click(
    model: Model, features: ImageFeatures, points: Array, count: Array | int, multimask: bool
) -> tuple[Array, Array]:
    """Masks for the first `count` points [B, 2], in 0..1: logits [B, M, h, w] and ious [B, M]; three each, or one."""
    model, features = _ready(model, features)
    no_mask = jnp.zeros((model.config.mask_size,) * 2), jnp.zeros((), bool)

    def one(point: Array) -> tuple[Array, Array]:
        found = model.segment(features, PromptInputs(*_closed(model, point), *no_mask))
        if multimask:
            return found.logits[1:], found.ious[1:]
        chosen = select_mask(found, False, model.config.decoder)
        return chosen.logits[None], chosen.iou[None]

    return _over_first(count, one, points)


@jax.jit
def refine(
    model: Model, features: ImageFeatures, points: Array, count: Array | int, logits: Array
) -> tuple[Array, Array]:
    """One better mask for each of logits [B, M, h, w] and the point [B, 2] that it came from."""
    model, features = _ready(model, features)

    def one(point: Array, logits: Array) -> tuple[Array, Array]:
        mask = jnp.clip(logits, -MASK_PROMPT_CLAMP, MASK_PROMPT_CLAMP), jnp.ones((), bool)
        found = model.segment(features, PromptInputs(*_closed(model, point), *mask))
        chosen = select_mask(found, False, model.config.decoder)
        return chosen.logits, chosen.iou

    # As many at once as there are points.
    better = lax.map(lambda column: _over_first(count, one, points, column), logits.swapaxes(0, 1))
    return jax.tree.map(lambda x: x.swapaxes(0, 1), better)


def _over_first(count: Array | int, function: Callable[..., Any], *values: Array) -> Any:
    """Maps over the first `count` rows; of the others the result is anything.

    On CPU one after the other, so that what fills a batch up costs nothing. Not with `cond`: XLA takes out of a loop
    what all rounds share, which here is a good part, but not out of a branch.
    """
    if jax.default_backend() != "cpu":
        return jax.vmap(function)(*values)
    empty = zeros_like_output(jax.vmap(function), *values)

    def fill(i: Array, results: Any) -> Any:
        result = function(*(rows[i] for rows in values))
        return jax.tree.map(lambda rows, row: rows.at[i].set(row), results, result)

    return lax.fori_loop(0, count, fill, empty)


def _ready(model: Model, features: ImageFeatures) -> tuple[Model, ImageFeatures]:
    return completed(model), features._replace(embedding=decoder_embedding(model, features.embedding))


def _closed(model: Model, point: Array) -> tuple[Array, Array]:
    return jnp.stack([point * model.config.image_size, jnp.zeros(2)]), jnp.array([Label.POSITIVE, Label.NOT_A_POINT])


@partial(jax.jit, static_argnums=5)
def enlarge(
    logits: Array, places: Array, used: Array, canvas: Canvas, levels: Array, clean: tuple[int, float]
) -> tuple[Array, Array, Array]:
    """The masks at `places` in logits [B, M, h, w], in the crop's size: stability, boxes, and where they change.

    `levels` are three thresholds that rise by the offset of the stability score. The last result is a bool for each
    pixel [n, width, height + 1]: is it different from the one above?
    """
    logits = logits.reshape(-1, *logits.shape[-2:])

    def one(place: Array, used: Array) -> tuple[Array, Array, Array]:
        def above() -> Array:
            area, threshold = clean
            mask = clean_mask(logits[place], area, area, threshold) if area else logits[place]
            # Columns come first, for run-lengths go down the columns.
            large = _stretch(_stretch(mask, canvas.rows).T, canvas.columns)
            count = sum((large > level).astype(jnp.int8) for level in levels)
            return jnp.where(canvas.columns.inside[:, None] & canvas.rows.inside, count, 0)

        # How many levels each pixel is above, [width, height + 1]. The branch saves what fills the batch up, and keeps
        # XLA on CPU from computing this once for each of the sums below.
        count = lax.cond(used, above, lambda: jnp.zeros([len(axis.first) for axis in canvas[::-1]], jnp.int8))
        mask = count > 1
        # One sum for both areas, 16 bits each in a column.
        areas = ((count > 2) + (count > 0) * jnp.uint32(1 << 16)).sum(1)
        inner, outer = (areas & 0xFFFF).sum(), (areas >> 16).sum()
        stability = jnp.where(outer > 0, inner / jnp.maximum(outer, 1), 0.0)
        edges = mask ^ jnp.pad(mask, ((0, 0), (1, 0)))[:, :-1]
        return stability, box_of_spans(mask.any(1), mask.any(0)), edges

    return map_or_vmap(one)(places, used)


def _stretch(x: Array, axis: Axis) -> Array:
    """Along the first axis."""
    near, far = (x.at[axis.first + i].get(mode="promise_in_bounds") for i in (0, 1))
    return near * axis.weights[0][:, None] + far * axis.weights[1][:, None]
