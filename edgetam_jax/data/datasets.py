"""Folders of annotated videos, in the layouts of the benchmarks: DAVIS 2017, MOSE, YouTube-VOS, SA-V.

    DAVIS        JPEGImages/480p/NAME/00000.jpg  Annotations/480p/NAME/00000.png  ImageSets/2017/val.txt
    MOSE, ...    valid/JPEGImages/NAME/00000.jpg  valid/Annotations/NAME/00000.png
    SA-V         JPEGImages_24fps/NAME/00000.jpg  Annotations_6fps/NAME/000/00000.png  sav_val.txt

An annotation is an image of all objects' ids, or in SA-V the mask of one object, in a folder of that object. A frame
may have none.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from edgetam_jax.errors import FrameError
from edgetam_jax.media.image import images_in
from edgetam_jax.types import ALL_OBJECTS, VOID

BINARY_MASK_HINT = (
    f"Where pixels are object ids (DAVIS, MOSE, YouTube-VOS), {VOID} is no object: "
    "a mask in black and white needs 1 for white."
)

# The names of the split that is used when none is given.
VALIDATION = ("val", "valid", "sav_val")
TRAINING = ("train", "sav_train")

Layout = Literal["davis", "ids", "sa-v"]  # "ids": MOSE and YouTube-VOS


class FirstMask(NamedTuple):
    """The first annotation that shows an object."""

    frame: int
    mask: np.ndarray  # [H, W] bool


@dataclasses.dataclass(frozen=True)
class VideoEntry:
    """A video of a dataset and its annotations."""

    name: str
    frames: tuple[Path, ...]
    files: Mapping[int, Mapping[int, Path]]  # by annotated frame, in order, and by object, or ALL_OBJECTS
    late_objects: bool  # whether objects count that the first frame does not show

    def ids_at(self, frame: int) -> np.ndarray:
        """The object id of each pixel of an annotated frame: [H, W] uint8."""
        return read_ids(self.files[frame][ALL_OBJECTS])

    def masks_at(self, frame: int) -> dict[int, np.ndarray]:
        """The masks [H, W] of the objects that an annotated frame shows."""
        return _masks(self.files[frame])

    def masks_of(self, obj_id: int) -> dict[int, np.ndarray]:
        """The masks [H, W] of one object on all frames where it is annotated, empty ones included."""
        masks = {}
        for frame, files in self.files.items():
            if ALL_OBJECTS in files:
                masks[frame] = self.ids_at(frame) == obj_id
            elif obj_id in files:
                masks[frame] = read_ids(files[obj_id]) > 0
        return masks

    def first_masks(self) -> dict[int, FirstMask]:
        """The first mask of every object, in the order of their frames."""
        first: dict[int, FirstMask] = {}
        for frame, files in self.files.items():
            if frame == 0 or self.late_objects:
                remaining = {obj_id: path for obj_id, path in files.items() if obj_id not in first}
                for obj_id, mask in _masks(remaining).items():
                    first.setdefault(obj_id, FirstMask(frame, mask))
        return first

    def object_folders(self) -> dict[int, str]:
        """The names of the objects' folders; empty where annotations are images of all objects' ids."""
        paths = {o: path for files in self.files.values() for o, path in files.items() if o != ALL_OBJECTS}
        return {obj_id: path.parent.name for obj_id, path in sorted(paths.items())}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The videos of one split, from `open_dataset`. A video's folders are only read by `video`."""

    layout: Layout
    images: Path
    annotations: Path
    names: tuple[str, ...]

    def video(self, name: str) -> VideoEntry:
        """The files of one video; raises if some are missing."""
        if not (self.images / name).is_dir():
            raise FrameError(f"{name} has no frames; expected the folder {self.images / name}.")
        frames = tuple(images_in(self.images / name))
        numbers = {path.stem: number for number, path in enumerate(frames)}
        if len(numbers) < len(frames):
            raise FrameError(f"{self.images / name}: two images have one name but for their endings; remove one.")
        files: dict[int, dict[int, Path]] = {}
        for obj_id, path in self._annotations_of(name):
            if path.stem not in numbers:
                raise FrameError(f"{path}: there is no frame of that name in {self.images / name}.")
            files.setdefault(numbers[path.stem], {})[obj_id] = path
        if self.layout == "davis" and 0 not in files:
            raise FrameError(f"{name}: the first frame, {frames[0].name}, has no annotation; DAVIS begins with one.")
        return VideoEntry(name, frames, dict(sorted(files.items())), self.layout != "davis")

    def __iter__(self) -> Iterator[VideoEntry]:
        return map(self.video, self.names)

    def __len__(self) -> int:
        return len(self.names)

    def _annotations_of(self, name: str) -> list[tuple[int, Path]]:
        folder = self.annotations / name
        if not folder.is_dir():
            raise FrameError(f"{name} has no annotations; expected the folder {folder}.")
        if self.layout == "sa-v":
            annotations = [(_number(sub), path) for sub in _folders(folder) for path in _pngs(sub)]
        else:
            annotations = [(ALL_OBJECTS, path) for path in _pngs(folder)]
        if not annotations:
            raise FrameError(f"{folder} holds no annotation; expected PNG files.")
        return annotations


def open_dataset(root: str | Path, split: str | None = None, default_splits: Sequence[str] = VALIDATION) -> Dataset:
    """The videos in a folder of any of these layouts.

    Args:
        root: The folder.
        split: The name of a split. By default the one among `default_splits`, or the only one.
        default_splits: Names of which a dataset has one.
    """
    root = Path(root)
    if not root.is_dir():
        raise FrameError(f"{root} is not a folder; expected a dataset.")
    if (root / "JPEGImages_24fps").is_dir() and (root / "Annotations_6fps").is_dir():
        lists = {path.stem: path for path in root.glob("*.txt")}
        images, annotations = root / "JPEGImages_24fps", root / "Annotations_6fps"
        names = _listed(lists[choose_split(lists, split, root, default_splits)]) if lists else _names(annotations)
        return Dataset("sa-v", images, annotations, names)
    if (root / "ImageSets").is_dir() and (root / "JPEGImages").is_dir():
        years = {path.name: path for path in _folders(root / "ImageSets")}
        lists = {path.stem: path for path in years.get("2017", root / "ImageSets").glob("*.txt")}
        names = _listed(lists[choose_split(lists, split, root / "ImageSets", default_splits)])
        return Dataset("davis", _at_480p(root / "JPEGImages"), _at_480p(root / "Annotations"), names)
    if (root / "JPEGImages").is_dir() and (root / "Annotations").is_dir():
        if split not in (None, root.name):
            raise FrameError(f"{root} is one split by itself; {split} is not in it. Give the folder around it.")
        return Dataset("ids", root / "JPEGImages", root / "Annotations", _names(root / "Annotations"))
    splits = {path.name: path for path in _folders(root) if (path / "JPEGImages").is_dir()}
    if splits:
        return open_dataset(splits[choose_split(splits, split, root, default_splits)])
    raise FrameError(
        f"{root} is no dataset that is known here; expected JPEGImages and Annotations in it (DAVIS, MOSE, "
        "YouTube-VOS), or JPEGImages_24fps and Annotations_6fps (SA-V)."
    )


def read_ids(path: Path) -> np.ndarray:
    """The values of a palette or grey image: [H, W] uint8."""
    try:
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError as error:
        raise FrameError(f"{path}: there is no such file.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FrameError(f"{path}: the image is broken ({error}); replace or remove it.") from error
    if image.mode not in ("P", "L", "1"):
        raise FrameError(f"{path} holds colours (mode {image.mode}); expected a palette or grey image of object ids.")
    return np.asarray(image).astype(np.uint8)


def _masks(files: Mapping[int, Path]) -> dict[int, np.ndarray]:
    """The masks of one frame that are not empty, by object."""
    if ALL_OBJECTS in files:
        ids = read_ids(files[ALL_OBJECTS])
        return {int(i): ids == i for i in np.unique(ids) if i not in (0, VOID)}
    masks = {obj_id: read_ids(path) > 0 for obj_id, path in files.items()}
    return {obj_id: mask for obj_id, mask in masks.items() if mask.any()}


def choose_split(splits: Iterable[str], split: str | None, root: Path, default_splits: Sequence[str]) -> str:
    """The name of the split that is given, or of the default one."""
    splits = sorted(splits)
    if split is None:
        candidates = [name for name in splits if name in default_splits] or splits
        split = candidates[0] if len(candidates) == 1 else None
    if split is None or split not in splits:
        problem = "say which split" if split is None else f"there is no split {split}"
        raise FrameError(f"{root}: {problem}; there are {', '.join(splits) or 'none'}.")
    return split


def _at_480p(folder: Path) -> Path:
    """The smaller of DAVIS's two resolutions, at which it is scored."""
    if not (folder / "480p").is_dir():
        raise FrameError(f"{folder} has no folder 480p; expected DAVIS at that resolution.")
    return folder / "480p"


def _listed(path: Path) -> tuple[str, ...]:
    names = tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
    if not names:
        raise FrameError(f"{path} names no video.")
    return names


def _names(folder: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in _folders(folder))
    if not names:
        raise FrameError(f"{folder} holds no folder; expected one for each video.")
    return names


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pngs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))


def _number(folder: Path) -> int:
    if not folder.name.isdecimal():
        raise FrameError(f"{folder}: expected the number of an object as the folder's name.")
    return int(folder.name)
