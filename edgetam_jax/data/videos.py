"""Training videos, annotated by images of object ids or by SA-V's run-lengths."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgetam_jax.data.datasets import Dataset, VideoEntry, read_ids
from edgetam_jax.data.footage import (
    AnnotatedFrame,
    Footage,
    NoObjectError,
    decode_mask,
    make_frame,
    mask_area,
    read_json,
    stack_masks,
)
from edgetam_jax.errors import FrameError
from edgetam_jax.media.image import images_in, read_square
from edgetam_jax.media.video_reader import VideoFile
from edgetam_jax.types import ALL_OBJECTS, VOID

SAV_STEP = 4  # SA-V annotates every fourth frame, six a second


@dataclasses.dataclass(frozen=True)
class FolderVideos:
    """The layouts of DAVIS, MOSE and YouTube-VOS, and of SA-V's validation and test."""

    dataset: Dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Footage:
        return FolderVideo(self.dataset.video(self.dataset.names[index]))


class FolderVideo:
    def __init__(self, entry: VideoEntry) -> None:
        self.name, self._entry, self._annotated = entry.name, entry, list(entry.files)

    def __len__(self) -> int:
        return len(self._annotated)

    def area_shares(self, frame: int) -> dict[int, float]:
        number = self._annotated[frame]
        if ALL_OBJECTS not in self._entry.files[number]:
            return {obj_id: float(mask.mean()) for obj_id, mask in self._entry.masks_at(number).items()}
        ids = self._entry.ids_at(number)
        counts = np.bincount(ids.ravel(), minlength=VOID)[:VOID]
        return {int(obj_id): counts[obj_id] / ids.size for obj_id in np.flatnonzero(counts) if obj_id}

    def read_frames(self, frames: Sequence[int], objects: Sequence[int], side: int) -> Iterator[AnnotatedFrame]:
        for frame in frames:
            path = self._entry.frames[self._annotated[frame]]
            image, size = read_square(path, side)
            masks = _masks(self._entry.files[self._annotated[frame]], objects, size, path)
            yield make_frame(image, masks, size, path)


def _masks(files: Mapping[int, Path], objects: Sequence[int], size: tuple[int, int], where: Path) -> np.ndarray:
    if ALL_OBJECTS in files:
        return read_ids(files[ALL_OBJECTS]) == np.asarray(objects, np.uint8)[:, None, None]
    return stack_masks([read_ids(files[o]) > 0 if o in files else np.zeros(size, bool) for o in objects], where)


@dataclasses.dataclass(frozen=True)
class SavVideos:
    """SA-V's training split: MP4 files or folders of images, and masklets in JSON, `_manual`, `_auto` or both."""

    videos: tuple[Path, ...]
    masklets: tuple[tuple[Path, ...], ...]

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Footage:
        return SavVideo(self.videos[index], self.masklets[index])


class SavVideo:
    """A video of SA-V's training split. Objects are numbered in the order of the JSON files."""

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.name, self._path, self._where = path.stem, path, files[0]
        self._rows = [list(chain(*rows)) for rows in zip(*map(_read_masklets, files), strict=False)]
        # A frame on which an object has no annotation does not say whether it shows the object.
        self._annotated = [number for number, row in enumerate(self._rows) if row and None not in row]
        if not self._annotated:
            raise NoObjectError(
                f"{self._where}: no frame has masks of all objects, so that none can be used. Remove this file."
            )

    def __len__(self) -> int:
        return len(self._annotated)

    def area_shares(self, frame: int) -> dict[int, float]:
        row = self._rows[self._annotated[frame]]
        shares = {obj_id: mask_area(rle, self._where) / np.prod(rle["size"]) for obj_id, rle in enumerate(row)}
        return {obj_id: share for obj_id, share in shares.items() if share}

    def read_frames(self, frames: Sequence[int], objects: Sequence[int], side: int) -> Iterator[AnnotatedFrame]:
        numbers = [SAV_STEP * self._annotated[frame] for frame in frames]
        images = self._from_folder(numbers, side) if self._path.is_dir() else self._from_file(numbers, side)
        for number, (image, size) in zip(numbers, images, strict=True):
            where = f"{self._where}: frame {number}"
            row = self._rows[number // SAV_STEP]
            masks = stack_masks([decode_mask(row[obj_id], size, where) for obj_id in objects], where)
            yield make_frame(image, masks, size, where)

    def _from_folder(self, numbers: Sequence[int], side: int) -> Iterator[tuple[Image.Image, tuple[int, int]]]:
        """Images are found by their names, for a folder may hold all frames or only the annotated ones."""
        paths = {int(path.stem): path for path in images_in(self._path) if path.stem.isdecimal()}
        for number in numbers:
            if number not in paths:
                raise FrameError(f"{self._path}: the image of frame {number} is missing; {self._where} has its masks.")
            yield read_square(paths[number], side)

    def _from_file(self, numbers: Sequence[int], side: int) -> Iterator[tuple[Image.Image, tuple[int, int]]]:
        video = VideoFile(self._path)
        decoder = video.reader()
        try:
            for number in numbers:
                if number >= (video.length or 0):
                    raise FrameError(
                        f"{self._path} has {video.length} frames; {self._where} has masks of frame {number}. "
                        "Get the file that belongs to these masks."
                    )
                image = Image.fromarray(decoder.read(number))
                yield image.resize((side, side), Image.Resampling.BILINEAR), video.size
        finally:
            decoder.close()


def _read_masklets(path: Path) -> list[list[Any]]:
    """Run-lengths by annotated frame and object; None where an object is not annotated."""
    content = read_json(path)
    rows = content.get("masklet") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        raise FrameError(f'{path}: expected SA-V\'s masklets: {{"masklet": [frames of [objects of run-lengths]]}}.')
    if not all(one is None or isinstance(one, dict) for row in rows for one in row):
        raise FrameError(f"{path}: expected run-lengths of each object on each frame, or null where there are none.")
    if len(set(map(len, rows))) > 1:
        raise FrameError(f"{path}: the frames have different numbers of objects; expected one place for each object.")
    return rows
