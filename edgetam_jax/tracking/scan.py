"""`track`: a whole video in one compiled program, which scans `step`."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array, lax
from jaxtyping import Bool, Int, UInt8

from edgetam_jax.errors import PromptError
from edgetam_jax.model import Model, for_inference
from edgetam_jax.ops.pixels import Rule, as_frames
from edgetam_jax.ops.tree import repeat, resolve_vectorize, where
from edgetam_jax.prompts import Prompts, check_against_video, check_count
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank
from edgetam_jax.tracking.prompt_entries import encode_prompts, entries_at, write_all_conditioning
from edgetam_jax.tracking.state import (
    State,
    Tracks,
    check_for_state,
    check_start,
    empty_state,
    make_tracks,
    with_prompt_slots,
)
from edgetam_jax.tracking.step import FrameFeatures, StepOutput, TrackOptions, absent_output, encode_frames, step
from edgetam_jax.types import ObjectMask

Direction = Literal["forward", "backward", "both"]


def track(
    frames: Any,
    prompts: Prompts,
    model: Model,
    *,
    direction: Direction = "forward",
    start: int | None = None,
    state: State | None = None,
    attend_prompts: int | None = None,
    chunk: int | None = None,
    preprocess: Rule = "video",
    vectorize: bool | None = None,
    remat: bool = False,
) -> Tracks:
    """`edgetam_jax.track`, which documents the arguments, with a model that the caller gives.

    Checks the arguments and makes the static choices; the rest is one compiled program.
    """
    model.check_for_video()
    if direction not in ("forward", "backward", "both"):
        raise PromptError(f'direction is {direction!r}; expected "forward", "backward" or "both".')
    if state is not None and direction != "forward":
        raise PromptError('a state continues a video forward; use direction="forward" or leave the state out.')
    frames = as_frames(frames)
    length = frames.shape[0]
    check_against_video(prompts, length if state is None else None, frames.shape[1:3])
    if state is not None:
        check_for_state(prompts, state)
        state = with_prompt_slots(state, prompts, length)
    for name, count in (("attend_prompts", attend_prompts), ("chunk", chunk)):
        if count is not None:
            check_count(name, count)
    check_start(start, 0 if state is None else state.frame, length)
    options = TrackOptions(
        preprocess=preprocess,
        max_cond_frames=attend_prompts,
        vectorize=resolve_vectorize(vectorize, model.platform),
        chunk=min(chunk or (1 if model.platform == "cpu" else 8), length),
        remat=remat,
    )
    return _track(for_inference(model), frames, prompts, start, state, direction, options)


@partial(jax.jit, static_argnums=(5, 6))
def _track(
    model: Model,
    frames: UInt8[Array, "t height width 3"],
    prompts: Prompts,
    start: Int[Array, ""] | None,
    state: State | None,
    direction: Direction,
    options: TrackOptions,
) -> Tracks:
    state = state or empty_state(model.config, *prompts.valid.shape)
    has_memory = jax.vmap(memory.has_memory)(state.banks)
    obj_ids = jnp.where(has_memory, state.obj_ids, prompts.obj_ids)
    prompts, outputs = encode_prompts(model, frames, state.frame, prompts, options.preprocess)
    if start is None:
        start = jnp.where(has_memory.any(), state.frame, _first_start(prompts, direction))
    video = _Video(frames, state.frame, start, prompts, outputs)
    banks = write_all_conditioning(state.banks, prompts, outputs)
    if direction == "backward":
        _, _, masks = _scan(model, banks, video, -1, options)
        return make_tracks(masks, obj_ids, None)
    after, turning, masks = _scan(model, banks, video, 1, options)
    if direction == "forward":
        return make_tracks(masks, obj_ids, State(after, state.frame + len(frames), obj_ids))
    # Backward, the recent frames of the start are those just after it.
    banks = banks._replace(recent=turning.recent, pointers=turning.pointers)
    _, _, before = _scan(model, banks, video, -1, options)
    return make_tracks(where(jnp.arange(len(frames)) <= start, before, masks), obj_ids, None)


def _first_start(prompts: Prompts, direction: Direction) -> Int[Array, ""]:
    """The first prompted frame, or the last for "backward"."""
    if direction == "backward":
        return jnp.where(prompts.valid, prompts.frames, -1).max()
    return jnp.where(prompts.valid, prompts.frames, memory.FAR).min()


class _Video(NamedTuple):
    """What is tracked; frames are numbered from `first` on, prompts and their outputs have axes [O, K]."""

    frames: UInt8[Array, "t height width 3"]
    first: Int[Array, ""]
    start: Int[Array, ""]  # frames before it, in the direction of tracking, are not visited
    prompts: Prompts
    outputs: StepOutput


class _Carry(NamedTuple):
    banks: Bank
    turning: Bank  # its ring buffers hold the frames next to the start, to continue in the other direction


def _scan(
    model: Model, banks: Bank, video: _Video, direction: int, options: TrackOptions
) -> tuple[Bank, Bank, ObjectMask]:
    """The banks at the end, those to turn at the start with, and masks [T, O, ...]; absent where nothing is visited."""
    length, num_objects = video.frames.shape[0], video.prompts.valid.shape[0]
    absent = repeat(absent_output(model).mask, num_objects)
    remat: Callable[..., Any] = jax.checkpoint if options.remat else lambda function: function
    order = jnp.arange(length)[::direction]
    order = jnp.pad(order, (0, -length % options.chunk), constant_values=-1)
    order = rearrange(order, "(chunks chunk) -> chunks chunk", chunk=options.chunk)
    visited = (order >= 0) & ((video.first + order - video.start) * direction >= 0)

    def scan_frame(
        carry: _Carry, xs: tuple[FrameFeatures, Int[Array, ""], Bool[Array, ""]]
    ) -> tuple[_Carry, ObjectMask]:
        features, index, visited = xs
        frame = video.first + index

        def visit(carry: _Carry) -> tuple[_Carry, ObjectMask]:
            inputs = entries_at(video.prompts, video.outputs, frame)
            banks, output = step(model, carry.banks, features, frame, inputs, direction, options)
            distance = jnp.abs(frame - video.start)
            turning = carry.turning._replace(
                recent=where(distance <= model.config.memory_frames - 1, banks.recent, carry.turning.recent),
                pointers=where(distance <= model.config.pointers - 1, banks.pointers, carry.turning.pointers),
            )
            return _Carry(banks, turning), output.mask

        return lax.cond(visited, visit, lambda carry: (carry, absent), carry)

    def scan_chunk(carry: _Carry, xs: tuple[Int[Array, "chunk"], Bool[Array, "chunk"]]) -> tuple[_Carry, ObjectMask]:
        index, visited = xs

        def visit(carry: _Carry) -> tuple[_Carry, ObjectMask]:
            features = encode_frames(model, video.frames[jnp.maximum(index, 0)], options.preprocess)
            return lax.scan(remat(scan_frame), carry, (features, index, visited))

        return lax.cond(visited.any(), visit, lambda carry: (carry, repeat(absent, options.chunk)), carry)

    (banks, turning), masks = lax.scan(remat(scan_chunk), _Carry(banks, banks), (order, visited))
    masks = jax.tree.map(lambda x: rearrange(x, "chunks chunk ... -> (chunks chunk) ...")[:length][::direction], masks)
    return banks, turning, masks
