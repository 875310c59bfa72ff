"""The compiled programs of the mask generator: predict masks for points, refine them, upsample and measure them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from edgetam_jax.images.crops import Crop
from edgetam_jax.images.segment import decoder_embedding
from edgetam_jax.model import Model
from edgetam_jax.nn.mask_decoder import select_mask
from edgetam_jax.ops.boxes import box_of_spans
from edgetam_jax.ops.masks import clean_mask
from edgetam_jax.ops.resize import two_taps
from edgetam_jax.ops.tree import map_or_vmap, zeros_like_output
from edgetam_jax.types import MASK_PROMPT_CLAMP, ImageFeatures, Label, PromptInputs

MAX_PIXELS = 2**25  # of all masks that are upsampled together


class AxisTaps(NamedTuple):
    """How one axis of the model's masks is interpolated to n pixels, of which some may be padding."""

    first: Int[Array | np.ndarray, "n"]  # the first of two neighbouring mask pixels
    weights: Float[Array | np.ndarray, "2 n"]  # of that pixel and the next one
    inside: Bool[Array | np.ndarray, "n"]  # False for padding, which becomes background


class Upsampling(NamedTuple):
    """How the model's masks are interpolated to a crop's size, padded to the size of its largest sibling."""

    rows: AxisTaps
    columns: AxisTaps

    @property
    def batch_size(self) -> int:
        """The number of masks to upsample together, so that memory does not grow with the image."""
        return max(1, min(16, MAX_PIXELS // (len(self.rows.first) * len(self.columns.first))))


def padded_size(crops: list[Crop]) -> tuple[int, int]:
    """Rows and columns that hold a mask of any of these crops, so that all of them share one program."""
    heights, widths = zip(*(crop.size for crop in crops), strict=True)
    return max(heights) + 1, max(widths)  # the run-length encoding needs a row of background below


def make_upsampling(mask_size: int, crop: Crop, padded: tuple[int, int]) -> Upsampling:
    def axis_taps(length: int, padded_length: int) -> AxisTaps:
        first, weights = two_taps(mask_size, length)
        padding = padded_length - length
        inside = np.arange(padded_length) < length
        return AxisTaps(np.pad(first, (0, padding)), np.pad(weights, ((0, 0), (0, padding))), inside)

    (height, width), (rows, columns) = crop.size, padded
    return Upsampling(axis_taps(height, rows), axis_taps(width, columns))


@partial(jax.jit, static_argnums=(4, 5))
def predict_points(
    model: Model,
    features: ImageFeatures,
    points: Float[Array | np.ndarray, "b 2"],
    count: Int[Array, ""] | int,
    multimask: bool,
    vectorize: bool,
) -> tuple[Float[Array, "b m h w"], Float[Array, "b m"]]:
    """Mask logits and IoU estimates for the first `count` points, in 0..1. M is 3 with `multimask`, else 1."""
    features = features._replace(embedding=decoder_embedding(model, features.embedding))
    no_mask = jnp.zeros((model.config.mask_size,) * 2), jnp.zeros((), bool)

    def predict(point: Float[Array, "2"]) -> tuple[Float[Array, "m h w"], Float[Array, "m"]]:
        prediction = model.segment(features, PromptInputs(*_point_prompt(model, point), *no_mask))
        if multimask:
            return prediction.logits[1:], prediction.ious[1:]
        selected = select_mask(prediction, False, model.config.decoder)
        return selected.logits[None], selected.iou[None]

    return _map_first(count, vectorize, predict, points)


@partial(jax.jit, static_argnums=5)
def refine(
    model: Model,
    features: ImageFeatures,
    points: Float[Array | np.ndarray, "b 2"],
    count: Int[Array, ""] | int,
    logits: Float[Array, "b m h w"],
    vectorize: bool,
) -> tuple[Float[Array, "b m h w"], Float[Array, "b m"]]:
    """Predicts each mask again, from its logits and the point it was predicted from."""
    features = features._replace(embedding=decoder_embedding(model, features.embedding))

    def predict(point: Float[Array, "2"], logits: Float[Array, "h w"]) -> tuple[Float[Array, "h w"], Float[Array, ""]]:
        mask = jnp.clip(logits, -MASK_PROMPT_CLAMP, MASK_PROMPT_CLAMP), jnp.ones((), bool)
        prediction = model.segment(features, PromptInputs(*_point_prompt(model, point), *mask))
        selected = select_mask(prediction, False, model.config.decoder)
        return selected.logits, selected.iou

    # One alternative of all points after the other, so that a batch is no larger than in `predict_points`.
    by_alternative = rearrange(logits, "b m h w -> m b h w")
    refined, ious = lax.map(lambda column: _map_first(count, vectorize, predict, points, column), by_alternative)
    return rearrange(refined, "m b h w -> b m h w"), rearrange(ious, "m b -> b m")


def _map_first(
    count: Int[Array, ""] | int,
    vectorize: bool,
    function: Callable[..., Any],
    *arrays: Shaped[Array | np.ndarray, "b ..."],
) -> Any:
    """Maps a function over the first `count` rows. The results of the other rows are undefined.

    Without `vectorize` one after the other, so that padding costs nothing. A loop over all rows with `lax.cond` would
    be slower: XLA moves what all iterations share out of a loop, here a good part, but not out of a branch.
    """
    if vectorize:
        return jax.vmap(function)(*arrays)
    empty = zeros_like_output(jax.vmap(function), *arrays)

    def fill(i: Int[Array, ""], results: Any) -> Any:
        result = function(*(rows[i] for rows in arrays))
        return jax.tree.map(lambda rows, row: rows.at[i].set(row), results, result)

    return lax.fori_loop(0, count, fill, empty)


def _point_prompt(model: Model, point: Float[Array, "2"]) -> tuple[Float[Array, "2 2"], Int[Array, "2"]]:
    """Points and labels of one positive click."""
    labels = jnp.array([Label.POSITIVE, Label.NOT_A_POINT])
    return jnp.stack([point * model.config.image_size, jnp.zeros(2)]), labels


@partial(jax.jit, static_argnums=(5, 6))
def upsample_and_measure(
    logits: Float[Array, "b m h w"],
    indices: Int[Array | np.ndarray, "n"],
    used: Bool[Array | np.ndarray, "n"],
    upsampling: Upsampling,
    levels: Float[Array | np.ndarray, "3"],
    cleaning: tuple[int, float],
    vectorize: bool,
) -> tuple[Float[Array, "n"], Int[Array, "n 4"], Bool[Array, "n width height_1"]]:
    """Upsamples the masks at `indices` of the flattened batch to the crop's size and measures them.

    `levels` are three thresholds: the mask's own, and that less and plus the offset of the stability score. `cleaning`
    is the largest area of holes and islands to remove from the small masks, and the threshold that defines them.

    Returns the stability scores, the boxes, and the edges [n, width, height + 1]: whether a pixel differs from the one
    above it.
    """
    masks = rearrange(logits, "b m h w -> (b m) h w")

    def measure(
        index: Int[Array, ""], used: Bool[Array, ""]
    ) -> tuple[Float[Array, ""], Int[Array, "4"], Bool[Array, "width height_1"]]:
        def count_levels() -> Int[Array, "width height_1"]:
            area, threshold = cleaning
            mask = clean_mask(masks[index], area, area, threshold) if area else masks[index]
            # The columns come first, because run-lengths go down the columns.
            rows = _interpolate(mask, upsampling.rows)
            large = _interpolate(rearrange(rows, "height w -> w height"), upsampling.columns)
            passed = sum((large > level).astype(jnp.int8) for level in levels)
            return jnp.where(upsampling.columns.inside[:, None] & upsampling.rows.inside[None], passed, 0)

        # The number of levels that each pixel exceeds. The branch skips the padding of the batch, and keeps XLA on CPU
        # from computing this once for each of the sums below.
        count = lax.cond(
            used, count_levels, lambda: jnp.zeros([len(axis.first) for axis in upsampling[::-1]], jnp.int8)
        )
        mask = count > 1
        # One sum for both areas, 16 bits each in a column.
        areas = ((count > 2) + (count > 0) * jnp.uint32(1 << 16)).sum(1)
        inner, outer = (areas & 0xFFFF).sum(), (areas >> 16).sum()
        stability = jnp.where(outer > 0, inner / jnp.maximum(outer, 1), 0.0)
        edges = mask ^ jnp.pad(mask, ((0, 0), (1, 0)))[:, :-1]
        return stability, box_of_spans(mask.any(1), mask.any(0)), edges

    return map_or_vmap(measure, vectorize)(indices, used)


def _interpolate(x: Float[Array, "a b"], taps: AxisTaps) -> Float[Array, "n b"]:
    """Linear interpolation along the first axis."""
    first, second = (x.at[taps.first + i].get(mode="promise_in_bounds") for i in (0, 1))
    return first * taps.weights[0][:, None] + second * taps.weights[1][:, None]
