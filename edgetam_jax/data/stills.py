"""Still images: COCO's, with all annotations in one JSON file, and SA-1B's, with one beside each image."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetam_jax.data.footage import (
    Footage,
    Picture,
    area,
    decode,
    picture,
    polygons,
    read_json,
    refuse,
    stacked,
)
from edgetam_jax.errors import FrameError
from edgetam_jax.media.image import read_square


class Still:
    """An image and its objects: run-lengths, or polygons."""

    def __init__(self, path: Path, size: tuple[int, int], segmentations: Sequence[Any]) -> None:
        self.name, self._path, self._size, self._segmentations = path.name, path, size, segmentations

    def __len__(self) -> int:
        return 1

    def shares(self, frame: int) -> dict[int, float]:
        pixels = self._size[0] * self._size[1]
        found = {i: area(one, self._path) / pixels for i, one in enumerate(self._segmentations)}
        return {i: share for i, share in found.items() if share}

    def pictures(self, frames: Sequence[int], objects: Sequence[int], side: int) -> Iterator[Picture]:
        image, size = read_square(self._path, side)
        masks = [decode(self._segmentations[i], self._size, f"{self._path}: object {i}") for i in objects]
        yield picture(image, stacked(masks, self._path), size, self._path)


@dataclasses.dataclass(frozen=True, eq=False)
class CocoImages:
    """The images of one JSON file that show objects. Crowds, which are several objects in one mask, are left out."""

    folder: Path
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    segmentations: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Footage:
        return Still(self.folder / self.names[index], self.sizes[index], self.segmentations[index])


def open_coco(path: Path) -> CocoImages:
    """From an instances_SPLIT.json, beside or above whose folder the images are, possibly in SPLIT or images/SPLIT."""
    content = read_json(path)
    try:
        named = {image["id"]: (str(Path(image["file_name"])), _size(image)) for image in content["images"]}
        objects = [(one["image_id"], one["segmentation"]) for one in content["annotations"] if not one.get("iscrowd")]
        strays = {image for image, _ in objects} - set(named)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FrameError(
            f"{path}: these are no COCO instances ({type(error).__name__}: {error}); expected images with id, "
            "file_name, height and width, and annotations with image_id and segmentation."
        ) from error
    refuse(sorted(strays, key=str), f"images of {path} have masks, but no entry")
    found: dict[Any, list[Any]] = {}
    for image, segmentation in objects:
        # Arrays, because lists of numbers take several times the memory.
        kept = segmentation if isinstance(segmentation, dict) else _compact(segmentation, f"{path}: image {image}")
        if kept:
            found.setdefault(image, []).append(kept)
    if not found:
        raise FrameError(f"{path} has no masks of objects; expected annotations of instances.")
    names = tuple(named[image][0] for image in found)
    folder = _folder_of(path, names[0])
    refuse((name for name in names if not (folder / name).is_file()), f"images of {path.name} are missing in {folder}")
    return CocoImages(folder, names, tuple(named[image][1] for image in found), tuple(map(tuple, found.values())))


def _size(image: dict[str, Any]) -> tuple[int, int]:
    """By an image's entry."""
    height, width = int(image["height"]), int(image["width"])
    if min(height, width) < 1:
        raise ValueError(f"an image is {height} high and {width} wide")
    return height, width


def _compact(segmentation: Any, where: str) -> list[np.ndarray]:
    return [corners.ravel() for corners in polygons(segmentation, where)]


def _folder_of(path: Path, name: str) -> Path:
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
    """Images and the JSON files of the same names that hold their masks."""

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
