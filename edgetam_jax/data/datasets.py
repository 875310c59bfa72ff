"""Folders of annotated videos, as the benchmarks lay them out: DAVIS 2017, MOSE, YouTube-VOS, SA-V.

    DAVIS        JPEGImages/480p/NAME/00000.jpg  Annotations/480p/NAME/00000.png  ImageSets/2017/val.txt
    MOSE, ...    valid/JPEGImages/NAME/00000.jpg  valid/Annotations/NAME/00000.png
    SA-V         JPEGImages_24fps/NAME/00000.jpg  Annotations_6fps/NAME/000/00000.png  sav_val.txt

An annotation is an image of all objects' ids, or in SA-V of one object, in its own folder. Not every frame has one.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from edgetam_jax.errors import FrameError
from edgetam_jax.media.image import images_in

VOID = 255  # of an image of ids: nobody says whose these pixels are
NO_WHITE = (
    f"Where pixels are object ids (DAVIS, MOSE, YouTube-VOS), {VOID} is no object: "
    "a mask in black and white needs 1 for white."
)
ALL = -1  # stands for the object, where a file is about all of them

# Names of the split that is meant when none is given.
VALIDATION = ("val", "valid", "sav_val")
TRAINING = ("train", "sav_train")

Kind = Literal["davis", "ids", "sa-v"]


class Shown(NamedTuple):
    """An object where it is annotated first."""

    frame: int
    mask: np.ndarray  # [H, W] bool


@dataclasses.dataclass(frozen=True)
class Clip:
    """A video and its annotations."""

    name: str
    frames: tuple[Path, ...]
    files: Mapping[int, Mapping[int, Path]]  # by frame number, in order, and object, or ALL
    late_objects: bool  # objects count that the first frame does not show

    def ids_on(self, frame: int) -> np.ndarray:
        """[H, W] uint8 of a frame that is annotated: whose each pixel is."""
        return read_ids(self.files[frame][ALL])

    def masks_on(self, frame: int) -> dict[int, np.ndarray]:
        """The objects [H, W] that an annotated frame shows."""
        return _masks(self.files[frame])

    def masks_of(self, obj_id: int) -> dict[int, np.ndarray]:
        """One object [H, W] on all frames that say where it is, or that it is nowhere."""
        found = {}
        for frame, files in self.files.items():
            if ALL in files:
                found[frame] = self.ids_on(frame) == obj_id
            elif obj_id in files:
                found[frame] = read_ids(files[obj_id]) > 0
        return found

    def first_masks(self) -> dict[int, Shown]:
        """Every object where it is annotated first, in the order in which they come."""
        first: dict[int, Shown] = {}
        for frame, files in self.files.items():
            if frame == 0 or self.late_objects:
                unseen = {obj_id: path for obj_id, path in files.items() if obj_id not in first}
                for obj_id, mask in _masks(unseen).items():
                    first.setdefault(obj_id, Shown(frame, mask))
        return first

    def folders(self) -> dict[int, str]:
        """The names of the objects' own folders, where they have such."""
        paths = {obj_id: path for files in self.files.values() for obj_id, path in files.items() if obj_id != ALL}
        return {obj_id: path.parent.name for obj_id, path in sorted(paths.items())}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The videos of one split. Made by `open_dataset`; a video's folders are looked into when it is asked for."""

    kind: Kind
    images: Path
    annotations: Path
    names: tuple[str, ...]

    def clip(self, name: str) -> Clip:
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
        if self.kind == "davis" and 0 not in files:
            raise FrameError(f"{name}: the first frame, {frames[0].name}, has no annotation; DAVIS begins with one.")
        return Clip(name, frames, dict(sorted(files.items())), self.kind != "davis")

    def __iter__(self) -> Iterator[Clip]:
        return map(self.clip, self.names)

    def __len__(self) -> int:
        return len(self.names)

    def _annotations_of(self, name: str) -> list[tuple[int, Path]]:
        folder = self.annotations / name
        if not folder.is_dir():
            raise FrameError(f"{name} has no annotations; expected the folder {folder}.")
        if self.kind == "sa-v":
            found = [(_number(sub), path) for sub in _folders(folder) for path in _pngs(sub)]
        else:
            found = [(ALL, path) for path in _pngs(folder)]
        if not found:
            raise FrameError(f"{folder} holds no annotation; expected PNG files.")
        return found


def open_dataset(root: str | Path, split: str | None = None, usual: Sequence[str] = VALIDATION) -> Dataset:
    """The videos in a folder of any of these layouts. `split` is by default the `usual` one, or the only one."""
    root = Path(root)
    if not root.is_dir():
        raise FrameError(f"{root} is not a folder; expected a dataset.")
    if (root / "JPEGImages_24fps").is_dir() and (root / "Annotations_6fps").is_dir():
        lists = {path.stem: path for path in root.glob("*.txt")}
        images, annotations = root / "JPEGImages_24fps", root / "Annotations_6fps"
        names = _listed(lists[chosen_split(lists, split, root, usual)]) if lists else _names(annotations)
        return Dataset("sa-v", images, annotations, names)
    if (root / "ImageSets").is_dir() and (root / "JPEGImages").is_dir():
        years = {path.name: path for path in _folders(root / "ImageSets")}
        lists = {path.stem: path for path in years.get("2017", root / "ImageSets").glob("*.txt")}
        names = _listed(lists[chosen_split(lists, split, root / "ImageSets", usual)])
        return Dataset("davis", _at_480p(root / "JPEGImages"), _at_480p(root / "Annotations"), names)
    if (root / "JPEGImages").is_dir() and (root / "Annotations").is_dir():
        if split not in (None, root.name):
            raise FrameError(f"{root} is one split by itself; {split} is not in it. Give the folder around it.")
        return Dataset("ids", root / "JPEGImages", root / "Annotations", _names(root / "Annotations"))
    splits = {path.name: path for path in _folders(root) if (path / "JPEGImages").is_dir()}
    if splits:
        return open_dataset(splits[chosen_split(splits, split, root, usual)])
    raise FrameError(
        f"{root} is no dataset that is known here; expected JPEGImages and Annotations in it (DAVIS, MOSE, "
        "YouTube-VOS), or JPEGImages_24fps and Annotations_6fps (SA-V)."
    )


def read_ids(path: Path) -> np.ndarray:
    """[H, W] uint8, the values of a palette or grey image."""
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
    """What the annotations of one frame show, without objects that they do not show."""
    if ALL in files:
        ids = read_ids(files[ALL])
        return {int(i): ids == i for i in np.unique(ids) if i not in (0, VOID)}
    masks = {obj_id: read_ids(path) > 0 for obj_id, path in files.items()}
    return {obj_id: mask for obj_id, mask in masks.items() if mask.any()}


def chosen_split(there: Mapping[str, Path], split: str | None, root: Path, usual: Sequence[str]) -> str:
    """The name of the split that is asked for, or meant."""
    if split is None:
        meant = [name for name in there if name in usual] or list(there)
        split = meant[0] if len(meant) == 1 else None
    if split is None or split not in there:
        asked = "say which split" if split is None else f"there is no split {split}"
        raise FrameError(f"{root}: {asked}; there are {', '.join(sorted(there)) or 'none'}.")
    return split


def _at_480p(folder: Path) -> Path:
    """DAVIS comes in two resolutions; it is scored at the smaller."""
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
