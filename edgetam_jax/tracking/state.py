"""What tracking carries from one call to the next, what it returns, and checks of prompts against it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import Bool, Float, Int32

from edgetam_jax.config import Config
from edgetam_jax.errors import PromptError
from edgetam_jax.model import Model
from edgetam_jax.ops.resize import resize_logits
from edgetam_jax.ops.tree import repeat
from edgetam_jax.prompts import Prompts, bucket, check_count
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank
from edgetam_jax.types import ObjectMask


class State(NamedTuple):
    """The state of tracking between two frames. Its size does not depend on the length of the video.

    Attributes:
        banks: Memory banks, their arrays with a leading axis O.
        frame: [] int32, the number of the next frame.
        obj_ids: [O] int32, the object of each row.
    """

    banks: Bank
    frame: Int32[Array, ""]
    obj_ids: Int32[Array, "o"]


class Tracks(NamedTuple):
    """Masks of O objects on T frames.

    Attributes:
        logits: [T, O, h, w] mask logits at a quarter of the model's input size; -1024 where the object is absent.
        scores: [T, O] logit of the object's presence.
        ious: [T, O] the network's estimate of its mask's quality.
        obj_ids: [O] int32, the object of each row.
        state: To continue with the next frames, after `track` with direction "forward"; else None.
    """

    logits: Float[Array, "t o h w"]
    scores: Float[Array, "t o"]
    ious: Float[Array, "t o"]
    obj_ids: Int32[Array, "o"]
    state: State | None

    def masks(self, size: tuple[int, int]) -> Bool[Array, "t o height width"]:
        """Boolean masks at the video's size. For long videos, take the logits of a few frames at a time.

        Args:
            size: Height and width of the video.

        Returns:
            [T, O, height, width] bool.
        """
        return resize_logits(self.logits, size) > 0


def init_state(model: Model, num_objects: int, prompt_slots: int = 2) -> State:
    """An empty state for `track_step`, or for `track`.

    Args:
        model: A model of the video network.
        num_objects: Number O of objects that the state has rows for.
        prompt_slots: Number of conditioning frames that are kept of each object. One more replaces the one that is
            farthest away in time.

    Returns:
        A state at frame 0 in which no object has memory.

    Raises:
        CheckpointError: The model is for still images only.
        PromptError: A count is not a positive integer.
    """
    model.check_for_video()
    check_count("num_objects", num_objects)
    check_count("prompt_slots", prompt_slots)
    return empty_state(model.config, num_objects, prompt_slots)


def empty_state(config: Config, num_objects: int, prompt_slots: int) -> State:
    banks = repeat(memory.init(config, prompt_slots), num_objects)
    return State(banks, jnp.zeros((), jnp.int32), jnp.arange(num_objects, dtype=jnp.int32))


def make_tracks(masks: ObjectMask, obj_ids: Array, state: State | None) -> Tracks:
    return Tracks(masks.logits, masks.score, masks.iou, obj_ids, state)


def with_prompt_slots(state: State, prompts: Prompts, length: int) -> State:
    """The state with free slots for all prompts on the next `length` frames, so that none replaces another.

    Traced states and prompts keep the slots that they have.
    """
    if isinstance(state.frame, Tracer) or isinstance(prompts.valid, Tracer):
        return state
    conditioning = state.banks.conditioning
    new = prompts.valid & (prompts.frames >= state.frame) & (prompts.frames < state.frame + length)
    slots, needed = conditioning.valid.shape[1], int((conditioning.valid.sum(1) + new.sum(1)).max())
    if needed <= slots:
        return state

    def pad(x: Array) -> Array:
        return jnp.pad(x, [(0, 0), (0, bucket(needed, 1) - slots)] + [(0, 0)] * (x.ndim - 2))

    banks = state.banks._replace(
        conditioning=jax.tree.map(pad, conditioning), conditioning_pointers=pad(state.banks.conditioning_pointers)
    )
    return state._replace(banks=banks)


def check_start(start: Any, first: Any, length: int) -> None:
    """`start` must be one of the `length` frames from `first` on. Traced values are not checked."""
    if start is None or isinstance(start, Tracer) or isinstance(first, Tracer):
        return
    integer = np.ndim(start) == 0 and np.issubdtype(np.asarray(start).dtype, np.integer)
    if not integer or not 0 <= start - first < length:
        last = int(first) + length - 1
        raise PromptError(f"start is {start!r}; expected a frame of the video, {int(first)} to {last}.")


def check_for_state(prompts: Prompts, state: State, streaming: bool = False) -> None:
    """Checks prompts against the rows and the frame of a state. Traced values are not checked.

    With `streaming`, prompts must be on the frame `state.frame`.
    """
    rows, num_objects = len(prompts.obj_ids), len(state.obj_ids)
    if rows != num_objects:
        raise PromptError(
            f"the prompts have {rows} rows, the state has room for {num_objects} objects; build them with "
            f"num_objects={num_objects}, or, once objects have memory, with the obj_ids of all rows."
        )
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((prompts, state))):
        return
    ids, first = np.asarray(state.obj_ids).tolist(), int(state.frame)
    slot_frames, slot_valid = (np.asarray(x) for x in state.banks.conditioning[1:])
    has_memory = np.any(slot_valid, 1) | np.any(np.asarray(state.banks.recent.valid), 1)
    row_of = {obj_id: row for row, obj_id in enumerate(ids) if has_memory[row]}
    prompts = jax.tree.map(np.asarray, prompts)
    for row, k in np.argwhere(prompts.valid):
        obj_id, frame = int(prompts.obj_ids[row]), int(prompts.frames[row, k])
        if (has_memory[row] and obj_id != ids[row]) or row_of.get(obj_id, row) != row:
            raise PromptError(
                f"the prompts have object {obj_id} in row {row}, the state's rows are {ids}; build the prompts with "
                f"obj_ids={ids}, where a new object may take the place of one without memory."
            )
        repeated = (slot_frames[row] == frame) & slot_valid[row]
        if not repeated.any() and (frame < first or (streaming and frame > first)):
            raise PromptError(
                f"the prompt of object {obj_id} is on frame {frame}, the state is at frame {first}; "
                "frames are counted from the beginning of the video."
            )
