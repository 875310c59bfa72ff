"""Tracking without a network, from the true mask on the prompted frame: a lower bound for networks."""

from typing import NamedTuple

import numpy as np

SEARCH = 0.1  # how far a box may move from one frame to the next, as a share of the frame's shorter side
# The smallest sum of squared differences from the mean by which a correlation is divided. Pixels are integers, so that
# those of a region that is not uniform give a larger sum; a smaller one is a rounding error.
MIN_SQUARES = 0.5


class Corner(NamedTuple):
    """The top left corner of a box."""

    y: int
    x: int


def repeat_mask(frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Repeats the mask [H, W] of the first of T frames on all of them: [T, H, W]."""
    return np.broadcast_to(mask, (len(frames), *mask.shape))


def match_box(frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Moves the mask [H, W] of the first of the frames [T, H, W, 3] with its box's best match in each: [T, H, W].

    The template is always the box's pixels on the first frame. It is compared with all positions in a window around the
    box on the previous frame. The box stays within the frame.
    """
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    corner, size = Corner(rows[0], columns[0]), (int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
    template, box_mask = (_crop(image, corner, size) for image in (frames[0], mask))
    reach = max(1, round(SEARCH * min(mask.shape)))
    tracked = np.zeros((len(frames), *mask.shape), bool)
    tracked[0] = mask
    for frame, frame_mask in zip(frames[1:], tracked[1:], strict=True):
        start = Corner(*(max(0, at - reach) for at in corner))
        window_size = [at - low + side + reach for at, low, side in zip(corner, start, size, strict=True)]
        scores = correlation(_crop(frame, start, window_size), template)
        offset = np.unravel_index(np.argmax(scores), scores.shape)
        corner = Corner(*(int(low + by) for low, by in zip(start, offset, strict=True)))
        _crop(frame_mask, corner, size)[...] = box_mask
    return tracked


def correlation(window: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Normalised cross-correlation, -1 to 1, of a template [h, w, C] at all positions in a window [H, W, C].

    The sums go over pixels and colours, after each colour's mean is subtracted: [H - h + 1, W - w + 1].
    """
    window, template = window.astype(float), template - template.mean((0, 1))
    shape, size = window.shape[:2], template.shape[:2]
    spectra = [np.fft.rfft2(pixels, s=shape, axes=(0, 1)) for pixels in (window, template)]
    products = np.fft.irfft2((spectra[0] * spectra[1].conj()).sum(-1), s=shape)
    products = products[: shape[0] - size[0] + 1, : shape[1] - size[1] + 1]
    sums, squares = _box_sums(window, size), _box_sums(window**2, size)
    spread = (squares - sums**2 / (size[0] * size[1])).sum(-1)
    return products / np.sqrt(np.maximum(spread, MIN_SQUARES) * max((template**2).sum(), MIN_SQUARES))


def _box_sums(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Sums over the boxes of a size at all positions."""
    total = np.pad(pixels.cumsum(0).cumsum(1), ((1, 0), (1, 0), (0, 0)))
    tall = total[size[0] :] - total[: -size[0]]
    return tall[:, size[1] :] - tall[:, : -size[1]]


def _crop(image: np.ndarray, corner: Corner, size: list[int] | tuple[int, int]) -> np.ndarray:
    return image[corner.y : corner.y + size[0], corner.x : corner.x + size[1]]
