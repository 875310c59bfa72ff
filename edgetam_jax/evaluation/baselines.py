"""Tracking without a network, by the frame on which an object is known: what networks have to beat."""

from typing import NamedTuple

import numpy as np

SEARCH = 0.1  # how far a box may move from one frame to the next, as a share of the frame's shorter side
FLAT = 0.5  # whole numbers that are not all alike have a larger sum of squares around their mean; less is rounding


class Corner(NamedTuple):
    """The top left one of a box."""

    y: int
    x: int


def hold_still(frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask [H, W] of the first of T frames on all of them: [T, H, W]."""
    return np.broadcast_to(mask, (len(frames), *mask.shape))


def follow_box(frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask [H, W] of the first of the frames [T, H, W, 3] moved by its box's best match in each: [T, H, W].

    What is sought is always the box's pixels on the first frame, in a window around the last place. The box stays
    within the frame.
    """
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    place, size = Corner(rows[0], columns[0]), (int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
    patch, inside = (_cut(image, place, size) for image in (frames[0], mask))
    reach = max(1, round(SEARCH * min(mask.shape)))
    found = np.zeros((len(frames), *mask.shape), bool)
    found[0] = mask
    for frame, masks in zip(frames[1:], found[1:], strict=True):
        first = Corner(*(max(0, at - reach) for at in place))
        window = _cut(frame, first, [at - low + side + reach for at, low, side in zip(place, first, size, strict=True)])
        likeness = correlation(window, patch)
        moved = np.unravel_index(np.argmax(likeness), likeness.shape)
        place = Corner(*(int(low + by) for low, by in zip(first, moved, strict=True)))
        _cut(masks, place, size)[...] = inside
    return found


def correlation(window: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """Normalised cross-correlation, -1 to 1, of a patch [h, w, C] with all places of a window [H, W, C].

    Colours count together, each less its mean: [H - h + 1, W - w + 1].
    """
    window, patch = window.astype(float), patch - patch.mean((0, 1))
    shape, size = window.shape[:2], patch.shape[:2]
    spectra = [np.fft.rfft2(pixels, s=shape, axes=(0, 1)) for pixels in (window, patch)]
    shared = np.fft.irfft2((spectra[0] * spectra[1].conj()).sum(-1), s=shape)
    shared = shared[: shape[0] - size[0] + 1, : shape[1] - size[1] + 1]
    sums, squares = _sums(window, size), _sums(window**2, size)
    spread = (squares - sums**2 / (size[0] * size[1])).sum(-1)
    return shared / np.sqrt(np.maximum(spread, FLAT) * max((patch**2).sum(), FLAT))


def _sums(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Over the boxes of a size at all places."""
    total = np.pad(pixels.cumsum(0).cumsum(1), ((1, 0), (1, 0), (0, 0)))
    tall = total[size[0] :] - total[: -size[0]]
    return tall[:, size[1] :] - tall[:, : -size[1]]


def _cut(image: np.ndarray, place: Corner, size: list[int] | tuple[int, int]) -> np.ndarray:
    return image[place.y : place.y + size[0], place.x : place.x + size[1]]
