"""Checks of points, boxes and masks that a user gives, as NumPy arrays."""

import numpy as np
from numpy.typing import ArrayLike

from edgetam_jax.errors import PromptError
from edgetam_jax.types import Label


def check_points(
    points: ArrayLike | None, labels: ArrayLike | None, box: ArrayLike | None, name: str = "prompt"
) -> tuple[np.ndarray, np.ndarray]:
    """Points [P, 2] and labels [P] as arrays, after the two corners of the box if there is one.

    `name` begins the message of a `PromptError`.
    """
    if (points is None) != (labels is None):
        raise PromptError(f"{name}: points and labels go together; one of them is missing.")
    if points is None and box is None:
        raise PromptError(f"{name}: it holds neither points nor a box nor a mask.")
    xy = np.zeros((0, 2), np.float32) if points is None else _numbers(points, f"{name}: points")
    if xy.size and xy.shape[-1:] != (2,):
        raise PromptError(f"{name}: points have shape {xy.shape}; expected [count, 2].")
    xy = xy.reshape(-1, 2)
    kinds = np.zeros(0) if labels is None else _numbers(labels, f"{name}: labels").reshape(-1)
    if len(xy) != len(kinds):
        raise PromptError(f"{name}: {len(xy)} points and {len(kinds)} labels; expected as many of each.")
    if points is not None and not len(xy):
        raise PromptError(f"{name}: the list of points is empty.")
    if not np.isin(kinds, (Label.NEGATIVE, Label.POSITIVE)).all():
        raise PromptError(f"{name}: labels are {kinds.tolist()}; expected 1 (on the object) or 0 (off it).")
    kinds = kinds.astype(np.int32)
    if box is not None:
        corners = _numbers(box, f"{name}: box").reshape(-1)
        if corners.size != 4 or not (corners[:2] < corners[2:]).all():
            raise PromptError(f"{name}: box is {corners.tolist()}; expected x0, y0, x1, y1 with x0 < x1 and y0 < y1.")
        xy = np.concatenate([corners.reshape(2, 2), xy])
        kinds = np.concatenate([np.array([Label.BOX_START, Label.BOX_END], np.int32), kinds])
    return xy, kinds


def check_mask(mask: ArrayLike, name: str = "prompt") -> np.ndarray:
    """A mask [H, W] as booleans: values above zero are on the object."""
    array = _numbers(mask, f"{name}: the mask")
    if array.ndim != 2 or not array.size:
        raise PromptError(f"{name}: the mask has shape {array.shape}; expected [height, width].")
    if not (array > 0).any():
        raise PromptError(f"{name}: the mask is empty; it must cover at least one pixel.")
    return array > 0


def check_inside(points: np.ndarray, size: tuple[int, int], name: str = "prompt") -> None:
    """Raises a `PromptError` unless points [P, 2] lie in a frame of `size` (height, width), edges included."""
    height, width = size
    outside = points[(points < 0).any(-1) | (points > (width, height)).any(-1)]
    if len(outside):
        raise PromptError(f"{name}: {outside[0].tolist()} (x, y) lies outside the frame of {width}x{height} pixels.")


def _numbers(values: ArrayLike, name: str) -> np.ndarray:
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} cannot be read as numbers ({error}).") from error
    if not np.isfinite(array).all():
        shown = f": {array.tolist()}" if array.size < 20 else ""
        raise PromptError(f"{name} holds values that are not finite{shown}.")
    return array
