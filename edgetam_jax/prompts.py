"""Prompts of objects: points, boxes and masks on the frames of a video, as arrays of fixed shape."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from numpy.typing import ArrayLike

from edgetam_jax.errors import PromptError
from edgetam_jax.ops.points import check_inside, check_mask, check_points
from edgetam_jax.types import Label


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A prompt for one object on one frame: points and a box, or a mask.

    Attributes:
        points: [P, 2] pixels (x, y) of the frame.
        labels: [P], 1 to include the point, 0 to exclude it.
        box: x0, y0, x1, y1 in pixels.
        mask: [H, W], the size of the frame; anything above 0 is the object.
        frame: The frame's number, from 0.
        obj_id: Prompts with the same id belong to one object. Without ids, each prompt is an object of its own.
    """

    points: ArrayLike | None = None
    labels: ArrayLike | None = None
    box: ArrayLike | None = None
    mask: ArrayLike | None = None
    frame: int = 0
    obj_id: int | None = None


class Prompts(NamedTuple):
    """Prompts of O objects on up to K frames each. Build them with `Prompts.build`.

    Attributes:
        obj_ids: [O] int32, the id of each row's object.
        frames: [O, K] int32, frame numbers.
        valid: [O, K] bool, False for padding.
        points: [O, K, P, 2] float32, points (x, y) in pixels of the frame.
        labels: [O, K, P] int32, what each point means, see `edgetam_jax.types.Label`.
        masks: [O, K, H, W] bool, mask prompts; [O, K, 0, 0] if there are none.
        is_mask: [O, K] bool, True where the prompt is a mask.
    """

    obj_ids: Array
    frames: Array
    valid: Array
    points: Array
    labels: Array
    masks: Array
    is_mask: Array

    @classmethod
    def build(
        cls, prompts: Sequence[Prompt], num_objects: int | None = None, obj_ids: Sequence[int] | None = None
    ) -> "Prompts":
        """Checks prompts and lays them out as arrays, one row per object in order of appearance.

        Args:
            prompts: At least one prompt; at most one for an object on a frame.
            num_objects: Number of rows, to match a state with more objects; the additional rows are empty.
            obj_ids: Object ids of all rows of a state, including those without a prompt here.

        Returns:
            The prompts, padded to shapes that are powers of two.

        Raises:
            PromptError: A prompt is invalid, or does not fit the rows.
        """
        if isinstance(prompts, Prompt) or not prompts:
            raise PromptError("there is no prompt; give a list of at least one Prompt with points, a box or a mask.")
        if num_objects is not None:
            check_count("num_objects", num_objects)
        every = [_check(prompt, f"prompt {index}") for index, prompt in enumerate(prompts)]
        if obj_ids is not None:
            _check_ids(prompts, list(obj_ids))
        rows: dict[int, dict[int, _Checked]] = {obj_id: {} for obj_id in obj_ids or ()}
        fresh = max((p.obj_id for p in prompts if p.obj_id is not None), default=-1)
        for index, (prompt, checked) in enumerate(zip(prompts, every, strict=True)):
            fresh += prompt.obj_id is None
            row = rows.setdefault(fresh if prompt.obj_id is None else prompt.obj_id, {})
            if prompt.frame in row:
                raise PromptError(
                    f"prompt {index}: object {prompt.obj_id} has a prompt on frame {prompt.frame} already; "
                    "put all its points and its box into one Prompt."
                )
            row[prompt.frame] = checked
        if num_objects is not None and num_objects < len(rows):
            raise PromptError(f"the prompts are about {len(rows)} objects, more than num_objects={num_objects}.")
        return _lay_out(rows, num_objects or len(rows))


def _check_ids(prompts: Sequence[Prompt], obj_ids: list[int]) -> None:
    if not all(map(_is_int32, obj_ids)):
        raise PromptError(f"obj_ids are {obj_ids}; expected integers of 32 bits.")
    if len(set(obj_ids)) < len(obj_ids):
        raise PromptError(f"obj_ids are {obj_ids}; expected each once.")
    if unknown := [prompt.obj_id for prompt in prompts if prompt.obj_id not in obj_ids]:
        raise PromptError(f"there are prompts about objects {unknown}, which are not among obj_ids, {obj_ids}.")


class _Checked(NamedTuple):
    points: np.ndarray  # [P, 2]
    labels: np.ndarray  # [P]
    mask: np.ndarray | None


def _check(prompt: Prompt, name: str) -> _Checked:
    if not isinstance(prompt, Prompt):
        raise PromptError(f"{name} is a {type(prompt).__name__}; expected a Prompt.")
    check_count(f"{name}: frame", prompt.frame, 0, "a frame number")
    if prompt.obj_id is not None and not _is_int32(prompt.obj_id):
        raise PromptError(f"{name}: obj_id is {prompt.obj_id!r}; expected an integer of 32 bits.")
    if prompt.mask is not None:
        if prompt.points is not None or prompt.labels is not None or prompt.box is not None:
            raise PromptError(f"{name}: a mask replaces points and boxes; give one or the other.")
        return _Checked(np.zeros((0, 2), np.float32), np.zeros(0, np.int32), check_mask(prompt.mask, name))
    points, labels = check_points(prompt.points, prompt.labels, prompt.box, name)
    return _Checked(points, labels, None)


def _is_int32(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and -(2**31) <= int(value) < 2**31


def closed(points: np.ndarray, labels: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [P, 2] and labels followed by the token that closes every list, then filled up to `room` places."""
    fill = room - len(labels)
    tail = np.array([Label.NOT_A_POINT, *[Label.ABSENT] * (fill - 1)], np.int32)
    return np.pad(points, ((0, fill), (0, 0))), np.concatenate([labels, tail])


def bucket(count: int, smallest: int = 4) -> int:
    """The power of two, from `smallest`, that holds `count`: few shapes, few compilations."""
    return max(smallest, 1 << (count - 1).bit_length())


def _lay_out(rows: dict[int, dict[int, _Checked]], num_objects: int) -> Prompts:
    places = max(map(len, rows.values()))
    every = [(o, k, frame, p) for o, row in enumerate(rows.values()) for k, (frame, p) in enumerate(row.items())]
    room = bucket(1 + max(len(p.labels) for *_, p in every))
    sizes = {p.mask.shape for *_, p in every if p.mask is not None}
    if len(sizes) > 1:
        raise PromptError(f"the masks have different sizes, {sorted(sizes)}; expected all of the video's.")
    height, width = sizes.pop() if sizes else (0, 0)
    spare = [i for i in range(num_objects) if i not in rows][: num_objects - len(rows)]
    frames, valid = np.zeros((num_objects, places), np.int32), np.zeros((num_objects, places), bool)
    points = np.zeros((num_objects, places, room, 2), np.float32)
    labels = np.full((num_objects, places, room), Label.ABSENT, np.int32)
    masks, is_mask = np.zeros((num_objects, places, height, width), bool), np.zeros((num_objects, places), bool)
    for o, k, frame, prompt in every:
        frames[o, k], valid[o, k] = frame, True
        points[o, k], labels[o, k] = closed(prompt.points, prompt.labels, room)
        if prompt.mask is not None:
            masks[o, k], is_mask[o, k] = prompt.mask, True
    ids = np.array([*rows, *spare], np.int32)
    return Prompts(*map(jnp.asarray, (ids, frames, valid, points, labels, masks, is_mask)))


def check_count(name: str, value: Any, least: int = 1, what: str = "an integer") -> None:
    if not _is_int32(value) or value < least:
        raise PromptError(f"{name} is {value!r}; expected {what} from {least}.")


def check_against_video(prompts: Any, num_frames: int | None, size: tuple[int, int]) -> None:
    """Checks prompts against the number of frames and the size (height, width) of a video.

    Traced prompts are not checked.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(prompts)):
        return
    if not isinstance(prompts, Prompts):
        raise PromptError(f"prompts are a {type(prompts).__name__}; expected Prompts, see `Prompts.build`.")
    prompts = jax.tree.map(np.asarray, prompts)  # an operation of JAX's, inside a trace, would make tracers
    for o, k in np.argwhere(prompts.valid):
        name = f"object {prompts.obj_ids[o]}, frame {prompts.frames[o, k]}"
        if num_frames is not None and prompts.frames[o, k] >= num_frames:
            raise PromptError(f"{name}: there is no such frame; the video has {num_frames}, counted from 0.")
        check_inside(prompts.points[o, k][prompts.labels[o, k] >= Label.NEGATIVE], size, name)
        if prompts.is_mask[o, k] and prompts.masks.shape[2:] != size:
            raise PromptError(f"{name}: the mask is {prompts.masks.shape[2:]}, the frames are {size} (height, width).")
