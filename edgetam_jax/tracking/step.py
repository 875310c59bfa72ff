"""`step`: one frame of tracking for all objects.

Offline tracking scans it, streaming calls it, the interactive predictor calls it, training differentiates it. Objects
are independent of each other, a leading axis O. The other functions take one object.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, UInt8

from edgetam_jax.model import Model
from edgetam_jax.nn.mask_decoder import MASKS
from edgetam_jax.nn.memory_attention import FrameQueries
from edgetam_jax.ops.pixels import Rule, preprocess
from edgetam_jax.ops.tree import cond_or_select, map_or_vmap, where
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank, MemoryEntry
from edgetam_jax.types import (
    MASK_LOGIT,
    MASK_PROMPT_CLAMP,
    NO_OBJECT,
    ImageFeatures,
    Label,
    MaskPrediction,
    Memory,
    ObjectMask,
    ObjectPrediction,
    PromptInputs,
)


@dataclasses.dataclass(frozen=True)
class TrackOptions:
    """Static choices of a compiled tracking program."""

    preprocess: Rule = "video"
    max_cond_frames: int | None = None  # conditioning frames that a frame attends to; None for all
    vectorize: bool = False  # objects at once rather than one by one
    chunk: int = 1  # frames that are encoded at once
    remat: bool = False  # recompute activations in the backward pass
    detail: bool = False  # outputs have `aux`


class FrameFeatures(NamedTuple):
    """All that depends on a frame alone, shared by its objects."""

    image: ImageFeatures
    queries: FrameQueries  # after the self-attention of memory attention


class DecoderAux(NamedTuple):
    """Intermediate results of the decoder, for training."""

    embedding: Float[Array, "*b H W C"]  # after memory attention
    prediction: MaskPrediction
    multimask: Bool[Array, "*b"]  # was the best of three masks taken?


class StepOutput(NamedTuple):
    """The result for an object on one frame: its mask, and what enters its memory."""

    mask: ObjectMask
    memory: MemoryEntry
    aux: DecoderAux | None = None


class FramePrompts(NamedTuple):
    """Up to one prompt for each of O objects, which `step` encodes."""

    points: Float[Array, "*o P 2"]  # in pixels of the model's input
    labels: Int[Array, "*o P"]
    masks: Array  # [O, height, width] bool, or [O, 0, 0] if no prompt is a mask
    is_mask: Bool[Array, "*o"]
    valid: Bool[Array, "*o"]


class PrecomputedEntries(NamedTuple):
    """Outputs that O objects have on a frame before `step` is called, from prompts that were encoded earlier."""

    output: StepOutput
    valid: Bool[Array, "*o"]
    conditioning: Bool[Array, "*o"]  # written to memory as conditioning frame


class FrameInputs(NamedTuple):
    """What is given about objects on one frame. None stands for no object's; an output precedes a prompt."""

    prompts: FramePrompts | None = None
    entries: PrecomputedEntries | None = None


def encode_frames(model: Model, frames: UInt8[Array, "*t height width 3"], rule: Rule = "video") -> FrameFeatures:
    image = model.encode_image(preprocess(frames, model.config.image_size, rule))
    return FrameFeatures(image, model.self_attend(image.embedding))


def step(
    model: Model,
    banks: Bank,
    features: FrameFeatures,
    frame: Int[Array, ""] | int,
    inputs: FrameInputs,
    direction: Int[Array, ""] | int = 1,
    options: TrackOptions = TrackOptions(),
) -> tuple[Bank, StepOutput]:
    """Tracks all objects on one frame.

    An object takes its precomputed output if it has one, else its prompt is encoded, else it is tracked from its
    memory. Objects without any of these are absent, and their memory stays empty.

    Args:
        model: The model.
        banks: Memory banks, their arrays with a leading axis O.
        features: The frame's features.
        frame: Its number.
        inputs: Prompts or precomputed outputs of the objects.
        direction: 1 forward, -1 backward.
        options: Of these, `detail` is for inputs without prompts, and precomputed outputs then have `aux`, too.

    Returns:
        The banks after the frame, and the output of each object, with a leading axis O.
    """

    def step_object(bank: Bank, inputs: FrameInputs) -> tuple[Bank, StepOutput]:
        prompts, entries = inputs
        none = jnp.zeros((), bool)
        prompted = none if prompts is None else prompts.valid
        given = none if entries is None else entries.valid
        conditioning = prompted if entries is None else prompted | (given & entries.conditioning)
        present = memory.has_memory(bank) | prompted

        def predict() -> StepOutput:
            memories = memory.read(bank, frame, direction, model.config, options.max_cond_frames)
            if prompts is None:
                return track_object(model, features, memories, options.detail)
            return prompt_or_track(model, features, memories, prompts, options.vectorize)

        def absent() -> StepOutput:
            return absent_output(model, options.detail)

        output = cond_or_select(present & ~given, predict, absent, options.vectorize)
        if entries is not None:
            output = where(given, entries.output, output)
        recent = memory.write_recent(bank, frame, output.memory)
        both = memory.write_conditioning(recent, frame, output.memory)
        return where(present | given, where(conditioning, both, recent), bank), output

    return map_or_vmap(step_object, options.vectorize)(banks, inputs)


def track_object(model: Model, features: FrameFeatures, memories: Memory, detail: bool = False) -> StepOutput:
    """An object without a prompt, from its memory."""
    embedding = model.condition_on_memory(features.queries, memories)
    prediction, aux = decode(model, features, embedding, *no_points(2))
    return encode_memory(model, features, prediction, from_prompt=False)._replace(aux=aux if detail else None)


def prompt_or_track(
    model: Model, features: FrameFeatures, memories: Memory, prompt: FramePrompts, vectorize: bool
) -> StepOutput:
    """An object that may have a prompt on this frame; the fields of `prompt` have no axis O.

    The same output as of `encode_points`, `encode_mask` or `track_object`, but with the decoder and the memory encoder
    only once in the program.
    """
    embedding = cond_or_select(
        prompt.valid,
        lambda: model.add_no_memory_embedding(features.image.embedding),
        lambda: model.condition_on_memory(features.queries, memories),
        vectorize,
    )
    points, labels = where(prompt.valid, (prompt.points, prompt.labels), no_points(len(prompt.labels)))

    def predict() -> ObjectPrediction:
        return decode(model, features, embedding, points, labels)[0]

    if prompt.masks.size:
        use_mask = prompt.valid & prompt.is_mask
        prediction = cond_or_select(
            use_mask, lambda: use_mask_as_output(model, features, prompt.masks), predict, vectorize
        )
    else:
        prediction = predict()
    return encode_memory(model, features, prediction, from_prompt=prompt.valid)


def encode_points(
    model: Model,
    features: FrameFeatures,
    points: Float[Array, "P 2"],
    labels: Int[Array, "P"],
    previous: tuple[Float[Array, "h w"], Bool[Array, ""]] | None = None,
    memories: Memory | None = None,
) -> StepOutput:
    """The output for points, in pixels of the model's input.

    `previous` is the logits of a mask to start from and whether there is one. With `memories` the prompt corrects a
    tracked frame; without, memory has no part in it.
    """
    if memories is None:
        embedding = model.add_no_memory_embedding(features.image.embedding)
    else:
        embedding = model.condition_on_memory(features.queries, memories)
    prediction, _ = decode(model, features, embedding, points, labels, previous)
    return encode_memory(model, features, prediction, from_prompt=True)


def encode_mask(model: Model, features: FrameFeatures, mask: Array) -> StepOutput:
    """The output for a mask prompt [height, width] of any size."""
    return encode_memory(model, features, use_mask_as_output(model, features, mask), from_prompt=True)


def use_mask_as_output(model: Model, features: FrameFeatures, mask: Array) -> ObjectPrediction:
    """A mask prompt [height, width] of any size, as the prediction."""
    size = model.config.image_size
    if mask.shape != (size, size):
        mask = jax.image.resize(mask.astype(jnp.float32), (size, size), "linear", antialias=True) >= 0.5
    return model.use_mask_as_output(features.image, mask.astype(jnp.float32))


def absent_output(model: Model, detail: bool = False) -> StepOutput:
    """The output for an object without memory."""
    config = model.config
    size, dim, dtype = config.mask_size, config.hidden_dim, model.params["no_mem_embed"].dtype
    aux = DecoderAux(
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
        ObjectMask(
            logits=jnp.full((size, size), NO_OBJECT, jnp.float32),
            iou=jnp.zeros(()),
            score=jnp.full((), -MASK_LOGIT, jnp.float32),
        ),
        MemoryEntry(
            tokens=jnp.zeros((config.perceiver.tokens, config.memory_dim), dtype),
            pointer=jnp.zeros(dim, dtype),
        ),
        aux if detail else None,
    )


def no_points(count: int) -> tuple[Float[Array, "P 2"], Int[Array, "P"]]:
    """The points and labels with which an object without a prompt is decoded, padded to `count`, at least 2."""
    return jnp.zeros((count, 2)), jnp.full(count, Label.ABSENT).at[:2].set(Label.NOT_A_POINT)


def decode(
    model: Model,
    features: FrameFeatures,
    embedding: Float[Array, "H W C"],
    points: Float[Array, "P 2"],
    labels: Int[Array, "P"],
    previous: tuple[Float[Array, "h w"], Bool[Array, ""]] | None = None,
) -> tuple[ObjectPrediction, DecoderAux]:
    """The decoder's prediction, from an embedding with memory, or the embedding of its absence, added."""
    if previous is None:
        previous = jnp.zeros((model.config.mask_size, model.config.mask_size)), jnp.zeros((), bool)
    logits, has_mask = previous
    prompt = PromptInputs(points, labels, jnp.clip(logits, -MASK_PROMPT_CLAMP, MASK_PROMPT_CLAMP), has_mask)
    # At most one point is ambiguous: then the best of three masks is taken.
    multimask = (labels >= Label.NEGATIVE).sum(-1) <= 1
    prediction = model.segment(features.image._replace(embedding=embedding), prompt)
    return model.select_mask(prediction, multimask), DecoderAux(embedding, prediction, multimask)


def encode_memory(
    model: Model, features: FrameFeatures, prediction: ObjectPrediction, from_prompt: Bool[Array, ""] | bool
) -> StepOutput:
    """A prediction with the memory tokens that its mask and the frame give."""
    tokens = model.encode_memory(features.image.embedding, prediction.logits, from_prompt)
    mask = ObjectMask(prediction.logits, prediction.iou, prediction.score)
    return StepOutput(mask, MemoryEntry(tokens, prediction.pointer))
