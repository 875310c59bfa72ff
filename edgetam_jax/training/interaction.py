"""A user and a network talk about the objects on one frame: prompts, answers, corrections, answers.

Clips are a leading axis B, objects O.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

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
from edgetam_jax.training.losses import Losses, LossWeights, losses
from edgetam_jax.types import Label, ObjectPrediction

Dtype = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
    """How lessons go."""

    user: User = dataclasses.field(default_factory=User)
    weights: LossWeights = dataclasses.field(default_factory=LossWeights)
    mask_size: int | None = None  # side of the masks that are compared; by default that of the frames, as in SAM 2
    dtype: Dtype = "float32"  # of the network's arithmetic; parameters and losses are float32

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            raise ConfigError(f"dtype is {self.dtype!r}; expected one of {get_args(Dtype)}.")
        if self.mask_size is not None and self.mask_size < 1:
            raise ConfigError(f"mask_size is {self.mask_size}; expected the side of a mask in pixels, or none.")


class FrameTargets(NamedTuple):
    """One frame of every clip, and what is said and known about it."""

    number: Array  # []
    pixels: Array  # [B, S, S, 3]
    truth: Array  # [B, O, S, S] bool
    target: Array  # [B, O, mask_size, mask_size] bool: the truth to compare with
    prompts: Prompts  # [B, O, ...] those on this frame
    corrected: Array  # [B, O] bool
    key: Array  # [B]


class _CorrectionState(NamedTuple):
    """What has been said so far, and what it cost."""

    points: Array  # [B, O, P, 2]
    labels: Array  # [B, O, P]
    sighting: ObjectPrediction
    detail: DecoderAux
    losses: Losses  # [B, O]


def prompted_outputs(
    model: Model, course: RolloutConfig, features: FrameFeatures, banks: Bank | None, topic: FrameTargets
) -> tuple[StepOutput, Losses]:
    """Entries [B, O, ...] of all objects, and the sum of what each of their answers costs.

    Prompted ones are looked for without memory, others that are corrected with their `banks`, if there are any. A mask
    costs nothing: it is taken as it is. All this is computed for every object, and means something for those that are
    prompted or corrected.
    """
    user, prompted, is_mask = course.user, topic.prompts.valid, topic.prompts.is_mask
    scale = model.config.image_size / topic.truth.shape[-1]
    embedding = model.apply("add_no_memory_embedding", features.image.embedding)
    embedding = jnp.broadcast_to(embedding[:, None], (*prompted.shape, *embedding.shape[1:]))
    if banks is not None:
        embedding = where(prompted, embedding, each(partial(_look_back, model, topic.number), features, banks))

    def answer(points: Array, labels: Array, *previous: Any) -> tuple[ObjectPrediction, DecoderAux, Losses]:
        sighting, detail = each(partial(decode, model), features, embedding, points * scale, labels, *previous)
        return sighting, detail, frame_losses(detail, topic, course.weights)

    def correct(words: _CorrectionState, keys: Array) -> tuple[_CorrectionState, None]:
        click = jax.vmap(jax.vmap(partial(_click, user)))(keys, topic.truth, words.sighting.logits)
        points, labels = jax.vmap(jax.vmap(add_click))(words.points, _opened(words.labels), click)
        *now, costs = answer(points, labels, (words.sighting.logits, jnp.ones(prompted.shape, bool)))
        sighting, detail = where(topic.corrected, tuple(now), (words.sighting, words.detail))
        costs = jax.tree.map(lambda sofar, more: sofar + jnp.where(topic.corrected, more, 0), words.losses, costs)
        return _CorrectionState(points, labels, sighting, detail, costs), None

    said = prompted & ~is_mask
    points, labels = where(said, (topic.prompts.points, topic.prompts.labels), no_points(user.room))
    sighting, detail, costs = answer(points, labels)
    words = _CorrectionState(points, labels, sighting, detail, jax.tree.map(lambda x: jnp.where(is_mask, 0, x), costs))
    if user.corrections:
        keys = jax.vmap(lambda key: jax.random.split(key, (user.corrections, prompted.shape[1])), out_axes=1)(topic.key)
        words = lax.cond(topic.corrected.any(), lambda: lax.scan(correct, words, keys)[0], lambda: words)
    entry = each(partial(encode_memory, model, from_prompt=True), features, words.sighting)
    if topic.prompts.masks.size:
        entry = where(is_mask, each(partial(encode_mask, model), features, topic.prompts.masks), entry)
    return entry._replace(aux=words.detail), words.losses


def frame_losses(detail: DecoderAux, topic: FrameTargets, weights: LossWeights) -> Losses:
    """Of answers [B, O] about a frame's objects."""
    prediction = detail.prediction
    prediction = prediction._replace(logits=enlarge(prediction.logits, topic.target.shape[-1]))
    return losses(prediction, topic.target, topic.truth.any((-2, -1)), detail.multimask, weights)


def enlarge(logits: Array, size: int) -> Array:
    """`resize_logits` as matrix products, whose gradient is fast: that of a gather is a scatter."""
    length = logits.shape[-1]
    first, weights = two_taps(length, size)
    matrix = np.zeros((size, length), np.float32)
    for tap, weight in enumerate(weights):
        matrix[np.arange(size), np.minimum(first + tap, length - 1)] += weight
    return jnp.einsum("yh,...hw,xw->...yx", matrix, logits, matrix)


def each(function: Callable[..., Any], features: FrameFeatures, *args: Any) -> Any:
    """Maps over clips, and over the objects in them, which share their clip's features."""
    return jax.vmap(lambda features, *args: jax.vmap(partial(function, features))(*args))(features, *args)


def _look_back(model: Model, frame: Array, features: FrameFeatures, bank: Bank) -> Array:
    return model.apply("condition_on_memory", features.queries, memory.read(bank, frame, 1, model.config))


def _click(user: User, key: Array, truth: Array, logits: Array) -> Click:
    return correction(key, truth, resize_logits(logits, (truth.shape[0], truth.shape[1])) > 0, user)


def _opened(labels: Array) -> Array:
    """Labels of a followed object, two tokens that say nothing, as a list to which points can be added."""
    silent = labels == Label.NOT_A_POINT
    return jnp.where(silent & (jnp.cumsum(silent, -1) > 1), Label.ABSENT, labels)
