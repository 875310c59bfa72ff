"""What `track` writes, frame by frame, each file or folder in the form that its suffix names.

All are written aside and put in place at the end, whole, or up to the frame where the user stopped.
"""

import contextlib
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from edgetam_jax.errors import OutputError
from edgetam_jax.media.atomic import check_place, replacing
from edgetam_jax.media.palette import mask_to_palette
from edgetam_jax.media.video_writer import FrameTiming, GifWriter, Mp4Writer
from edgetam_jax.media.visualize import overlay
from edgetam_jax.ops.rle import rle_area, rle_compress, rle_decode, rle_encode

SUFFIXES = {
    ".mp4": "video with the masks drawn on it, for any player and browser",
    ".gif": "the same as a GIF of at most 640 pixels",
    "": "folder of palette PNGs, 00000.png for frame 0, whose values are the objects' numbers",
    ".json": "run-lengths as COCO has them, one record for each frame and object",
    ".npz": "arrays: masks [frames, objects, height, width], obj_ids",
}
_FRAME_FILE = re.compile(r"\d{5,}\.png")


@dataclass(frozen=True)
class FrameResult:
    """One frame, and what was found on it."""

    frame: int
    pixels: np.ndarray  # [H, W, 3]
    obj_ids: Sequence[int]
    masks: np.ndarray  # [O, H, W] bool

    @cached_property
    def picture(self) -> np.ndarray:
        return overlay(self.pixels, self.masks, obj_ids=color_ids(self.obj_ids))


class Clip(NamedTuple):
    """What all frames have in common."""

    size: tuple[int, int]
    pace: FrameTiming
    obj_ids: Sequence[int]


class Sink(Protocol):
    def add(self, seen: FrameResult) -> None: ...

    def finish(self) -> None: ...


def color_ids(obj_ids: Sequence[int]) -> list[int]:
    """Object 1 has the first colour."""
    return [obj_id - 1 for obj_id in obj_ids]


def check_free(outs: Sequence[Path], force: bool) -> None:
    """That outputs can be put where they are to be, as far as that can be known before."""
    for out in outs:
        check_place(out, force, _ours(out))


@contextlib.contextmanager
def writing(outs: Sequence[Path], clip: Clip, force: bool) -> Iterator[Callable[[FrameResult], None]]:
    """Gives a function that takes frame after frame."""
    with contextlib.ExitStack() as stack:
        sinks = [stack.enter_context(_writing(out, clip, force)) for out in outs]

        def add(seen: FrameResult) -> None:
            for sink in sinks:
                sink(seen)

        yield add


@contextlib.contextmanager
def _writing(out: Path, clip: Clip, force: bool) -> Iterator[Callable[[FrameResult], None]]:
    with replacing(out, force, _ours(out)) as partial:
        sink = _SINKS[out.suffix.lower()](partial, clip)

        def add(seen: FrameResult) -> None:
            try:
                sink.add(seen)
            except OSError as error:  # here, for there are other outputs that could be blamed
                raise OutputError(
                    f"{out} could not be written: {error.strerror or error}. Nothing was changed there. "
                    "Check the free space and the permissions of that folder, or choose another output."
                ) from error

        yield add
        sink.finish()


def _ours(out: Path) -> frozenset[str]:
    """The names that a folder may hold which is replaced."""
    if not out.is_dir():
        return frozenset()
    return frozenset(entry.name for entry in out.iterdir() if _FRAME_FILE.fullmatch(entry.name))


class _Picture:
    """MP4 and GIF."""

    def __init__(self, writer: Mp4Writer | GifWriter) -> None:
        self._writer = writer
        self.finish = writer.finish

    def add(self, seen: FrameResult) -> None:
        self._writer.add(seen.picture)


class _Folder:
    def __init__(self, path: Path, clip: Clip) -> None:
        path.mkdir()
        self._path = path

    def add(self, seen: FrameResult) -> None:
        mask_to_palette(seen.masks, seen.obj_ids).save(self._path / f"{seen.frame:05d}.png")

    def finish(self) -> None:
        pass


class _Json:
    def __init__(self, path: Path, clip: Clip) -> None:
        self._file = path.open("w")
        self._file.write("[")
        self._separator = "\n"

    def add(self, seen: FrameResult) -> None:
        for obj_id, mask in zip(seen.obj_ids, seen.masks, strict=True):
            record = {"frame": seen.frame, "obj_id": obj_id, **describe(mask)}
            self._file.write(self._separator + json.dumps(record))
            self._separator = ",\n"

    def finish(self) -> None:
        self._file.write("\n]\n")
        self._file.close()


class _Arrays:
    """Run-lengths wait in memory; arrays are laid out frame by frame, so that a long video takes little of it."""

    def __init__(self, path: Path, clip: Clip) -> None:
        self._path, self._clip = path, clip
        self._frames: list[list[dict[str, Any]]] = []

    def add(self, seen: FrameResult) -> None:
        self._frames.append([rle_encode(mask) for mask in seen.masks])

    def finish(self) -> None:
        shape = len(self._frames), len(self._clip.obj_ids), *self._clip.size
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(bool)), "fortran_order": False, "shape": shape}
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            with file.open("masks.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_2_0(member, header)
                for masks in self._frames:
                    for mask in masks:
                        member.write(np.ascontiguousarray(rle_decode(mask)).tobytes())
            with file.open("obj_ids.npy", "w") as member:
                np.lib.format.write_array(member, np.array(self._clip.obj_ids, np.int32))


def describe(mask: np.ndarray) -> dict[str, Any]:
    """A mask [H, W] as COCO has it: compressed run-lengths, area, and box (x, y, width, height)."""
    rle = rle_encode(mask)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [0, 0, 0, 0]
    if rows.size:
        box = [int(n) for n in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)]
    return {"segmentation": rle_compress(rle), "area": rle_area(rle), "bbox": box}


_SINKS: Mapping[str, Callable[[Path, Clip], Sink]] = {
    ".mp4": lambda path, clip: _Picture(Mp4Writer(path, clip.size, clip.pace)),
    ".gif": lambda path, clip: _Picture(GifWriter(path, clip.size, clip.pace)),
    "": _Folder,
    ".json": _Json,
    ".npz": _Arrays,
}
