"""Polygons to masks, by the rule of pycocotools, bit for bit."""

import numpy as np
from jaxtyping import Bool, Float

_FINE = 5  # the outline is walked on a grid so many times finer than the pixels


def polygon_mask(corners: Float[np.ndarray, "n 2"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The inside of a polygon with corners (x, y) in an image of `size` (height, width); what lies outside is cut off.

    Down each column, the mask begins and ends where the outline crosses the column's middle.
    """
    height, width = size
    x, y = _outline((_FINE * corners + 0.5).astype(np.int64))
    left, top = np.minimum(x[1:], x[:-1]), np.minimum(y[1:], y[:-1])
    column = (left + 0.5) / _FINE - 0.5
    crossed = (x[1:] != x[:-1]) & (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    row = np.ceil(np.clip((top[crossed] + 0.5) / _FINE - 0.5, 0, height))
    # What ends a column's last run at the bottom begins the next column, which has a crossing of its own for that.
    places = (column[crossed] * height + row).astype(np.int64)
    turns = np.bincount(places, minlength=height * width + 1)[: height * width]
    return (np.cumsum(turns, dtype=np.uint8) % 2 == 1).reshape(size, order="F")


def _outline(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All points of the grid [P] on the way around, from corner to corner; of a steep side one for each row."""
    start, end = corners, np.roll(corners, -1, axis=0)
    steps = np.abs(end - start)
    steep = steps[:, 1] > steps[:, 0]
    # From here on (long, short): along the axis on which the side is longer, and across it.
    start, end, steps = (np.where(steep[:, None], pair[:, ::-1], pair) for pair in (start, end, steps))
    backwards = start[:, 0] > end[:, 0]
    low, high = (np.where(backwards[:, None], *pair) for pair in ((end, start), (start, end)))
    slope = (high - low)[:, 1] / np.maximum(steps[:, 0], 1)
    count = steps[:, 0] + 1
    side = np.repeat(np.arange(len(corners)), count)
    walked = np.arange(len(side)) - np.repeat(np.cumsum(count) - count, count)
    along = np.where(backwards[side], steps[side, 0] - walked, walked)
    across = (low[side, 1] + slope[side] * along + 0.5).astype(np.int64)
    along = along + low[side, 0]
    return np.where(steep[side], across, along), np.where(steep[side], along, across)
