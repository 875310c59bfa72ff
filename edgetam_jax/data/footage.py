"""What a dataset consists of: videos and still images with their annotations, read piece by piece when asked for."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from edgetam_jax.data.polygons import polygon_mask
from edgetam_jax.errors import EdgeTAMError, FrameError
from edgetam_jax.ops.rle import rle_area, rle_decode

FAR = 1 << 20  # pixels; no image is so large


class NothingShownError(FrameError):
    """Footage without an object to learn from. In training, other footage of the same dataset takes its place."""


class Picture(NamedTuple):
    """A frame, and the truth about some objects in it."""

    image: Image.Image  # RGB, already resized to the square that the network sees
    masks: np.ndarray  # [O, H, W] bool, at the frame's own size; False for objects that it does not show


class Footage(Protocol):
    """One video; or a still image, which is a video of one frame. Its length is the number of annotated frames."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def shares(self, frame: int) -> dict[int, float]:
        """How much of an annotated frame each object covers, of those that it shows."""
        ...

    def pictures(self, frames: Sequence[int], objects: Sequence[int], side: int) -> Iterator[Picture]:
        """Annotated frames, in ascending order, at side x side, with these objects' masks."""
        ...


class Source(Protocol):
    """Random access to footage; nothing is read before it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Footage: ...


def stacked(masks: Sequence[np.ndarray], where: Any) -> np.ndarray:
    """Objects' masks on one frame as [O, H, W]."""
    if len({mask.shape for mask in masks}) > 1:
        raise FrameError(f"{where}: the masks of the objects on this frame differ in size; all must have the frame's.")
    return np.stack(masks)


def picture(image: Image.Image, masks: np.ndarray, size: tuple[int, int], where: Any) -> Picture:
    """With a check that the masks are of the size of the frame before it was resized."""
    if masks.shape[1:] != size:
        raise FrameError(
            f"{where}: its masks are {masks.shape[2]}x{masks.shape[1]} (width x height), the frame is "
            f"{size[1]}x{size[0]}; both must have one size."
        )
    return Picture(image, masks)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FrameError(f"{path}: not JSON that can be read ({error}); replace or remove it.") from error


def decode(segmentation: Any, size: tuple[int, int], where: Any) -> np.ndarray:
    """The mask [H, W] of run-lengths or of a list of polygons."""
    if not isinstance(segmentation, dict):
        masks = [polygon_mask(corners, size) for corners in polygons(segmentation, where)]
        return np.any(masks, 0) if masks else np.zeros(size, bool)
    try:
        return rle_decode(segmentation)
    except EdgeTAMError as error:
        raise FrameError(f"{where}: {error}") from error


def area(segmentation: Any, where: Any) -> float:
    """The pixels of run-lengths; about those of polygons, whose overlaps count twice."""
    if not isinstance(segmentation, dict):
        return sum(_enclosed(corners) for corners in polygons(segmentation, where))
    try:
        return rle_area(segmentation)
    except EdgeTAMError as error:
        raise FrameError(f"{where}: {error}") from error


def polygons(segmentation: Any, where: Any) -> list[np.ndarray]:
    """Flat lists x0, y0, x1, y1, ... as arrays [N, 2], without those of two corners, which enclose nothing."""
    try:
        corners = [np.asarray(flat, np.float64).reshape(-1, 2) for flat in segmentation]
    except (TypeError, ValueError) as error:
        raise FrameError(f"{where}: these are no polygons ({error}); expected lists of x0, y0, x1, y1, ...") from error
    if not all((np.abs(one) < FAR).all() for one in corners):
        raise FrameError(
            f"{where}: a polygon has corners that are not finite or far from any image; "
            "expected pixels x0, y0, x1, y1, ..."
        )
    return [one for one in corners if len(one) > 2]


def _enclosed(corners: np.ndarray) -> float:
    x, y = corners.T
    return abs(float(np.dot(x, np.roll(y, -1) - np.roll(y, 1)))) / 2


def refuse(names: Iterable[Any], what: str) -> None:
    """Raises if there are any: a folder that is not whole is better found before training than after a day."""
    names = list(names)
    if names:
        shown = ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
        raise FrameError(f"{len(names)} {what}: {shown}")
