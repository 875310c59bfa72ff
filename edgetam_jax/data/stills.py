"""Training images: COCO's, with all annotations in one JSON file, and SA-1B's, with a file beside each image."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetam_jax.data.footage import (
    AnnotatedFrame,
    Footage,
    decode_mask,
    make_frame,
    mask_area,
    raise_if_any,
    read_json,
    stack_masks,
)
from edgetam_jax.data.polygons import import_coco_mask, read_polygons
from edgetam_jax.errors import FrameError
from edgetam_jax.media.image import read_square


class Still:
    """An image and the masks of its objects, as run-lengths or polygons."""

    def __init__(self, path: Path, size: tuple[int, int], segmentations: Sequence[Any]) -> None:
        self.name, self._path, self._size, self._segmentations = path.name, path, size, segmentations

    def __len__(self) -> int:
        return 1

    def area_shares(self, frame: int) -> dict[int, float]:
        pixels = self._size[0] * self._size[1]
        shares = {i: mask_area(one, self._path) / pixels for i, one in enumerate(self._segmentations)}
        return {i: share for i, share in shares.items() if share}

    def read_frames(self, frames: Sequence[int], objects: Sequence[int], side: int) -> Iterator[AnnotatedFrame]:
        image, size = read_square(self._path, side)
        masks = [decode_mask(self._segmentations[i], self._size, f"{self._path}: object {i}") for i in objects]
        yield make_frame(image, stack_masks(masks, self._path), size, self._path)


@dataclasses.dataclass(frozen=True, eq=False)
class CocoImages:
    """The images of one JSON file that show objects. Crowds, masks of several objects together, are left out."""

    folder: Path
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    segmentations: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Footage:
        return Still(self.folder / self.names[index], self.sizes[index], self.segmentations[index])


def open_coco(path: Path) -> CocoImages:
    """Opens an instances_SPLIT.json.

    The images are in SPLIT, images/SPLIT, images or the folder itself, beside the file or one folder above.
    """
    content = read_json(path)
    try:
        images = {image["id"]: (str(Path(image["file_name"])), _size(image)) for image in content["images"]}
        objects = [(one["image_id"], one["segmentation"]) for one in content["annotations"] if not one.get("iscrowd")]
        unknown = {image for image, _ in objects} - set(images)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FrameError(
            f"{path}: these are no COCO instances ({type(error).__name__}: {error}); expected images with id, "
            "file_name, height and width, and annotations with image_id and segmentation."
        ) from error
    raise_if_any(sorted(unknown, key=str), f"images of {path} have masks, but no entry")
    by_image: dict[Any, list[Any]] = {}
    for image, segmentation in objects:
        one = segmentation if isinstance(segmentation, dict) else _compact(segmentation, f"{path}: image {image}")
        if one:
            by_image.setdefault(image, []).append(one)
    if not by_image:
        raise FrameError(f"{path} has no masks of objects; expected annotations of instances.")
    names = tuple(images[image][0] for image in by_image)
    folder = _find_folder(path, names[0])
    missing = (name for name in names if not (folder / name).is_file())
    raise_if_any(missing, f"images of {path.name} are missing in {folder}")
    sizes = tuple(images[image][1] for image in by_image)
    return CocoImages(folder, names, sizes, tuple(map(tuple, by_image.values())))


def _size(image: dict[str, Any]) -> tuple[int, int]:
    """The height and width in an image's entry."""
    height, width = int(image["height"]), int(image["width"])
    if min(height, width) < 1:
        raise ValueError(f"an image is {height} high and {width} wide")
    return height, width


def _compact(segmentation: Any, where: str) -> list[np.ndarray]:
    """Polygons as arrays, because lists of numbers take several times the memory."""
    import_coco_mask()  # a missing package is reported before training starts
    return [corners.ravel() for corners in read_polygons(segmentation, where)]


def _find_folder(path: Path, name: str) -> Path:
    split = path.stem.removeprefix("instances_")
    for root in (path.parent, path.parent.parent):
        for folder in (root / split, root / "images" / split, root / "images", root):
            if (folder / name).is_file():
                return folder
    raise FrameError(
        f"{path}: there is no {name}; expected the images in {split} or images, beside or above that file."
    )


@dataclasses.dataclass(frozen=True)
class Sa1bImages:
    """Images, and the JSON files of the same names with their masks."""

    images: tuple[Path, ...]
    masks: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Footage:
        path = self.masks[index]
        content = read_json(path)
        try:
            size = _size(content["image"])
            segmentations = [one["segmentation"] for one in content["annotations"]]
        except (KeyError, TypeError, ValueError) as error:
            raise FrameError(
                f"{path}: expected SA-1B's image with height and width, and annotations with segmentation "
                f"({type(error).__name__}: {error})."
            ) from error
        return Still(self.images[index], size, segmentations)
