"""Smooth outlines of masks, from the distance of pixels to the masks' borders, which Pillow cannot compute."""

import numpy as np

HALO_OPACITY = 0.55  # of the dark band around lines


def paint_contours(picture: np.ndarray, masks: np.ndarray, colors: np.ndarray, line: int) -> None:
    """Draws a line along the border of each mask, on a slightly wider dark one. Changes `picture`.

    Args:
        picture: [H, W, 3] uint8.
        masks: [O, H, W] bool. Later ones are drawn on top.
        colors: [O, 3], values from 0 to 255.
        line: Width of the lines in pixels.
    """
    halo = max(1.0, line / 2)
    for mask, color in zip(masks, colors, strict=True):
        rows, columns, distance = _border_distance(mask, line + halo + 1)
        # An odd line is centred on the pixels inside the border, so that horizontal and vertical ones are sharp.
        distance = np.abs(distance + (line % 2) / 2)
        painted = distance < line / 2 + halo + 0.5
        rows, columns, distance = rows[painted], columns[painted], distance[painted]
        pixels = picture[rows, columns]
        pixels = _mix(pixels, 0, HALO_OPACITY * np.clip(line / 2 + halo + 0.5 - distance, 0, 1))
        picture[rows, columns] = _mix(pixels, color, np.clip(line / 2 + 0.5 - distance, 0, 1))


def _mix(pixels: np.ndarray, color: np.ndarray | int, opacity: np.ndarray) -> np.ndarray:
    """A colour over pixels [N, 3] with an opacity [N] from 0 to 1."""
    opacity = opacity[:, None]
    return np.round(pixels * (1 - opacity) + np.asarray(color, float) * opacity).astype(np.uint8)


def _border_distance(mask: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of pixels near a mask's border, and their distances from it, which are negative inside.

    Distances are smoothed, so that the steps of a slanted border become a line. Where a mask ends with the image, there
    is no border.

    Args:
        mask: [H, W] bool.
        limit: Pixels farther away are left out.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return rows, rows, np.zeros(0)
    radius = int(np.ceil(limit)) + 1
    top, left = max(rows[0] - radius, 0), max(columns[0] - radius, 0)
    cropped = np.pad(mask[top : rows[-1] + radius + 1, left : columns[-1] + radius + 1], 2 * radius, mode="edge")
    codes, distances = _quantized_distances(cropped, radius)
    unpadded = codes[2 * radius : -2 * radius, 2 * radius : -2 * radius]
    rows, columns = np.nonzero((unpadded != 0) & (unpadded != len(distances) // 2))
    width = cropped.shape[1]
    distance = _smoothed(codes.ravel(), distances, (rows + 2 * radius) * width + columns + 2 * radius, width)
    near = np.abs(distance) <= limit
    return rows[near] + top, columns[near] + left, distance[near]


def _quantized_distances(mask: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """The distance of each pixel to the nearest pixel on the other side of the border, if less than `radius`.

    Returns:
        codes: [H, W], indices into `distances`.
        distances: The first half is for pixels outside, the second for pixels inside. The first of either half
            stands for all pixels that are farther away.
    """
    steps = np.arange(-radius, radius + 1)
    lengths = np.hypot(*np.meshgrid(steps, steps, indexing="ij"))
    levels = np.unique(np.append(radius, lengths[lengths < radius]))[::-1]
    count = len(levels)
    # The first plane is for the distance to the nearest pixel inside, the second to the nearest outside.
    codes = np.zeros((2, *mask.shape), np.min_scalar_type(2 * count))
    border, flat = _border_pixels(mask, radius), codes.reshape(-1)
    sources = np.concatenate([np.flatnonzero(border & mask), np.flatnonzero(border & ~mask) + mask.size])
    # From the longest step to the shortest, so that the nearest border pixel is written last.
    for i, j in np.argwhere(lengths < radius)[np.argsort(-lengths[lengths < radius], kind="stable")]:
        flat[sources + (steps[i] * mask.shape[1] + steps[j])] = np.searchsorted(-levels, -lengths[i, j])
    return np.where(mask, codes[1] + codes.dtype.type(count), codes[0]), np.append(levels - 0.5, 0.5 - levels)


def _border_pixels(mask: np.ndarray, margin: int) -> np.ndarray:
    """Pixels with a neighbour on the other side of the border, except within `margin` of the array's edges."""
    border = np.zeros_like(mask)
    for pixels, marked in ((mask, border), (mask.T, border.T)):
        differs = pixels[1:] != pixels[:-1]
        marked[1:] |= differs
        marked[:-1] |= differs
    border[:margin] = border[-margin:] = border[:, :margin] = border[:, -margin:] = False
    return border


def _smoothed(codes: np.ndarray, distances: np.ndarray, at: np.ndarray, width: int) -> np.ndarray:
    """Distances at flat indices `at`, filtered with the weights 1/4, 1/2, 1/4 along both axes."""
    columns = []
    for column in (-1, 0, 1):
        above, here, below = (distances[codes[at + (row * width + column)]] for row in (-1, 0, 1))
        columns.append(0.25 * above + 0.5 * here + 0.25 * below)
    return 0.25 * columns[0] + 0.5 * columns[1] + 0.25 * columns[2]
