"""Tracking: what happens to objects from frame to frame.

`step` is all there is: offline tracking scans it, streaming calls it, the interactive predictor calls it, training
differentiates it. Objects are independent of each other, a leading axis O.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from edgetam_jax.model import Model
from edgetam_jax.nn.edgetam import MASK_LOGIT, NO_OBJECT
from edgetam_jax.nn.mask_decoder import MASKS
from edgetam_jax.nn.memory_attention import FrameQueries
from edgetam_jax.ops.pixels import Rule, preprocess
from edgetam_jax.ops.tree import cond_or_select, map_or_vmap, resolve_vectorize, where
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank
from edgetam_jax.types import (
    MASK_PROMPT_CLAMP,
    ImageFeatures,
    Label,
    MaskPrediction,
    Memory,
    ObjectPrediction,
    PromptInputs,
)


class FrameFeatures(NamedTuple):
    """All that depends on a frame alone, shared by its objects."""

    image: ImageFeatures
    queries: FrameQueries  # what memory attention begins with


class DecoderAux(NamedTuple):
    """What an answer was made from: training looks at it, nobody else."""

    embedding: Array  # [..., H, W, C] with memory mixed in
    prediction: MaskPrediction
    multimask: Array  # [...] bool: were the alternatives on offer?


class StepOutput(NamedTuple):
    """What a frame leaves behind of an object."""

    prediction: ObjectPrediction
    tokens: Array  # [..., L, D]
    aux: DecoderAux | tuple[()] = ()


class PrecomputedEntries(NamedTuple):
    """Entries of O objects that a frame has before it is tracked: answers to prompts, and corrections."""

    entry: StepOutput
    valid: Array  # [O] bool
    prompted: Array  # [O] bool: to be remembered for good


class FramePrompts(NamedTuple):
    """Prompts for O objects that a frame answers while it is tracked, up to one each."""

    points: Array  # [O, P, 2] in pixels of the model's input
    labels: Array  # [O, P]
    masks: Array  # [O, H, W], or [O, 0, 0] where nobody gives one
    is_mask: Array  # [O] bool
    valid: Array  # [O] bool


def encode_frames(model: Model, frames: Array, rule: Rule = "video") -> FrameFeatures:
    """Frames [..., H, W, 3] of uint8 to what tracking needs of them."""
    image = model.encode_image(preprocess(frames, model.config.image_size, rule))
    return FrameFeatures(image, model.self_attend(image.embedding))


def step(
    model: Model,
    banks: Bank,
    features: FrameFeatures,
    frame: Array,
    given: PrecomputedEntries | FramePrompts,
    direction: Array | int = 1,
    *,
    max_cond_frames: int | None = None,
    vectorize: bool | None = None,
    detail: bool = False,
) -> tuple[Bank, StepOutput]:
    """One frame for all objects: `banks` [O, ...] to the banks after it and each object's entry.

    Objects with a given entry take it, those that are asked for are answered, others with a memory are followed, and
    the rest are absent and leave no trace. With `detail`, entries say what they were made from; those that are given
    must, too, and nobody is asked for.
    """

    together = resolve_vectorize(vectorize)

    def one(bank: Bank, given: PrecomputedEntries | FramePrompts) -> tuple[Bank, StepOutput]:
        def read() -> Memory:
            return memory.read(bank, frame, direction, model.config, max_cond_frames)

        def nothing() -> StepOutput:
            return absent_output(model, detail)

        known = memory.has_memory(bank)
        if isinstance(given, FramePrompts):
            prompted = given.valid
            entry = cond_or_select(
                known | prompted,
                lambda: prompt_or_track(model, features, read(), given, together),
                nothing,
                together,
            )
        else:
            prompted = given.valid & given.prompted
            followed = cond_or_select(
                known & ~given.valid, lambda: track_object(model, features, read(), detail), nothing, together
            )
            entry = where(given.valid, given.entry, followed)
        pointer = entry.prediction.pointer
        noted = memory.write_recent(bank, frame, entry.tokens, pointer)
        kept = memory.write_conditioning(noted, frame, entry.tokens, pointer)
        after = where(prompted, kept, noted)
        return where(known | given.valid, after, bank), entry

    return map_or_vmap(one, together)(banks, given)


def track_object(model: Model, features: FrameFeatures, remembered: Memory, detail: bool = False) -> StepOutput:
    """An object where it is now, from what is remembered of it."""
    embedding = model.condition_on_memory(features.queries, remembered)
    sighting, found = decode(model, features, embedding, *no_points(2))
    return encode_memory(model, features, sighting, from_prompt=False)._replace(aux=found if detail else ())


def prompt_or_track(
    model: Model, features: FrameFeatures, remembered: Memory, asked: FramePrompts, together: bool
) -> StepOutput:
    """An object that may have a prompt on this frame, its fields without leading axes.

    The same entry as of `answer_points`, `answer_mask` or `follow`, whose common parts are in the program only once.
    """
    embedding = cond_or_select(
        asked.valid,
        lambda: model.add_no_memory_embedding(features.image.embedding),
        lambda: model.condition_on_memory(features.queries, remembered),
        together,
    )
    points, labels = where(asked.valid, (asked.points, asked.labels), no_points(len(asked.labels)))

    def find() -> ObjectPrediction:
        return decode(model, features, embedding, points, labels)[0]

    if asked.masks.size:
        by_mask = asked.valid & asked.is_mask
        sighting = cond_or_select(by_mask, lambda: use_mask_as_output(model, features, asked.masks), find, together)
    else:
        sighting = find()
    return encode_memory(model, features, sighting, from_prompt=asked.valid)


def encode_points(
    model: Model,
    features: FrameFeatures,
    points: Array,
    labels: Array,
    previous: tuple[Array, Array] | None = None,
    remembered: Memory | None = None,
) -> StepOutput:
    """The object that points [P, 2], in pixels of the model's input, and their labels [P] mean.

    `previous` is a mask's logits [h, w] to start from and [] whether there is one. Memory plays no part, unless
    `remembered` says what is.
    """
    embedding = features.image.embedding
    if remembered is None:
        embedding = model.add_no_memory_embedding(embedding)
    else:
        embedding = model.condition_on_memory(features.queries, remembered)
    sighting, _ = decode(model, features, embedding, points, labels, previous)
    return encode_memory(model, features, sighting, from_prompt=True)


def encode_mask(model: Model, features: FrameFeatures, mask: Array) -> StepOutput:
    """The object that a mask [H, W], in any size, covers."""
    return encode_memory(model, features, use_mask_as_output(model, features, mask), from_prompt=True)


def use_mask_as_output(model: Model, features: FrameFeatures, mask: Array) -> ObjectPrediction:
    """A mask [H, W] taken as it is."""
    size = model.config.image_size
    if mask.shape != (size, size):
        mask = jax.image.resize(mask.astype(jnp.float32), (size, size), "linear", antialias=True) >= 0.5
    return model.use_mask_as_output(features.image, mask.astype(jnp.float32))


def absent_output(model: Model, detail: bool = False) -> StepOutput:
    """An object of which nothing is known yet."""
    config = model.config
    size, dim, dtype = config.mask_size, config.hidden_dim, model.params["no_mem_embed"].dtype
    nothing = DecoderAux(
        embedding=jnp.zeros((config.embedding_size, config.embedding_size, dim), dtype),
        prediction=MaskPrediction(
            logits=jnp.zeros((MASKS, size, size)),
            ious=jnp.zeros(MASKS),
            tokens=jnp.zeros((MASKS, dim), dtype),
            score=jnp.zeros(()),
        ),
        multimask=jnp.zeros((), bool),
    )
    return StepOutput(
        ObjectPrediction(
            logits=jnp.full((size, size), NO_OBJECT, jnp.float32),
            iou=jnp.zeros(()),
            score=jnp.full((), -MASK_LOGIT, jnp.float32),
            pointer=jnp.zeros(dim, dtype),
        ),
        jnp.zeros((config.perceiver.tokens, config.memory_dim), dtype),
        nothing if detail else (),
    )


def no_points(room: int) -> tuple[Array, Array]:
    """Points and labels of a prompt that says nothing: how an object is followed."""
    return jnp.zeros((room, 2)), jnp.full(room, Label.ABSENT).at[:2].set(Label.NOT_A_POINT)


def decode(
    model: Model,
    features: FrameFeatures,
    embedding: Array,
    points: Array,
    labels: Array,
    previous: tuple[Array, Array] | None = None,
) -> tuple[ObjectPrediction, DecoderAux]:
    """The decoder's answer for one object, from the embedding with memory or its absence mixed in."""
    if previous is None:
        previous = jnp.zeros(2 * (model.config.mask_size,)), jnp.zeros((), bool)
    logits, exists = previous
    prompt = PromptInputs(points, labels, jnp.clip(logits, -MASK_PROMPT_CLAMP, MASK_PROMPT_CLAMP), exists)
    # Up to one point leaves doubt about what is meant: then the best of three masks is taken.
    multimask = (labels >= Label.NEGATIVE).sum(-1) <= 1
    prediction = model.segment(features.image._replace(embedding=embedding), prompt)
    return model.select_mask(prediction, multimask), DecoderAux(embedding, prediction, multimask)


def encode_memory(
    model: Model, features: FrameFeatures, sighting: ObjectPrediction, from_prompt: Array | bool
) -> StepOutput:
    """What is to be remembered of an answer."""
    return StepOutput(sighting, model.encode_memory(features.image.embedding, sighting.logits, from_prompt))
