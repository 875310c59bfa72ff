"""`track`, a whole video at once, and `track_step`, one frame at a time: both are `step` in a loop."""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from edgetam_jax import memory
from edgetam_jax.answers import answer, answer_all, given_on, keep_all
from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.memory import Bank
from edgetam_jax.model import Model
from edgetam_jax.postprocess import resize_logits
from edgetam_jax.preprocess import Rule, as_frames, as_image
from edgetam_jax.prompts import Prompts, check_for_video
from edgetam_jax.step import Entry, Given, absent, encode_frames, over_objects, step
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
    state: State | None  # to go on with the next frames; after "forward" only, and not from `track_step`

    def masks(self, size: tuple[int, int]) -> Array:
        """[T, O, height, width] bool at the video's size. For long videos call `resize_logits` frame by frame."""
        return resize_logits(self.logits, size) > 0


def init_state(model: Model, num_objects: int, prompt_slots: int = 4) -> State:
    """A state without memory, with room for objects and for that many prompted frames of each."""
    bank = memory.init(model.config, prompt_slots)
    banks = jax.tree.map(lambda x: jnp.repeat(x[None], num_objects, 0), bank)
    return State(banks, jnp.zeros((), jnp.int32), jnp.arange(num_objects, dtype=jnp.int32))


def track_step(
    model: Model, state: State, frame: Any, prompts: Prompts | None = None, *, preprocess: Rule = "video"
) -> tuple[State, Tracks]:
    """Tracks into the next frame, [H, W, 3] uint8; `prompts` are about this frame, row by row of the state's objects.

    `state` is donated: go on with the one that is returned.
    """
    pixels = as_image(frame)
    if prompts is None:
        prompts = _no_prompts(len(state.obj_ids))
    _check_rows(prompts, state)
    check_for_video(prompts, None, (pixels.shape[0], pixels.shape[1]))
    return _track_step(model, state, pixels, prompts, preprocess)


@partial(jax.jit, static_argnums=4, donate_argnums=1)
def _track_step(model: Model, state: State, pixels: Array, prompts: Prompts, rule: Rule) -> tuple[State, Tracks]:
    features = encode_frames(model, pixels, rule)

    def given(prompt: Prompts) -> Entry:
        first = jnp.argmax(prompt.valid)
        return lax.cond(
            prompt.valid.any(),
            lambda: answer(model, features, jax.tree.map(lambda x: x[first], prompt._replace(obj_ids=None)), pixels),
            lambda: absent(model),
        )

    valid = prompts.valid.any(-1)
    entries = Given(over_objects(given)(prompts), valid, valid)
    banks, entry = step(model, state.banks, features, state.frame, entries)
    obj_ids = jnp.where(valid, prompts.obj_ids, state.obj_ids)
    return State(banks, state.frame + 1, obj_ids), _tracks(jax.tree.map(lambda x: x[None], entry), obj_ids, None)


def _check_rows(prompts: Prompts, state: State) -> None:
    rows, room = len(prompts.obj_ids), len(state.obj_ids)
    if rows != room:
        raise PromptError(
            f"the prompts have {rows} rows, the state has room for {room} objects; "
            f"build them with num_objects={room}, or with the obj_ids of all rows."
        )


def track(
    frames: Any,
    prompts: Prompts,
    model: Model,
    *,
    direction: Direction = "forward",
    start: int | None = None,
    state: State | None = None,
    prompt_slots: int | None = None,
    chunk: int | None = None,
    preprocess: Rule = "video",
    vectorize: bool | None = None,
    remat: bool = False,
) -> Tracks:
    """Follows the prompted objects through frames [T, H, W, 3] of uint8, as one compiled program.

    Prompts on later frames are attended before they are reached. `direction` says which frames get a mask: those
    from `start` on, those up to it, or all. `start` is the first prompted frame, or the last for "backward". Frames
    without a mask have logits of -1024.

    `state`, as an earlier call returned it, continues a video: frames and prompts then go on counting from its frame.
    `prompt_slots` limits how many prompted frames one frame attends, the closest first. `chunk` frames are encoded
    at once. `vectorize` computes objects at once rather than one after the other, `remat` saves memory when this is
    differentiated; neither changes the numbers.
    """
    if direction not in ("forward", "backward", "both"):
        raise PromptError(f'direction is {direction!r}; expected "forward", "backward" or "both".')
    if state is not None and direction != "forward":
        raise PromptError('a state continues a video forward; use direction="forward" or leave the state out.')
    frames = as_frames(frames)
    if not frames.shape[0]:
        raise FrameError("the video has no frames.")
    if state is not None:
        _check_rows(prompts, state)
    check_for_video(prompts, frames.shape[0] if state is None else None, frames.shape[1:3])
    for name, count in (("prompt_slots", prompt_slots), ("chunk", chunk)):
        if count is not None and count < 1:
            raise PromptError(f"{name} is {count}; expected at least 1, or None.")
    if isinstance(start, int) and state is None and not 0 <= start < frames.shape[0]:
        raise PromptError(f"start is {start}; expected a frame of the video, 0 to {frames.shape[0] - 1}.")
    return _track(model, frames, prompts, start, state, direction, prompt_slots, chunk, preprocess, vectorize, remat)


@partial(jax.jit, static_argnums=range(5, 11))
def _track(
    model: Model,
    frames: Array,
    prompts: Prompts,
    start: Array | None,
    state: State | None,
    direction: Direction,
    prompt_slots: int | None,
    chunk: int | None,
    rule: Rule,
    vectorize: bool | None,
    remat: bool,
) -> Tracks:
    length = frames.shape[0]
    state = state or init_state(model, *prompts.valid.shape)
    prompts, answers = answer_all(model, frames, state.frame, prompts, rule)
    banks = keep_all(state.banks, prompts, answers)
    if start is None:
        edge = jnp.where(prompts.valid, prompts.frames, -1 if direction == "backward" else memory.FAR)
        start = edge.max() if direction == "backward" else edge.min()
        start = jnp.where(memory.known(state.banks), state.frame, start)  # going on: nothing is before the start
    run = partial(
        _scan,
        model,
        frames,
        state.frame,
        prompts,
        answers,
        start,
        _Options(prompt_slots, chunk, rule, vectorize, remat),
    )
    end = state.frame + length
    if direction == "backward":
        _, _, entry = run(banks, -1)
        return _tracks(entry, prompts.obj_ids, State(banks, end, prompts.obj_ids))
    after, around, entry = run(banks, 1)
    if direction == "both":
        # Going back, the frames just after the start are the recent ones.
        _, _, before = run(banks._replace(recent=around.recent, pointers=around.pointers), -1)
        earlier = jnp.arange(length) <= start
        entry = jax.tree.map(lambda b, a: jnp.where(earlier.reshape(-1, *[1] * (a.ndim - 1)), b, a), before, entry)
    return _tracks(entry, prompts.obj_ids, State(after, end, prompts.obj_ids))


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
    answers: Entry,
    start: Array,
    options: _Options,
    banks: Bank,
    direction: int,
) -> tuple[Bank, Bank, Entry]:
    """The banks at the end, the banks as the frames next to the start left them, and entries [T, O, ...]."""
    length, num_objects = frames.shape[0], prompts.valid.shape[0]
    chunk = min(options.chunk or (1 if jax.default_backend() == "cpu" else 8), length)
    padding = -length % chunk
    order = jnp.arange(length)[::direction]
    order = jnp.concatenate([order, jnp.full(padding, -1)]).reshape(-1, chunk)
    on = (order >= 0) & ((first + order - start) * direction >= 0)
    nothing = jax.tree.map(lambda x: jnp.repeat(x[None], num_objects, 0), absent(model)._replace(tokens=()))

    remat = jax.checkpoint if options.remat else lambda function: function

    def one(carry: tuple[Bank, Bank], xs: Any) -> tuple[tuple[Bank, Bank], Entry]:
        features, index, on = xs
        frame = first + index

        def visit(banks: Bank, around: Bank) -> Any:
            given = given_on(prompts, answers, frame)
            banks, entry = step(
                model, banks, features, frame, given, direction, limit=options.limit, vectorize=options.vectorize
            )
            fresh = jnp.abs(frame - start)
            return (
                banks,
                around._replace(
                    recent=_while(fresh <= model.config.memory_frames - 1, banks.recent, around.recent),
                    pointers=_while(fresh <= model.config.pointers - 1, banks.pointers, around.pointers),
                ),
                entry._replace(tokens=()),
            )

        banks, around, entry = lax.cond(on, visit, lambda banks, around: (banks, around, nothing), *carry)
        return (banks, around), entry

    def several(carry: tuple[Bank, Bank], xs: tuple[Array, Array]) -> tuple[tuple[Bank, Bank], Entry]:
        index, on = xs

        def visit(carry: tuple[Bank, Bank]) -> tuple[tuple[Bank, Bank], Entry]:
            features = encode_frames(model, frames[jnp.maximum(index, 0)], options.rule)
            return lax.scan(remat(one), carry, (features, index, on))

        skipped = jax.tree.map(lambda x: jnp.repeat(x[None], chunk, 0), nothing)
        return lax.cond(on.any(), visit, lambda carry: (carry, skipped), carry)

    (banks, around), entry = lax.scan(remat(several), (banks, banks), (order, on))
    entry = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:length][::direction], entry)
    return banks, around, entry


def _while(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _no_prompts(num_objects: int) -> Prompts:
    return Prompts(
        obj_ids=jnp.arange(num_objects, dtype=jnp.int32),
        frames=jnp.zeros((num_objects, 1), jnp.int32),
        valid=jnp.zeros((num_objects, 1), bool),
        points=jnp.zeros((num_objects, 1, 4, 2)),
        labels=jnp.full((num_objects, 1, 4), Label.ABSENT, jnp.int32),
        masks=jnp.zeros((num_objects, 1, 0, 0), bool),
        is_mask=jnp.zeros((num_objects, 1), bool),
    )


def _tracks(entry: Entry, obj_ids: Array, state: State | None) -> Tracks:
    sighting = entry.sighting
    return Tracks(sighting.logits, sighting.score, sighting.iou, obj_ids, state)
