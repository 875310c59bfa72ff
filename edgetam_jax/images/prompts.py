"""What users say about objects on still images: points, boxes and earlier masks, as arrays of few shapes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from edgetam_jax.errors import PromptError
from edgetam_jax.ops.points import check_inside, check_points
from edgetam_jax.prompts import Prompt, bucket, closed
from edgetam_jax.types import Label

Size = tuple[int, int]  # height, width
SMALLEST_ROOM = 8  # places for points, and the token that closes their list, of every object


class ImagePrompts(NamedTuple):
    """Prompts about O objects on each image of a batch. Build them with `ImagePrompts.build`."""

    points: Array  # [..., O, P, 2] (x, y) as shares of the image's width and height
    labels: Array  # [..., O, P] int32, see Label
    masks: Array  # [..., O, h, w] logits; [..., O, 0, 0] if there is none
    has_mask: Array  # [..., O] bool
    valid: Array  # [..., O] bool: False where the batch is only filled up

    @classmethod
    def build(
        cls, prompts: Sequence[Prompt] | Sequence[Sequence[Prompt]], size: Size | Sequence[Size] | None = None
    ) -> "ImagePrompts":
        """Checks prompts and lays them out, filled up to shapes that are powers of two.

        A list of prompts is about one image, a list of such lists about a batch of them. `size` is the height and
        width of the image, or of each; without it, coordinates are shares of width and height, from 0 to 1. Here a
        prompt's `mask` is logits [h, w] at a quarter of the model's input size, such as an earlier answer's, and
        points and a box may go with it.
        """
        every = list(prompts)
        single = all(isinstance(prompt, Prompt) for prompt in every)
        images = [every] if single else every
        sizes = _sizes(size, 1 if single else len(images))
        checked = [
            _check_image(image, size, "" if single else f"image {i}, ")
            for i, (image, size) in enumerate(zip(images, sizes, strict=True))
        ]
        if not any(checked):
            raise PromptError("there is no prompt; give at least one Prompt with points, a box or a mask.")
        fields: Any = _lay_out(checked)
        return jax.device_put(cls(*(field[0] if single else field for field in fields)))  # which compiles nothing


def from_arrays(
    points: ArrayLike | None, labels: ArrayLike | None, boxes: ArrayLike | None, masks: ArrayLike | None, side: int
) -> list[Prompt]:
    """SAM 2's arguments as prompts: B of them, or one where arrays have no axis B.

    Points are [P, 2] or [B, P, 2], labels likewise, boxes [4] or [B, 4], masks [1, side, side] or [B, 1, side, side].
    One mask serves all of B prompts, and one prompt all of B masks.
    """
    given = {}
    if points is not None and labels is not None:
        given["points"], given["labels"] = _points_and_labels(points, labels)
    elif points is not None or labels is not None:
        raise PromptError("point_coords and point_labels go together; one of them is missing.")
    if boxes is not None:
        corners = _numbers(boxes, "box")
        if corners.shape[-1:] != (4,):
            raise PromptError(f"box has shape {corners.shape}; expected [4], or [boxes, 4].")
        given["box"] = corners.reshape(-1, 4)
        if len(given["box"]) != len(given.get("points", given["box"])):
            raise PromptError(
                f"there are {len(given['box'])} boxes, and points for {len(given['points'])} prompts; "
                "expected as many: a box and its points are one prompt."
            )
    if masks is not None:
        logits = _numbers(masks, "mask_input")
        if logits.ndim not in (3, 4) or logits.shape[-3:] != (1, side, side):
            raise PromptError(
                f"mask_input has shape {logits.shape}; expected logits [1, {side}, {side}], such as predict returns, "
                f"or [prompts, 1, {side}, {side}]."
            )
        given["mask"] = logits.reshape(-1, side, side)
    count = max(map(len, given.values()), default=0)
    if not count or any(len(values) == 0 for values in given.values()):
        raise PromptError("there is no prompt; give points with labels, a box, or mask_input.")
    if any(len(values) not in (1, count) for values in given.values()):
        lengths = {name: len(values) for name, values in given.items()}
        raise PromptError(f"the numbers of prompts differ, {lengths}; expected one mask for each, or one for all.")
    return [Prompt(**{name: x[b if len(x) > 1 else 0] for name, x in given.items()}) for b in range(count)]


def _points_and_labels(points: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    xy, kinds = _numbers(points, "point_coords"), _numbers(labels, "point_labels")
    if xy.ndim not in (2, 3) or xy.shape[-1] != 2:
        raise PromptError(f"point_coords has shape {xy.shape}; expected [points, 2], or [prompts, points, 2].")
    if kinds.shape != xy.shape[:-1]:
        raise PromptError(f"point_labels has shape {kinds.shape}; expected one for each point, {xy.shape[:-1]}.")
    return (xy, kinds) if xy.ndim == 3 else (xy[None], kinds[None])


class _Checked(NamedTuple):
    points: np.ndarray  # [P, 2] shares of width and height
    labels: np.ndarray  # [P]
    mask: np.ndarray | None


def _sizes(size: Any, count: int) -> list[Size | None]:
    """The size of each of `count` images, from one for all, or one each."""
    if size is None:
        return [None] * count
    sizes = [size] * count if len(size) and np.ndim(size[0]) == 0 else list(size)
    for each in sizes:
        if np.shape(each) != (2,) or not all(isinstance(n, int | np.integer) and n > 0 for n in each):
            raise PromptError(f"an image's size is {each!r}; expected (height, width) in pixels.")
    if len(sizes) != count:
        raise PromptError(f"there are prompts about {count} images, and {len(sizes)} sizes.")
    return [(int(height), int(width)) for height, width in sizes]


def _check_image(prompts: Any, size: Size | None, name: str) -> list[_Checked]:
    if not isinstance(prompts, list | tuple):
        raise PromptError(f"{name}a {type(prompts).__name__} where a list of Prompts was expected.")
    return [_check(prompt, size, f"{name}prompt {index}") for index, prompt in enumerate(prompts)]


def _check(prompt: Prompt, size: Size | None, name: str) -> _Checked:
    if not isinstance(prompt, Prompt):
        raise PromptError(f"{name} is a {type(prompt).__name__}; expected a Prompt.")
    if prompt.frame != 0 or prompt.obj_id is not None:
        raise PromptError(f"{name}: it names a frame or an object id; an image has neither, so leave them out.")
    mask = None if prompt.mask is None else _check_logits(prompt.mask, name)
    if mask is not None and prompt.points is None and prompt.labels is None and prompt.box is None:
        return _Checked(np.zeros((0, 2), np.float32), np.zeros(0, np.int32), mask)
    points, labels = check_points(prompt.points, prompt.labels, prompt.box, name)
    if size is not None:
        check_inside(points, size, name)
        points = points / np.array(size[::-1], np.float32)
    elif ((points < 0) | (points > 1)).any():
        raise PromptError(f"{name}: coordinates are {points.tolist()}; expected shares of the image, from 0 to 1.")
    return _Checked(points, labels, mask)


def _check_logits(mask: ArrayLike, name: str) -> np.ndarray:
    array = _numbers(mask, f"{name}: the mask")
    if array.ndim != 2 or not array.size:
        raise PromptError(f"{name}: the mask has shape {array.shape}; expected logits [height, width].")
    if not np.isfinite(array).all():
        raise PromptError(f"{name}: the mask holds values that are not finite.")
    return array


def _numbers(values: ArrayLike, name: str) -> np.ndarray:
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} cannot be read as numbers ({error}).") from error


def _lay_out(images: Sequence[Sequence[_Checked]]) -> tuple[np.ndarray, ...]:
    every = [(i, o, checked) for i, image in enumerate(images) for o, checked in enumerate(image)]
    lead = len(images), bucket(max(map(len, images)), smallest=1)
    room = bucket(1 + max(len(checked.labels) for *_, checked in every), SMALLEST_ROOM)
    shapes = {checked.mask.shape for *_, checked in every if checked.mask is not None}
    if len(shapes) > 1:
        raise PromptError(f"the masks have different sizes, {sorted(shapes)}; expected one.")
    points, labels = np.zeros((*lead, room, 2), np.float32), np.full((*lead, room), Label.ABSENT, np.int32)
    masks = np.zeros((*lead, *(shapes.pop() if shapes else (0, 0))), np.float32)
    has_mask, valid = np.zeros(lead, bool), np.zeros(lead, bool)
    for i, o, checked in every:
        valid[i, o] = True
        if len(checked.labels):  # a mask alone has no tokens, not even the one that closes a list
            points[i, o], labels[i, o] = closed(checked.points, checked.labels, room)
        if checked.mask is not None:
            masks[i, o], has_mask[i, o] = checked.mask, True
    return points, labels, masks, has_mask, valid
