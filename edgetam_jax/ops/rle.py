"""Run-length encoding of masks in COCO's two formats, {"size": [height, width], "counts": ...}.

Runs go down the columns and alternate, the first one of background (0 if the first pixel is foreground). Uncompressed,
`counts` is a list of numbers. Compressed, it is a string, as pycocotools writes it.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64

from edgetam_jax.errors import EdgeTAMError

# A character holds six bits: five of the number, and whether more follow. The last one's fifth bit is the sign.
_OFFSET = 48
_MORE = 32
_SIGN = 16


def rle_encode(mask: np.ndarray) -> dict[str, list[int]]:
    """The uncompressed run-length encoding of a mask [H, W]."""
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise EdgeTAMError(f"the mask has shape {mask.shape}; expected [H, W]. Encode masks one by one.")
    flat = np.concatenate([[False], mask.astype(bool).ravel(order="F")])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], starts, [mask.size]]))
    return {"size": [int(n) for n in mask.shape], "counts": counts.tolist()}


def rle_decode(rle: dict[str, Any]) -> Bool[np.ndarray, "h w"]:
    """The mask [H, W] of a run-length encoding in either format."""
    height, width, counts = _read(rle)
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(height, width, order="F")


def rle_area(rle: dict[str, Any]) -> int:
    """The number of pixels in the mask."""
    return int(_read(rle)[2][1::2].sum())


def rle_compress(rle: dict[str, Any]) -> dict[str, Any]:
    """The encoding with its counts as COCO's string."""
    height, width, counts = _read(rle)
    # From the fourth on, a count is stored as its difference from the one before the last.
    values = counts.copy()
    values[3:] -= counts[1:-2]
    characters, used = [], []
    unfinished = np.ones(len(values), bool)
    while unfinished.any():
        low, values = values & (_MORE - 1), values >> 5
        more = np.where(low & _SIGN, values != -1, values != 0)
        characters.append(low + _MORE * more + _OFFSET)
        used.append(unfinished)
        unfinished = unfinished & more
    text = np.stack(characters, 1)[np.stack(used, 1)] if characters else np.zeros(0)
    return {"size": [height, width], "counts": text.astype(np.uint8).tobytes().decode("ascii")}


def counts_of_edges(
    edges: Bool[np.ndarray, "w rows"], corner: tuple[int, int], size: tuple[int, int]
) -> Int32[np.ndarray, "counts"]:
    """The counts of a mask that is given by its edges.

    Args:
        edges: [W, H + 1], for each column where a pixel differs from the one above. Above the first row is background;
            the last row is background, too.
        corner: Position (x, y) of the mask's first pixel in the image.
        size: The image's (height, width).

    Returns:
        [N] int32, the counts for the whole image.
    """
    (x, y), (height, width) = corner, size
    starts = np.flatnonzero(edges)
    starts = (starts // edges.shape[-1] + x) * height + starts % edges.shape[-1] + y
    # A run that ends a column and one that begins the next are one run, if the mask has the image's height.
    differs = np.ones(len(starts) + 1, bool)
    differs[1:-1] = starts[1:] != starts[:-1]
    starts = starts[differs[1:] & differs[:-1]]
    if len(starts) and starts[-1] == height * width:
        starts = starts[:-1]
    return np.diff(starts, prepend=0, append=height * width).astype(np.int32)


def _read(rle: dict[str, Any]) -> tuple[int, int, Int64[np.ndarray, "counts"]]:
    """Height, width and uncompressed counts."""
    try:
        height, width = map(int, rle["size"])
        counts = rle["counts"]
        if isinstance(counts, str | bytes):
            counts = _decompress(counts if isinstance(counts, bytes) else counts.encode("ascii"))
        counts = np.asarray(counts, np.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise EdgeTAMError(
            f'not a run-length encoding ({error}); expected {{"size": [height, width], "counts": list or string}}.'
        ) from error
    if counts.ndim != 1 or (counts < 0).any() or counts.sum() != height * width:
        raise EdgeTAMError(f"the counts add up to {counts.sum()}; expected {height} x {width} = {height * width}.")
    if min(height, width) < 1:
        raise EdgeTAMError(f"the size is {height} x {width} (height x width); expected at least one pixel.")
    return height, width, counts


def _decompress(text: bytes) -> Int64[np.ndarray, "counts"]:
    characters = np.frombuffer(text, np.uint8).astype(np.int64) - _OFFSET
    if ((characters < 0) | (characters >= 2 * _MORE)).any():
        raise ValueError("the string has invalid characters")
    last = (characters & _MORE) == 0
    if len(characters) and not last[-1]:
        raise ValueError("the string ends inside a count")
    index = np.cumsum(last) - last  # of the count that each character belongs to
    ends = np.flatnonzero(last)
    position = np.arange(len(characters)) - np.concatenate([[0], ends + 1])[index]
    if (position > 6).any():
        raise ValueError("a count has more than seven characters")
    values = np.zeros(len(ends), np.int64)
    np.add.at(values, index, (characters & (_MORE - 1)) << (5 * position))
    negative = (characters[ends] & _SIGN) != 0
    values -= np.where(negative, np.int64(1) << (5 * (position[ends] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
