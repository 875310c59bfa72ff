"""The compiled programs of an interactive session."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from edgetam_jax.model import Model
from edgetam_jax.ops.masks import fill_holes, non_overlapping, remove_islands
from edgetam_jax.ops.pixels import Rule
from edgetam_jax.ops.resize import resize_logits
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank
from edgetam_jax.tracking.step import (
    FrameFeatures,
    PrecomputedEntries,
    StepOutput,
    encode_frames,
    encode_mask,
    encode_points,
    step,
)


@partial(jax.jit, static_argnums=2)
def encode(model: Model, pixels: Array, rule: Rule) -> FrameFeatures:
    return encode_frames(model, pixels, rule)


@partial(jax.jit, static_argnums=(8, 9))
def points_entry(
    model: Model,
    features: FrameFeatures,
    points: Array,
    labels: Array,
    previous: tuple[Array, Array],
    bank: Bank | None,
    frame: Array,
    direction: Array,
    clean: tuple[int, int],
    soft: bool,
) -> StepOutput:
    remembered = None if bank is None else memory.read(bank, frame, direction, model.config)
    entry = encode_points(model, features, points, labels, previous, remembered)
    if clean == (0, 0) and not soft:
        return entry
    # Memory is made of the mask that the user is shown.
    logits = _cleaned(entry.prediction.logits, clean)
    tokens = model.apply("encode_memory", features.image.embedding, logits, not soft)
    return StepOutput(entry.prediction._replace(logits=logits), tokens)


@partial(jax.jit, static_argnums=3)
def mask_entry(model: Model, features: FrameFeatures, mask: Array, soft: bool) -> StepOutput:
    entry = encode_mask(model, features, mask)
    if not soft:
        return entry
    return entry._replace(tokens=model.apply("encode_memory", features.image.embedding, entry.prediction.logits, False))


@partial(jax.jit, static_argnums=6, donate_argnums=1)
def track_frame(
    model: Model,
    banks: Bank,
    features: FrameFeatures,
    frame: Array,
    given: PrecomputedEntries,
    direction: Array,
    clean: tuple[int, int],
) -> tuple[Bank, StepOutput, Array]:
    banks, entry = step(model, banks, features, frame, given, direction)
    # The memory of a tracked frame is made of its mask as it came. Answers are shown as they were given.
    logits = entry.prediction.logits
    return banks, entry, jnp.where(given.valid[:, None, None], logits, _cleaned(logits, clean))


def _cleaned(logits: Array, clean: tuple[int, int]) -> Array:
    holes, islands = clean
    logits = fill_holes(logits, holes) if holes else logits
    return remove_islands(logits, islands) if islands else logits


@partial(jax.jit, static_argnums=(1, 2))
def resize(logits: Array, size: tuple[int, int], non_overlap: bool) -> Array:
    large = resize_logits(logits, size)
    return non_overlapping(large) if non_overlap else large
