"""The interface of training data: videos and still images with their masks, read piece by piece."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from edgetam_jax.data.polygons import polygon_area, polygons_mask, read_polygons
from edgetam_jax.errors import EdgeTAMError, FrameError
from edgetam_jax.ops.rle import rle_area, rle_decode


class NoObjectError(FrameError):
    """Footage that shows no object. Batches take other footage of the same dataset in its place."""


class AnnotatedFrame(NamedTuple):
    """A frame, and the true masks of some objects."""

    image: Image.Image  # RGB, resized to the square of the network's input
    masks: np.ndarray  # [O, H, W] bool, at the frame's own size; False for objects that it does not show


class Footage(Protocol):
    """A video, or a still image as a video of one frame. Its length is the number of annotated frames."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def area_shares(self, frame: int) -> dict[int, float]:
        """The share of an annotated frame that each object covers, of the objects that it shows."""
        ...

    def read_frames(self, frames: Sequence[int], objects: Sequence[int], side: int) -> Iterator[AnnotatedFrame]:
        """Reads annotated frames, in ascending order, at side x side, with the masks of these objects."""
        ...


class FootageSource(Protocol):
    """A dataset with random access to its footage, which is read when it is accessed."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Footage: ...


def stack_masks(masks: Sequence[np.ndarray], where: Any) -> np.ndarray:
    """Stacks the masks of the objects on one frame: [O, H, W]."""
    if len({mask.shape for mask in masks}) > 1:
        raise FrameError(f"{where}: the masks of the objects on this frame differ in size; all must have the frame's.")
    return np.stack(masks)


def make_frame(image: Image.Image, masks: np.ndarray, size: tuple[int, int], where: Any) -> AnnotatedFrame:
    """Checks that the masks have the `size` (height, width) of the frame before it was resized."""
    if masks.shape[1:] != size:
        raise FrameError(
            f"{where}: its masks are {masks.shape[2]}x{masks.shape[1]} (width x height), the frame is "
            f"{size[1]}x{size[0]}; both must have one size."
        )
    return AnnotatedFrame(image, masks)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FrameError(f"{path}: not JSON that can be read ({error}); replace or remove it.") from error


def decode_mask(segmentation: Any, size: tuple[int, int], where: Any) -> np.ndarray:
    """The mask [H, W] of run-lengths or of a list of polygons."""
    if not isinstance(segmentation, dict):
        return polygons_mask(read_polygons(segmentation, where), size)
    try:
        return rle_decode(segmentation)
    except EdgeTAMError as error:
        raise FrameError(f"{where}: {error}") from error


def mask_area(segmentation: Any, where: Any) -> float:
    """The number of pixels of run-lengths; for polygons the sum of their areas, which is about the same."""
    if not isinstance(segmentation, dict):
        return sum(map(polygon_area, read_polygons(segmentation, where)))
    try:
        return rle_area(segmentation)
    except EdgeTAMError as error:
        raise FrameError(f"{where}: {error}") from error


def raise_if_any(names: Iterable[Any], problem: str) -> None:
    """Raises if there are names of files with a problem, so that it is found before training starts."""
    names = list(names)
    if names:
        listed = ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
        raise FrameError(f"{len(names)} {problem}: {listed}")
