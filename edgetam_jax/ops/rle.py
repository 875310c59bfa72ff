"""Run-lengths of masks in COCO's two forms: {"size": [height, width], "counts": ...}.

Uncompressed, the counts are numbers: of the pixels column by column, beginning with background (0 if there is none).
Compressed, they are one text, as pycocotools writes it.
"""

from typing import Any

import numpy as np

from edgetam_jax.errors import EdgeTAMError

_FIRST = 48  # "0": each letter holds six bits, five of the number and whether more follow
_MORE = 32
_SIGN = 16


def rle_encode(mask: np.ndarray) -> dict[str, list[int]]:
    """The uncompressed run-lengths of [H, W]."""
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise EdgeTAMError(f"the mask has shape {mask.shape}; expected [H, W]. Encode masks one by one.")
    flat = np.concatenate([[False], mask.astype(bool).ravel(order="F")])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], starts, [mask.size]]))
    return {"size": [int(n) for n in mask.shape], "counts": counts.tolist()}


def rle_decode(rle: dict[str, Any]) -> np.ndarray:
    """The mask [H, W] of run-lengths in either form."""
    height, width, counts = _read(rle)
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(height, width, order="F")


def rle_area(rle: dict[str, Any]) -> int:
    """How many pixels the mask has."""
    return int(_read(rle)[2][1::2].sum())


def rle_compress(rle: dict[str, Any]) -> dict[str, Any]:
    """Run-lengths with their counts as COCO's text."""
    height, width, counts = _read(rle)
    # From the fourth on, each count is told by how much it differs from the one before the last.
    values = counts.copy()
    values[3:] -= counts[1:-2]
    letters, used = [], []
    going = np.ones(len(values), bool)
    while going.any():
        low, values = values & (_MORE - 1), values >> 5
        # The last letter's highest bit is the sign of all that is not told.
        more = np.where(low & _SIGN, values != -1, values != 0)
        letters.append(low + _MORE * more + _FIRST)
        used.append(going)
        going = going & more
    text = np.stack(letters, 1)[np.stack(used, 1)] if letters else np.zeros(0)
    return {"size": [height, width], "counts": text.astype(np.uint8).tobytes().decode("ascii")}


def counts_of_edges(edges: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The counts of a mask whose columns are [w, h + 1] of where a pixel differs from the one above it.

    What lies above the first row is background, so is the last row. `corner` (x, y) is where the mask's first pixel
    lies in an image of `size` (height, width).
    """
    (x, y), (height, width) = corner, size
    at = np.flatnonzero(edges)
    at = (at // edges.shape[-1] + x) * height + at % edges.shape[-1] + y
    # A run that ends a column and one that begins the next are one run, if the mask has the image's height.
    ends = np.ones(len(at) + 1, bool)
    ends[1:-1] = at[1:] != at[:-1]
    at = at[ends[1:] & ends[:-1]]
    if len(at) and at[-1] == height * width:
        at = at[:-1]
    return np.diff(at, prepend=0, append=height * width).astype(np.int32)


def _read(rle: dict[str, Any]) -> tuple[int, int, np.ndarray]:
    """Height, width and the counts as numbers."""
    try:
        height, width = map(int, rle["size"])
        counts = rle["counts"]
        if isinstance(counts, str | bytes):
            counts = _counts_of_text(counts if isinstance(counts, bytes) else counts.encode("ascii"))
        counts = np.asarray(counts, np.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise EdgeTAMError(
            f'these are no run-lengths ({error}); expected {{"size": [height, width], "counts": numbers or text}}.'
        ) from error
    if counts.ndim != 1 or (counts < 0).any() or counts.sum() != height * width:
        raise EdgeTAMError(f"the counts add up to {counts.sum()}; expected {height} x {width} = {height * width}.")
    if min(height, width) < 1:
        raise EdgeTAMError(f"the size is {height} x {width} (height x width); expected at least one pixel.")
    return height, width, counts


def _counts_of_text(text: bytes) -> np.ndarray:
    letters = np.frombuffer(text, np.uint8).astype(np.int64) - _FIRST
    if ((letters < 0) | (letters >= 2 * _MORE)).any():
        raise ValueError("the text holds letters that no count has")
    last = (letters & _MORE) == 0
    if len(letters) and not last[-1]:
        raise ValueError("the text ends inside a count")
    number = np.cumsum(last) - last  # which count each letter belongs to
    ends = np.flatnonzero(last)
    place = np.arange(len(letters)) - np.concatenate([[0], ends + 1])[number]
    if (place > 6).any():
        raise ValueError("a count has more than seven letters")
    values = np.zeros(len(ends), np.int64)
    np.add.at(values, number, (letters & (_MORE - 1)) << (5 * place))
    negative = (letters[ends] & _SIGN) != 0
    values -= np.where(negative, np.int64(1) << (5 * (place[ends] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
