"""Colours of objects, which belong to their ids, and masks as palette images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from edgetam_jax.errors import PromptError

# Any two differ by 27 or more (CIE 1976) for eyes that lack the red, green or blue cones, by 46 for others. The usual
# colour-blind palettes, made for white paper, keep 13 to 16.
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
    """[O, 3] uint8. Eight ids get colours that nobody confuses, the next eight paler ones, then darker ones."""
    ids = np.asarray(obj_ids, int).reshape(-1)
    shade = ids // len(PALETTE) % 3
    towards = np.array([0.0, 255.0, 0.0])[shade, None]
    share = np.array([0.0, 0.5, 0.5])[shade, None]
    return np.round(PALETTE[ids % len(PALETTE)] * (1 - share) + towards * share).astype(np.uint8)


def mask_to_palette(masks: ArrayLike, obj_ids: Sequence[int] | None = None) -> Image.Image:
    """One palette image of masks [O, H, W], as DAVIS keeps them: 0 is nobody, other values are ids.

    Without `obj_ids` they are 1, 2, ... Where masks overlap, the last has the pixel.
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
    """[256, 3] uint8: an id's bits, dealt out to red, green and blue, the highest first."""
    ids = np.arange(256)
    colors = np.zeros((256, 3), int)
    for level in range(3):
        for channel in range(3):
            colors[:, channel] |= (ids >> (3 * level + channel) & 1) << (7 - level)
    return colors.astype(np.uint8)


def check_masks(masks: ArrayLike) -> np.ndarray:
    """Masks [O, H, W], [O, 1, H, W] or [H, W] of 0 and 1 as booleans [O, H, W]."""
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
