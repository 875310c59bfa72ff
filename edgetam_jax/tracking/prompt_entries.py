"""What prompts mean: each becomes the entry of its object on its frame, before tracking begins or in its course."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from edgetam_jax.model import Model
from edgetam_jax.ops.pixels import Rule
from edgetam_jax.ops.tree import where, zeros_like_output
from edgetam_jax.prompts import Prompts
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank
from edgetam_jax.tracking.step import (
    FramePrompts,
    PrecomputedEntries,
    StepOutput,
    absent_output,
    encode_frames,
    encode_mask,
    encode_points,
)
from edgetam_jax.types import Label


def encode_prompts(
    model: Model, frames: Array, first: Array, prompts: Prompts, rule: Rule
) -> tuple[Prompts, StepOutput]:
    """Every prompt's entry [O, K, ...]; prompts that lie outside these frames become invalid.

    In the order of their frames, each of which is encoded once.
    """
    inside = prompts.valid & (prompts.frames >= first) & (prompts.frames < first + frames.shape[0])
    prompts = prompts._replace(valid=inside)
    shape = inside.shape
    flat = jax.tree.map(lambda x: x.reshape(inside.size, *x.shape[2:]), prompts._replace(obj_ids=None))
    order = jnp.argsort(jnp.where(flat.valid, flat.frames, memory.FAR))

    def encode(index: Array) -> Any:
        return encode_frames(model, frames[index], rule)

    nothing = zeros_like_output(encode, jnp.zeros((), jnp.int32))

    def body(carry: Any, index: Array) -> Any:
        last, features = carry
        prompt = jax.tree.map(lambda x: x[index], flat)
        here = prompt.frames - first
        new = prompt.valid & (here != last)
        features = lax.cond(new, lambda: encode(here), lambda: features)
        entry = lax.cond(
            prompt.valid, lambda: encode_prompt(model, features, prompt, frames[0]), lambda: absent_output(model)
        )
        return (jnp.where(new, here, last), features), entry

    _, entries = lax.scan(body, (jnp.full((), -1), nothing), order)
    back = jnp.argsort(order)
    return prompts, jax.tree.map(lambda x: x[back].reshape(*shape, *x.shape[1:]), entries)


def encode_prompt(model: Model, features: Any, prompt: Any, pixels: Array) -> StepOutput:
    """The entry of one prompt, its fields without leading axes."""

    def points() -> StepOutput:
        return encode_points(model, features, prompt.points * _scale(model, pixels), prompt.labels)

    if not prompt.masks.size:
        return points()
    return lax.cond(prompt.is_mask, lambda: encode_mask(model, features, prompt.masks), points)


def _scale(model: Model, pixels: Array) -> Array:
    """From pixels of a frame to those of the model's input."""
    height, width = pixels.shape[:2]
    return jnp.array([model.config.image_size / width, model.config.image_size / height])


def write_all_conditioning(banks: Bank, prompts: Prompts, answers: StepOutput) -> Bank:
    def one(bank: Bank, prompts: Any, entries: StepOutput) -> Bank:
        def body(bank: Bank, xs: Any) -> tuple[Bank, None]:
            prompt, entry = xs
            kept = memory.write_conditioning(bank, prompt.frames, entry.tokens, entry.prediction.pointer)
            return where(prompt.valid, kept, bank), None

        return lax.scan(body, bank, (prompts, entries))[0]

    return jax.vmap(one)(banks, prompts._replace(obj_ids=None), answers)


def entries_at(prompts: Prompts, answers: StepOutput, frame: Array) -> PrecomputedEntries:
    valid, entry = _first_on(prompts, frame, answers)
    return PrecomputedEntries(entry, valid, valid)


def prompts_at(model: Model, prompts: Prompts, frame: Array, pixels: Array) -> FramePrompts:
    valid, one = _first_on(prompts, frame, prompts._replace(obj_ids=None))
    # Objects that are followed fill two places, see `no_points`.
    spare = max(2 - one.labels.shape[-1], 0)
    points = jnp.pad(one.points * _scale(model, pixels), [(0, 0), (0, spare), (0, 0)])
    labels = jnp.pad(one.labels, [(0, 0), (0, spare)], constant_values=Label.ABSENT)
    return FramePrompts(points, labels, one.masks, one.is_mask, valid)


def _first_on(prompts: Prompts, frame: Array, rows: Any) -> tuple[Array, Any]:
    """Which objects [O] have a prompt on a frame, and of rows [O, K, ...] those that belong to their first one."""
    here = prompts.valid & (prompts.frames == frame)  # [O, K]
    index = jnp.argmax(here, -1)
    return here.any(-1), jax.tree.map(lambda x: jax.vmap(lambda row, k: row[k])(x, index), rows)
