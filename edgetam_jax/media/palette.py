"""Colours of objects, which belong to their ids, and masks as palette images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from edgetam_jax.errors import PromptError

# Any two colours differ by at least 46 (CIE 1976) in normal vision, and by 27 in each kind of colour blindness. Usual
# palettes for colour blindness are made for white paper and reach 13 to 16.
PALETTE = np.array(
    [
        (0, 92, 255),  # blue
        (212, 160, 0),  # amber
        (0, 168, 88),  # green
        (255, 112, 176),  # pink
        (84, 236, 255),  # cyan
        (196, 0, 0),  # red
        (214, 248, 124),  # lime
        (160, 32, 170),  # purple
    ],
    np.uint8,
)


def object_colors(obj_ids: Sequence[int]) -> np.ndarray:
    """Colours of objects, by their ids.

    The ids 0 to 7 have colours that can be told apart also with colour blindness, the next eight have paler ones, and
    the next eight darker ones; then they repeat.

    Args:
        obj_ids: O integers.

    Returns:
        [O, 3] uint8, red, green and blue.
    """
    ids = np.asarray(obj_ids, int).reshape(-1)
    shade = ids // len(PALETTE) % 3  # as they are, mixed with white, mixed with black
    added = np.array([0.0, 255.0, 0.0])[shade, None]
    opacity = np.array([0.0, 0.5, 0.5])[shade, None]
    return np.round(PALETTE[ids % len(PALETTE)] * (1 - opacity) + added * opacity).astype(np.uint8)


def mask_to_palette(masks: ArrayLike, obj_ids: Sequence[int] | None = None) -> Image.Image:
    """Stores masks in one palette image as DAVIS does: 0 is the background, other values are object ids.

    Args:
        masks: [O, H, W], [O, 1, H, W] or [H, W] of bool, or of 0 and 1. Where they overlap, the last is stored.
        obj_ids: O ids from 1 to 255. By default 1, 2, ...

    Returns:
        A PIL image of mode "P" with the palette of DAVIS.

    Raises:
        PromptError: The masks are malformed, or the ids do not fit.
    """
    layers = check_masks(masks)
    ids = np.arange(1, len(layers) + 1) if obj_ids is None else np.asarray(obj_ids).reshape(-1)
    if len(ids) != len(layers):
        raise PromptError(f"there are {len(ids)} object ids and {len(layers)} masks; expected as many of each.")
    if ids.size and not (ids.min() >= 1 and ids.max() <= 255):
        raise PromptError(f"object ids are {ids.tolist()}; a palette image holds 1 to 255.")
    values = np.zeros(layers.shape[1:], np.uint8)
    for mask, obj_id in zip(layers, ids, strict=True):
        values[mask] = obj_id
    image = Image.fromarray(values)
    image.putpalette(davis_palette().tobytes())
    return image


def davis_palette() -> np.ndarray:
    """The palette of DAVIS and PASCAL VOC: the bits of an id in turn set the highest bits of red, green and blue.

    Returns:
        [256, 3] uint8.
    """
    ids = np.arange(256)
    colors = np.zeros((256, 3), int)
    for level in range(3):
        for channel in range(3):
            colors[:, channel] |= (ids >> (3 * level + channel) & 1) << (7 - level)
    return colors.astype(np.uint8)


def check_masks(masks: ArrayLike) -> np.ndarray:
    """Checks masks and gives them one form.

    Args:
        masks: [O, H, W], [O, 1, H, W] or [H, W] of bool, or of 0 and 1.

    Returns:
        [O, H, W] bool.

    Raises:
        PromptError: The shape is another one, or there are other values, such as logits.
    """
    array = np.asarray(masks)
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise PromptError(f"the masks have shape {array.shape}; expected [objects, height, width].")
    if array.dtype != bool and not ((array == 0) | (array == 1)).all():
        raise PromptError("the masks hold more than 0 and 1; of logits give `logits > 0`.")
    return array.astype(bool)
