"""`track`, a whole video at once, and `track_step`, one frame at a time: both are `step` in a loop."""

from functools import cache, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer

from edgetam_jax.checkpoints.api import load_embedded
from edgetam_jax.errors import PromptError
from edgetam_jax.model import Model
from edgetam_jax.ops.masks import resize_logits
from edgetam_jax.ops.pixels import Rule, as_frames, as_image
from edgetam_jax.ops.tree import where
from edgetam_jax.prompts import Prompts, bucket, check_count, check_for_state, check_for_video, check_start
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank
from edgetam_jax.tracking.prompt_entries import encode_prompts, entries_at, prompts_at, write_all_conditioning
from edgetam_jax.tracking.step import StepOutput, absent_output, encode_frames, step
from edgetam_jax.types import Label

Direction = Literal["forward", "backward", "both"]


class State(NamedTuple):
    """All that tracking remembers between two frames. Its size does not depend on the length of the video."""

    banks: Bank  # [O, ...]
    frame: Array  # [] int32: the number of the next frame
    obj_ids: Array  # [O] int32: whom the rows are about


class Tracks(NamedTuple):
    logits: Array  # [T, O, h, w] mask logits at a quarter of the model's input size; -1024 where the object is absent
    scores: Array  # [T, O] logit of the object's presence
    ious: Array  # [T, O] the network's estimate of its mask's quality
    obj_ids: Array  # [O]
    state: State | None  # to go on with the next frames; after `track` forward only

    def masks(self, size: tuple[int, int]) -> Array:
        """[T, O, height, width] bool at the video's size. For long videos call `resize_logits` frame by frame."""
        return resize_logits(self.logits, size) > 0


def init_state(model: Model, num_objects: int, prompt_slots: int = 2) -> State:
    """A state without memory, with room for objects and for that many prompted frames of each.

    Where more frames are prompted, the one farthest away in time makes room.
    """
    model.check_for_video()
    check_count("num_objects", num_objects)
    check_count("prompt_slots", prompt_slots)
    banks = _repeat(memory.init(model.config, prompt_slots), num_objects)
    return State(banks, jnp.zeros((), jnp.int32), jnp.arange(num_objects, dtype=jnp.int32))


def track_step(
    model: Model, state: State, frame: Any, prompts: Prompts | None = None, *, preprocess: Rule = "video"
) -> tuple[State, Tracks]:
    """Tracks into the next frame, [H, W, 3] uint8. `prompts` are about this frame, `state.frame`.

    The state has a row for each object, and an object that has memory keeps its row: build further prompts with
    `obj_ids=` the objects of all rows. `state` is donated: go on with the one that is returned.
    """
    model.check_for_video()
    pixels = as_image(frame)
    if prompts is None:
        prompts = _no_prompts(len(state.obj_ids))
    else:
        check_for_video(prompts, None, (pixels.shape[0], pixels.shape[1]))
        check_for_state(prompts, state, streaming=True)
    return _track_step(model, state, pixels, prompts, preprocess)


@partial(jax.jit, static_argnums=4, donate_argnums=1)
def _track_step(model: Model, state: State, pixels: Array, prompts: Prompts, rule: Rule) -> tuple[State, Tracks]:
    features = encode_frames(model, pixels, rule)
    asked = prompts_at(model, prompts, state.frame, pixels)
    banks, entry = step(model, state.banks, features, state.frame, asked)
    obj_ids = jnp.where(asked.valid, prompts.obj_ids, state.obj_ids)
    return State(banks, state.frame + 1, obj_ids), _tracks(jax.tree.map(lambda x: x[None], entry), obj_ids, None)


def track(
    frames: Any,
    prompts: Prompts,
    model: Model | None = None,
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
    """Follows the prompted objects through frames [T, H, W, 3] of uint8, as one compiled program.

    Without a model by the small one that comes with the package, see `load`.

    An object is looked for on every visited frame, also before its first prompt: prompts on later frames are attended
    before they are reached. `direction` says which frames are visited: those from `start` on, those up to it, or all.
    `start` is the first prompted frame, or the last for "backward". Other frames have logits of -1024.

    `state`, as an earlier call returned it, continues a video: prompts go on counting from the video's first frame,
    those on frames to come wait for them, and rows are as `track_step` says. Its slots grow where prompts need it.

    `attend_prompts` limits how many prompted frames one frame attends, the closest first. `chunk` frames are encoded
    at once. `vectorize` computes objects at once rather than one after the other, `remat` saves memory when this is
    differentiated; neither changes the numbers beyond rounding.
    """
    model = load_embedded() if model is None else model
    model.check_for_video()
    if direction not in ("forward", "backward", "both"):
        raise PromptError(f'direction is {direction!r}; expected "forward", "backward" or "both".')
    if state is not None and direction != "forward":
        raise PromptError('a state continues a video forward; use direction="forward" or leave the state out.')
    frames = as_frames(frames)
    length = frames.shape[0]
    check_for_video(prompts, length if state is None else None, frames.shape[1:3])
    if state is not None:
        check_for_state(prompts, state)
        state = _with_room(state, prompts, length)
    for name, count in (("attend_prompts", attend_prompts), ("chunk", chunk)):
        if count is not None:
            check_count(name, count)
    check_start(start, 0 if state is None else state.frame, length)
    return _track(model, frames, prompts, start, state, direction, attend_prompts, chunk, preprocess, vectorize, remat)


def _with_room(state: State, prompts: Prompts, length: int) -> State:
    """With free slots for all prompts on the next `length` frames, so that they displace none before its time."""
    if isinstance(state.frame, Tracer) or isinstance(prompts.valid, Tracer):
        return state
    kept = state.banks.prompted
    fresh = prompts.valid & (prompts.frames >= state.frame) & (prompts.frames < state.frame + length)
    slots, needed = kept.valid.shape[1], int((kept.valid.sum(1) + fresh.sum(1)).max())
    if needed <= slots:
        return state

    def grown(x: Array) -> Array:
        return jnp.pad(x, [(0, 0), (0, bucket(needed, 1) - slots)] + [(0, 0)] * (x.ndim - 2))

    banks = state.banks._replace(
        prompted=jax.tree.map(grown, kept), prompted_pointers=grown(state.banks.prompted_pointers)
    )
    return state._replace(banks=banks)


@partial(jax.jit, static_argnums=range(5, 11))
def _track(
    model: Model,
    frames: Array,
    prompts: Prompts,
    start: Array | None,
    state: State | None,
    direction: Direction,
    attend_prompts: int | None,
    chunk: int | None,
    rule: Rule,
    vectorize: bool | None,
    remat: bool,
) -> Tracks:
    length = frames.shape[0]
    state = state or init_state(model, *prompts.valid.shape)
    obj_ids = jnp.where(jax.vmap(memory.has_memory)(state.banks), state.obj_ids, prompts.obj_ids)
    prompts, answers = encode_prompts(model, frames, state.frame, prompts, rule)
    banks = write_all_conditioning(state.banks, prompts, answers)
    if start is None:
        edge = jnp.where(prompts.valid, prompts.frames, -1 if direction == "backward" else memory.FAR)
        start = edge.max() if direction == "backward" else edge.min()
        start = jnp.where(memory.has_memory(state.banks), state.frame, start)  # going on: nothing is before the start
    run = partial(
        _scan,
        model,
        frames,
        state.frame,
        prompts,
        answers,
        start,
        _Options(attend_prompts, chunk, rule, vectorize, remat),
    )
    if direction == "backward":
        _, _, entry = run(banks, -1)
        return _tracks(entry, obj_ids, None)
    after, around, entry = run(banks, 1)
    if direction == "both":
        # Going back, the frames just after the start are the recent ones.
        _, _, before = run(banks._replace(recent=around.recent, pointers=around.pointers), -1)
        return _tracks(where(jnp.arange(length) <= start, before, entry), obj_ids, None)
    return _tracks(entry, obj_ids, State(after, state.frame + length, obj_ids))


class _Options(NamedTuple):
    limit: int | None
    chunk: int | None
    rule: Rule
    vectorize: bool | None
    remat: bool


def _scan(
    model: Model,
    frames: Array,
    first: Array,
    prompts: Prompts,
    answers: StepOutput,
    start: Array,
    options: _Options,
    banks: Bank,
    direction: int,
) -> tuple[Bank, Bank, StepOutput]:
    """The banks at the end, the banks as the frames next to the start left them, and entries [T, O, ...]."""
    length, num_objects = frames.shape[0], prompts.valid.shape[0]
    chunk = min(options.chunk or (1 if jax.default_backend() == "cpu" else 8), length)
    padding = -length % chunk
    order = jnp.arange(length)[::direction]
    order = jnp.concatenate([order, jnp.full(padding, -1)]).reshape(-1, chunk)
    on = (order >= 0) & ((first + order - start) * direction >= 0)
    nothing = _repeat(absent_output(model)._replace(tokens=()), num_objects)

    remat = jax.checkpoint if options.remat else lambda function: function

    def one(carry: tuple[Bank, Bank], xs: Any) -> tuple[tuple[Bank, Bank], StepOutput]:
        features, index, on = xs
        frame = first + index

        def visit(banks: Bank, around: Bank) -> Any:
            given = entries_at(prompts, answers, frame)
            banks, entry = step(
                model,
                banks,
                features,
                frame,
                given,
                direction,
                max_cond_frames=options.limit,
                vectorize=options.vectorize,
            )
            fresh = jnp.abs(frame - start)
            return (
                banks,
                around._replace(
                    recent=where(fresh <= model.config.memory_frames - 1, banks.recent, around.recent),
                    pointers=where(fresh <= model.config.pointers - 1, banks.pointers, around.pointers),
                ),
                entry._replace(tokens=()),
            )

        banks, around, entry = lax.cond(on, visit, lambda banks, around: (banks, around, nothing), *carry)
        return (banks, around), entry

    def several(carry: tuple[Bank, Bank], xs: tuple[Array, Array]) -> tuple[tuple[Bank, Bank], StepOutput]:
        index, on = xs

        def visit(carry: tuple[Bank, Bank]) -> tuple[tuple[Bank, Bank], StepOutput]:
            features = encode_frames(model, frames[jnp.maximum(index, 0)], options.rule)
            return lax.scan(remat(one), carry, (features, index, on))

        return lax.cond(on.any(), visit, lambda carry: (carry, _repeat(nothing, chunk)), carry)

    (banks, around), entry = lax.scan(remat(several), (banks, banks), (order, on))
    entry = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:length][::direction], entry)
    return banks, around, entry


def _repeat(tree: Any, count: int) -> Any:
    return jax.tree.map(lambda x: jnp.repeat(x[None], count, 0), tree)


@cache
def _no_prompts(num_objects: int) -> Prompts:
    host: Any = np  # no arrays on the device, which would have to be made for every frame
    return Prompts(
        obj_ids=host.arange(num_objects, dtype=np.int32),
        frames=host.zeros((num_objects, 1), np.int32),
        valid=host.zeros((num_objects, 1), bool),
        points=host.zeros((num_objects, 1, 4, 2), np.float32),
        labels=host.full((num_objects, 1, 4), Label.ABSENT, np.int32),
        masks=host.zeros((num_objects, 1, 0, 0), bool),
        is_mask=host.zeros((num_objects, 1), bool),
    )


def _tracks(entry: StepOutput, obj_ids: Array, state: State | None) -> Tracks:
    sighting = entry.prediction
    return Tracks(sighting.logits, sighting.score, sighting.iou, obj_ids, state)
