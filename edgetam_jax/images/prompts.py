"""Prompts on still images: points, boxes and low-resolution masks as arrays of a few shapes."""

from collections.abc import Sequence
from typing import Any, NamedTuple, no_type_check

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from edgetam_jax.errors import PromptError
from edgetam_jax.ops.points import check_inside, check_points
from edgetam_jax.prompts import Prompt, bucket, closed
from edgetam_jax.types import Label

Size = tuple[int, int]  # height, width
MIN_POINTS = 8  # an object has at least this many points, the closing token and padding included


@no_type_check  # for the import hook: `build` checks its arguments, and raises errors of its own
class ImagePrompts(NamedTuple):
    """Prompts of O objects on each image of a batch. Build them with `ImagePrompts.build`.

    Attributes:
        points: Points `[..., O, P, 2]`, float32: (x, y) relative to the image's width and height.
        labels: What each point means `[..., O, P]`, int32, see `edgetam_jax.types.Label`.
        masks: Mask logits `[..., O, h, w]` of earlier predictions, float32; `[..., O, 0, 0]` if no prompt has a mask.
        has_mask: Booleans `[..., O]`: whether the object's mask is used.
        valid: Booleans `[..., O]`, False for rows that only pad the batch.
    """

    points: Float[Array, "*b o p 2"]
    labels: Int[Array, "*b o p"]
    masks: Float[Array, "*b o h w"]
    has_mask: Bool[Array, "*b o"]
    valid: Bool[Array, "*b o"]

    @classmethod
    def build(
        cls, prompts: Sequence[Prompt] | Sequence[Sequence[Prompt]], size: Size | Sequence[Size] | None = None
    ) -> "ImagePrompts":
        """Checks prompts and arranges them in arrays.

        The numbers of objects and of points are padded to powers of two, so that few programs are compiled.

        Args:
            prompts: A list of `Prompt`, one for each object on one image, or a list of such lists, one for each image
                of a batch. A prompt's `mask` is here the logits `[h, w]` of an earlier prediction, at a quarter of the
                model's input size; points and a box may be given with it. `frame` and `obj_id` do not apply.
            size: Height and width of the image, or a list of them, one for each image. Points and boxes are then in
                pixels. By default they are relative to the width and height, from 0 to 1.

        Returns:
            The prompts `[O, ...]` of one image, or `[images, O, ...]` of a batch.

        Raises:
            PromptError: If there is no prompt, or a prompt is malformed or lies outside its image.
        """
        entries = list(prompts)
        single = all(isinstance(entry, Prompt) for entry in entries)
        images = [entries] if single else entries
        sizes = _check_sizes(size, 1 if single else len(images))
        checked = [
            _check_image(image, size, "" if single else f"image {i}, ")
            for i, (image, size) in enumerate(zip(images, sizes, strict=True))
        ]
        if not any(checked):
            raise PromptError("there is no prompt; give at least one Prompt with points, a box or a mask.")
        fields: Any = _to_arrays(checked)
        return jax.device_put(cls(*(field[0] if single else field for field in fields)))  # which compiles nothing


def prompts_from_arrays(
    points: ArrayLike | None, labels: ArrayLike | None, boxes: ArrayLike | None, masks: ArrayLike | None, side: int
) -> list[Prompt]:
    """SAM 2's arguments as B prompts, or as one where the arrays have no axis B.

    Points are [P, 2] or [B, P, 2], labels likewise, boxes [4] or [B, 4], masks [1, side, side] or [B, 1, side, side].
    One mask is used for all of B prompts, and one prompt with all of B masks.
    """
    arrays = {}
    if points is not None and labels is not None:
        arrays["points"], arrays["labels"] = _points_and_labels(points, labels)
    elif points is not None or labels is not None:
        raise PromptError("point_coords and point_labels go together; one of them is missing.")
    if boxes is not None:
        corners = _to_float32(boxes, "box")
        if corners.shape[-1:] != (4,):
            raise PromptError(f"box has shape {corners.shape}; expected [4], or [boxes, 4].")
        arrays["box"] = corners.reshape(-1, 4)
        if len(arrays["box"]) != len(arrays.get("points", arrays["box"])):
            raise PromptError(
                f"there are {len(arrays['box'])} boxes, and points for {len(arrays['points'])} prompts; "
                "expected the same number: a box and its points are one prompt."
            )
    if masks is not None:
        logits = _to_float32(masks, "mask_input")
        if logits.ndim not in (3, 4) or logits.shape[-3:] != (1, side, side):
            raise PromptError(
                f"mask_input has shape {logits.shape}; expected logits [1, {side}, {side}], such as predict returns, "
                f"or [prompts, 1, {side}, {side}]."
            )
        arrays["mask"] = logits.reshape(-1, side, side)
    count = max(map(len, arrays.values()), default=0)
    if not count or any(len(values) == 0 for values in arrays.values()):
        raise PromptError("there is no prompt; give points with labels, a box, or mask_input.")
    if any(len(values) not in (1, count) for values in arrays.values()):
        lengths = {name: len(values) for name, values in arrays.items()}
        raise PromptError(f"the numbers of prompts differ, {lengths}; expected one mask for each, or one for all.")
    return [Prompt(**{name: x[b if len(x) > 1 else 0] for name, x in arrays.items()}) for b in range(count)]


def _points_and_labels(
    points: ArrayLike, labels: ArrayLike
) -> tuple[Float[np.ndarray, "b p 2"], Float[np.ndarray, "b p"]]:
    xy, kinds = _to_float32(points, "point_coords"), _to_float32(labels, "point_labels")
    if xy.ndim not in (2, 3) or xy.shape[-1] != 2:
        raise PromptError(f"point_coords has shape {xy.shape}; expected [points, 2], or [prompts, points, 2].")
    if kinds.shape != xy.shape[:-1]:
        raise PromptError(f"point_labels has shape {kinds.shape}; expected one for each point, {xy.shape[:-1]}.")
    return (xy, kinds) if xy.ndim == 3 else (xy[None], kinds[None])


class _CheckedPrompt(NamedTuple):
    points: Float[np.ndarray, "p 2"]  # relative to the image's width and height
    labels: Int[np.ndarray, "p"]
    mask: Float[np.ndarray, "h w"] | None


def _check_sizes(size: Any, count: int) -> list[Size | None]:
    """The size of each of `count` images, from one for all of them or a list."""
    if size is None:
        return [None] * count
    sizes = [size] * count if len(size) and np.ndim(size[0]) == 0 else list(size)
    for each in sizes:
        if np.shape(each) != (2,) or not all(isinstance(n, int | np.integer) and n > 0 for n in each):
            raise PromptError(f"an image's size is {each!r}; expected (height, width) in pixels.")
    if len(sizes) != count:
        raise PromptError(f"there are prompts about {count} images, and {len(sizes)} sizes.")
    return [(int(height), int(width)) for height, width in sizes]


def _check_image(prompts: Any, size: Size | None, name: str) -> list[_CheckedPrompt]:
    if not isinstance(prompts, list | tuple):
        raise PromptError(f"{name}a {type(prompts).__name__} where a list of Prompts was expected.")
    return [_check_prompt(prompt, size, f"{name}prompt {index}") for index, prompt in enumerate(prompts)]


def _check_prompt(prompt: Any, size: Size | None, name: str) -> _CheckedPrompt:
    if not isinstance(prompt, Prompt):
        raise PromptError(f"{name} is a {type(prompt).__name__}; expected a Prompt.")
    if prompt.frame != 0 or prompt.obj_id is not None:
        raise PromptError(f"{name}: frame and obj_id are for videos; leave them out, an image has neither.")
    mask = None if prompt.mask is None else _check_logits(prompt.mask, name)
    if mask is not None and prompt.points is None and prompt.labels is None and prompt.box is None:
        return _CheckedPrompt(np.zeros((0, 2), np.float32), np.zeros(0, np.int32), mask)
    points, labels = check_points(prompt.points, prompt.labels, prompt.box, name)
    if size is not None:
        check_inside(points, size, name)
        points = points / np.array([size[::-1]], np.float32)
    elif ((points < 0) | (points > 1)).any():
        raise PromptError(
            f"{name}: coordinates are {points.tolist()}; expected them relative to the image's size, from 0 to 1."
        )
    return _CheckedPrompt(points, labels, mask)


def _check_logits(mask: ArrayLike, name: str) -> Float[np.ndarray, "h w"]:
    array = _to_float32(mask, f"{name}: the mask")
    if array.ndim != 2 or not array.size:
        raise PromptError(f"{name}: the mask has shape {array.shape}; expected logits [height, width].")
    if not np.isfinite(array).all():
        raise PromptError(f"{name}: the mask holds values that are not finite.")
    return array


def _to_float32(values: Any, name: str) -> Float[np.ndarray, "..."]:
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} cannot be read as numbers ({error}).") from error


def _to_arrays(images: Sequence[Sequence[_CheckedPrompt]]) -> tuple[np.ndarray, ...]:
    """The fields of `ImagePrompts`, with an axis for the images."""
    entries = [(i, o, checked) for i, image in enumerate(images) for o, checked in enumerate(image)]
    lead = len(images), bucket(max(map(len, images)), smallest=1)
    capacity = bucket(1 + max(len(checked.labels) for *_, checked in entries), MIN_POINTS)
    shapes = {checked.mask.shape for *_, checked in entries if checked.mask is not None}
    if len(shapes) > 1:
        raise PromptError(f"the masks have different sizes, {sorted(shapes)}; expected one.")
    points, labels = np.zeros((*lead, capacity, 2), np.float32), np.full((*lead, capacity), Label.ABSENT, np.int32)
    masks = np.zeros((*lead, *(shapes.pop() if shapes else (0, 0))), np.float32)
    has_mask, valid = np.zeros(lead, bool), np.zeros(lead, bool)
    for i, o, checked in entries:
        valid[i, o] = True
        if len(checked.labels):  # a mask alone has no tokens, not even the one that closes a list of points
            points[i, o], labels[i, o] = closed(checked.points, checked.labels, capacity)
        if checked.mask is not None:
            masks[i, o], has_mask[i, o] = checked.mask, True
    return points, labels, masks, has_mask, valid
