"""Prompts and corrections on one frame of a rollout: the simulated user and the decoder take turns.

Arrays have the leading axes B (clips) and O (objects).
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, Num, UInt8

from edgetam_jax.data.simulated_user import Click, User, add_click, correction
from edgetam_jax.errors import ConfigError
from edgetam_jax.model import Model
from edgetam_jax.ops.resize import resize_logits, two_taps
from edgetam_jax.ops.tree import where
from edgetam_jax.prompts import Prompts
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank
from edgetam_jax.tracking.step import (
    DecoderAux,
    FrameFeatures,
    StepOutput,
    decode,
    encode_mask,
    encode_memory,
    no_points,
)
from edgetam_jax.training.losses import Losses, LossWeights, object_losses
from edgetam_jax.types import Label, ObjectPrediction

Dtype = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
    """How clips are prompted, corrected and compared with the ground truth."""

    user: User = dataclasses.field(default_factory=User)
    weights: LossWeights = dataclasses.field(default_factory=LossWeights)
    mask_size: int | None = None  # side of the masks that losses compare; by default that of the frames, as in SAM 2
    dtype: Dtype = "float32"  # of the network's arithmetic; parameters and losses are float32

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            raise ConfigError(f"dtype is {self.dtype!r}; expected one of {get_args(Dtype)}.")
        if self.mask_size is not None and self.mask_size < 1:
            raise ConfigError(f"mask_size is {self.mask_size}; expected the side of a mask in pixels, or none.")


class FrameTargets(NamedTuple):
    """One frame of every clip, with its ground truth and prompts."""

    frame_idx: Int[Array, ""]
    frames: UInt8[Array, "B s s 3"]
    masks: Bool[Array, "B O s s"]  # ground truth
    loss_masks: Bool[Array, "B O m m"]  # ground truth in the size that losses compare
    prompts: Prompts  # [B, O, ...] those on this frame
    corrected: Bool[Array, "B O"]
    key: Key[Array, "B"]


class CorrectionState(NamedTuple):
    """The prompts so far, the latest prediction, and the losses of all predictions."""

    points: Float[Array, "B O P 2"]
    labels: Int[Array, "B O P"]
    prediction: ObjectPrediction
    aux: DecoderAux
    losses: Losses  # [B, O]


def prompted_outputs(
    model: Model, config: RolloutConfig, features: FrameFeatures, banks: Bank | None, targets: FrameTargets
) -> tuple[StepOutput, Losses]:
    """Decodes prompts, and corrects the predictions.

    Everything is computed for all objects, and is only meaningful for those that are prompted or corrected.

    Args:
        model: The network.
        config: The simulated user and the loss weights.
        features: The features of the frames [B, ...].
        banks: The memory of each object [B, O, ...], or None without memory. Objects that are corrected but not
            prompted are decoded with it; prompted ones without, as in tracking.
        targets: The frames with their ground truth and prompts.

    Returns:
        The outputs [B, O, ...] after the last correction, and the losses [B, O], summed over all predictions. A mask
        prompt has no loss, because the mask is used as the output.
    """
    user, prompted, is_mask = config.user, targets.prompts.valid, targets.prompts.is_mask
    scale = model.config.image_size / targets.masks.shape[-1]
    embedding = model.add_no_memory_embedding(features.image.embedding)
    embedding = jnp.broadcast_to(embedding[:, None], (*prompted.shape, *embedding.shape[1:]))
    if banks is not None:
        conditioned = map_objects(partial(_condition_on_memory, model, targets.frame_idx), features, banks)
        embedding = where(prompted, embedding, conditioned)

    def predict(points: Array, labels: Array, *previous: Any) -> tuple[ObjectPrediction, DecoderAux, Losses]:
        prediction, aux = map_objects(partial(decode, model), features, embedding, points * scale, labels, *previous)
        return prediction, aux, frame_losses(aux, targets, config.weights)

    def correct(state: CorrectionState, keys: Array) -> tuple[CorrectionState, None]:
        click = jax.vmap(jax.vmap(partial(_click, user)))(keys, targets.masks, state.prediction.logits)
        points, labels = jax.vmap(jax.vmap(add_click))(state.points, _make_appendable(state.labels), click)
        prediction, aux, losses = predict(points, labels, (state.prediction.logits, jnp.ones(prompted.shape, bool)))
        prediction = where(targets.corrected, prediction, state.prediction)
        aux = where(targets.corrected, aux, state.aux)
        losses = jax.tree.map(lambda a, b: a + jnp.where(targets.corrected, b, 0), state.losses, losses)
        return CorrectionState(points, labels, prediction, aux, losses), None

    has_points = prompted & ~is_mask
    points, labels = where(has_points, (targets.prompts.points, targets.prompts.labels), no_points(user.capacity))
    prediction, aux, losses = predict(points, labels)
    losses = jax.tree.map(lambda x: jnp.where(is_mask, 0, x), losses)
    state = CorrectionState(points, labels, prediction, aux, losses)
    if user.corrections:
        split = partial(jax.random.split, num=(user.corrections, prompted.shape[1]))
        keys = jax.vmap(split, out_axes=1)(targets.key)
        state = lax.cond(targets.corrected.any(), lambda: lax.scan(correct, state, keys)[0], lambda: state)
    output = map_objects(partial(encode_memory, model, from_prompt=True), features, state.prediction)
    if targets.prompts.masks.size:
        from_masks = map_objects(partial(encode_mask, model), features, targets.prompts.masks)
        output = where(is_mask, from_masks, output)
    return output._replace(aux=state.aux), state.losses


def frame_losses(aux: DecoderAux, targets: FrameTargets, weights: LossWeights) -> Losses:
    """The losses [B, O] of predictions for a frame's objects."""
    prediction = aux.prediction
    prediction = prediction._replace(logits=enlarge(prediction.logits, targets.loss_masks.shape[-1]))
    return object_losses(prediction, targets.loss_masks, targets.masks.any((-2, -1)), aux.multimask, weights)


def enlarge(logits: Float[Array, "*b s s"], size: int) -> Float[Array, "*b {size} {size}"]:
    """`resize_logits` as matrix products, because the gradient of its gather is a slow scatter."""
    length = logits.shape[-1]
    first, weights = two_taps(length, size)
    matrix = np.zeros((size, length), np.float32)
    for tap, weight in enumerate(weights):
        matrix[np.arange(size), np.minimum(first + tap, length - 1)] += weight
    return jnp.einsum("yh,...hw,xw->...yx", matrix, logits, matrix)


def map_objects(function: Callable[..., Any], features: FrameFeatures, *args: Any) -> Any:
    """Maps over clips [B] and objects [O]; the objects of a clip share its features."""
    return jax.vmap(lambda features, *args: jax.vmap(partial(function, features))(*args))(features, *args)


def _condition_on_memory(model: Model, frame_idx: Array, features: FrameFeatures, bank: Bank) -> Array:
    return model.condition_on_memory(features.queries, memory.read(bank, frame_idx, 1, model.config))


def _click(user: User, key: Key[Array, ""], mask: Bool[Array, "s s"], logits: Num[Array, "h w"]) -> Click:
    return correction(key, mask, resize_logits(logits, (mask.shape[0], mask.shape[1])) > 0, user)


def _make_appendable(labels: Int[Array, "*b P"]) -> Int[Array, "*b P"]:
    """Labels that `add_click` can extend: it needs exactly one NOT_A_POINT, and a tracked object's prompt has two."""
    empty = labels == Label.NOT_A_POINT
    return jnp.where(empty & (jnp.cumsum(empty, -1) > 1), Label.ABSENT, labels)
