"""From `Prompts` to inputs of `step`: encoded before tracking begins, or selected for one frame."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array, lax
from jaxtyping import Bool, Float, Int, UInt8

from edgetam_jax.model import Model
from edgetam_jax.ops.pixels import Rule
from edgetam_jax.ops.tree import where, zeros_like_output
from edgetam_jax.prompts import Prompts
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank
from edgetam_jax.tracking.step import (
    FrameFeatures,
    FrameInputs,
    FramePrompts,
    PrecomputedEntries,
    StepOutput,
    absent_output,
    encode_frames,
    encode_mask,
    encode_points,
)
from edgetam_jax.types import Label

Tree = TypeVar("Tree")


def encode_prompts(
    model: Model,
    frames: UInt8[Array, "t height width 3"],
    first: Int[Array, ""] | int,
    prompts: Prompts,
    preprocess: Rule,
) -> tuple[Prompts, StepOutput]:
    """The output [O, K, ...] of every prompt on frames that are numbered from `first` on.

    Prompts on other frames become invalid. They are encoded in the order of their frames, so that each frame's
    features are computed once.
    """
    inside = prompts.valid & (prompts.frames >= first) & (prompts.frames < first + frames.shape[0])
    prompts = prompts._replace(valid=inside)
    num_objects, num_prompts = inside.shape
    flat = jax.tree.map(lambda x: rearrange(x, "o k ... -> (o k) ..."), _fields(prompts))
    order = jnp.argsort(jnp.where(flat.valid, flat.frames, memory.FAR))

    def encode(index: Int[Array, ""]) -> FrameFeatures:
        return encode_frames(model, frames[index], preprocess)

    def body(
        carry: tuple[Int[Array, ""], FrameFeatures], index: Int[Array, ""]
    ) -> tuple[tuple[Int[Array, ""], FrameFeatures], StepOutput]:
        last, features = carry
        prompt = jax.tree.map(lambda x: x[index], flat)
        here = prompt.frames - first
        new = prompt.valid & (here != last)
        features = lax.cond(new, lambda: encode(here), lambda: features)
        output = lax.cond(
            prompt.valid, lambda: _encode_prompt(model, features, prompt, frames[0]), lambda: absent_output(model)
        )
        return (jnp.where(new, here, last), features), output

    no_features = zeros_like_output(encode, jnp.zeros((), jnp.int32))
    _, outputs = lax.scan(body, (jnp.full((), -1), no_features), order)
    back = jnp.argsort(order)
    return prompts, jax.tree.map(
        lambda x: rearrange(x[back], "(o k) ... -> o k ...", o=num_objects, k=num_prompts), outputs
    )


def _encode_prompt(model: Model, features: FrameFeatures, prompt: Prompts, pixels: Array) -> StepOutput:
    """The output of one prompt, its fields without leading axes."""

    def points() -> StepOutput:
        return encode_points(model, features, prompt.points * _scale(model, pixels)[None], prompt.labels)

    if not prompt.masks.size:
        return points()
    return lax.cond(prompt.is_mask, lambda: encode_mask(model, features, prompt.masks), points)


def _scale(model: Model, pixels: UInt8[Array, "height width 3"]) -> Float[Array, "2"]:
    """From pixels of a frame to those of the model's input."""
    height, width = pixels.shape[:2]
    return jnp.array([model.config.image_size / width, model.config.image_size / height])


def write_all_conditioning(banks: Bank, prompts: Prompts, outputs: StepOutput) -> Bank:
    """Writes the outputs [O, K, ...] of all valid prompts to the banks as conditioning frames."""

    def write_object(bank: Bank, prompts: Prompts, outputs: StepOutput) -> Bank:
        def body(bank: Bank, xs: tuple[Prompts, StepOutput]) -> tuple[Bank, None]:
            prompt, output = xs
            return where(prompt.valid, memory.write_conditioning(bank, prompt.frames, output.memory), bank), None

        return lax.scan(body, bank, (prompts, outputs))[0]

    return jax.vmap(write_object)(banks, _fields(prompts), outputs)


def entries_at(prompts: Prompts, outputs: StepOutput, frame: Int[Array, ""]) -> FrameInputs:
    """The outputs of prompts on a frame, as inputs of `step`."""
    valid, output = _first_at(prompts, frame, outputs)
    return FrameInputs(entries=PrecomputedEntries(output, valid, conditioning=valid))


def prompts_at(
    model: Model, prompts: Prompts, frame: Int[Array, ""], pixels: UInt8[Array, "height width 3"]
) -> FramePrompts:
    """The prompts on a frame, their points in pixels of the model's input."""
    valid, one = _first_at(prompts, frame, _fields(prompts))
    # At least two points, as in `no_points`.
    missing = max(2 - one.labels.shape[-1], 0)
    points = jnp.pad(one.points * _scale(model, pixels)[None, None], [(0, 0), (0, missing), (0, 0)])
    labels = jnp.pad(one.labels, [(0, 0), (0, missing)], constant_values=Label.ABSENT)
    return FramePrompts(points, labels, one.masks, one.is_mask, valid)


def _first_at(prompts: Prompts, frame: Int[Array, ""], tree: Tree) -> tuple[Bool[Array, "o"], Tree]:
    """Which objects have a prompt on a frame, and of a tree [O, K, ...] what belongs to the first such prompt."""
    here = prompts.valid & (prompts.frames == frame)
    index = jnp.argmax(here, -1)
    return here.any(-1), jax.tree.map(lambda x: jax.vmap(lambda row, k: row[k])(x, index), tree)


def _fields(prompts: Prompts) -> Prompts:
    """The fields with axes [O, K, ...]: all but `obj_ids`, in whose place is `valid`."""
    return prompts._replace(obj_ids=prompts.valid)
