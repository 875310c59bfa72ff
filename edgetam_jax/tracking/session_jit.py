"""The compiled programs of an interactive session."""

from functools import partial

import jax
from jax import Array
from jaxtyping import Bool, Float, Int

from edgetam_jax.model import Model
from edgetam_jax.ops.masks import fill_holes, non_overlapping, remove_islands
from edgetam_jax.ops.resize import resize_logits
from edgetam_jax.ops.tree import where
from edgetam_jax.tracking import memory, step
from edgetam_jax.tracking.memory import Bank
from edgetam_jax.tracking.step import FrameFeatures, FrameInputs, PrecomputedEntries, StepOutput, TrackOptions

Clean = tuple[int, int]  # largest area of the holes and of the islands that are removed from masks

encode_frames = jax.jit(step.encode_frames, static_argnames="rule")


@partial(jax.jit, static_argnames=("clean", "soft"))
def encode_points(
    model: Model,
    features: FrameFeatures,
    points: Float[Array, "P 2"],
    labels: Int[Array, "P"],
    previous: tuple[Float[Array, "h w"], Bool[Array, ""]],
    bank: Bank | None,
    frame: Int[Array, ""],
    direction: Int[Array, ""],
    clean: Clean,
    soft: bool,
) -> StepOutput:
    """`step.encode_points`; with a bank the prompt corrects a tracked frame. The mask is cleaned."""
    memories = None if bank is None else memory.read(bank, frame, direction, model.config)
    output = step.encode_points(model, features, points, labels, previous, memories)
    if clean == (0, 0) and not soft:
        return output
    # The memory is encoded from the mask that the user is shown.
    return _with_logits(model, features, output, _cleaned(output.mask.logits, clean), from_prompt=not soft)


@partial(jax.jit, static_argnames="soft")
def encode_mask(model: Model, features: FrameFeatures, mask: Bool[Array, "height width"], soft: bool) -> StepOutput:
    """`step.encode_mask`, with the memory of `soft` logits if they are asked for."""
    output = step.encode_mask(model, features, mask)
    return _with_logits(model, features, output, output.mask.logits, from_prompt=False) if soft else output


def _with_logits(
    model: Model, features: FrameFeatures, output: StepOutput, logits: Float[Array, "h w"], from_prompt: bool
) -> StepOutput:
    tokens = model.encode_memory(features.image.embedding, logits, from_prompt)
    return StepOutput(output.mask._replace(logits=logits), output.memory._replace(tokens=tokens))


@partial(jax.jit, static_argnames=("clean", "options"), donate_argnames="banks")
def track_frame(
    model: Model,
    banks: Bank,
    features: FrameFeatures,
    frame: Int[Array, ""],
    entries: PrecomputedEntries,
    direction: Int[Array, ""],
    clean: Clean,
    options: TrackOptions,
) -> tuple[Bank, StepOutput, Float[Array, "o h w"]]:
    """`step.step`, and the logits to show: those of tracked objects are cleaned, those of prompts as they are.

    The memory of a tracked frame is encoded from the mask before it is cleaned.
    """
    banks, output = step.step(model, banks, features, frame, FrameInputs(entries=entries), direction, options)
    logits = output.mask.logits
    return banks, output, where(entries.valid, logits, _cleaned(logits, clean))


def _cleaned(logits: Float[Array, "*o h w"], clean: Clean) -> Float[Array, "*o h w"]:
    holes, islands = clean
    logits = fill_holes(logits, holes) if holes else logits
    return remove_islands(logits, islands) if islands else logits


@partial(jax.jit, static_argnames=("size", "non_overlap"))
def resize(logits: Float[Array, "o h w"], size: tuple[int, int], non_overlap: bool) -> Float[Array, "o height width"]:
    large = resize_logits(logits, size)
    return non_overlapping(large) if non_overlap else large
