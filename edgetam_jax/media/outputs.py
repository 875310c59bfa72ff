"""Results of tracking, written frame by frame. The suffix of each output decides its format.

Every output is written under a temporary name and moved into place at the end, complete or up to the last frame added.
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
from edgetam_jax.media.video import Video
from edgetam_jax.media.video_writer import FrameTiming, GifWriter, Mp4Writer
from edgetam_jax.media.visualize import overlay
from edgetam_jax.ops.rle import rle_area, rle_compress, rle_decode, rle_encode

SUFFIXES = {
    ".mp4": "video with the masks drawn on it, for any player and browser",
    ".gif": "the same as a GIF, at most 640 pixels wide or high",
    "": "folder of palette PNGs, one a frame (00000.png is frame 0), whose values are object ids",
    ".json": "COCO run-length encodings, one record for each frame and object",
    ".npz": "arrays: masks [frames, objects, height, width], obj_ids",
}
DEFAULT_FPS = 24.0  # of folders of frames, which have no frame rate
_FRAME_FILE = re.compile(r"\d{5,}\.png")


@dataclass(frozen=True)
class FrameResult:
    """One frame and the masks of the objects on it."""

    frame: int
    pixels: np.ndarray  # [H, W, 3] uint8
    obj_ids: Sequence[int]
    masks: np.ndarray  # [O, H, W] bool

    @cached_property
    def picture(self) -> np.ndarray:
        """The frame with its masks drawn on it: [H, W, 3] uint8."""
        return overlay(self.pixels, self.masks, obj_ids=color_ids(self.obj_ids))


class OutputSpec(NamedTuple):
    """What an output must know before its first frame."""

    size: tuple[int, int]  # height, width
    timing: FrameTiming
    obj_ids: Sequence[int]


class ResultWriter(Protocol):
    """Writes one output frame by frame."""

    def add(self, result: FrameResult) -> None:
        """Adds the next frame."""
        ...

    def finish(self) -> None:
        """Completes the output, which is not valid before."""
        ...


def color_ids(obj_ids: Sequence[int]) -> list[int]:
    """Ids for `object_colors`, where object 1 has the first colour."""
    return [obj_id - 1 for obj_id in obj_ids]


def frame_timing(video: Video, fps: float | None = None) -> FrameTiming:
    """When the frames of an output are shown.

    Args:
        video: The video that the frames come from.
        fps: A constant frame rate. By default the times of the video's own frames.
    """
    return FrameTiming(fps) if fps else FrameTiming(video.fps or DEFAULT_FPS, video.seconds)


def check_free(outs: Sequence[Path], force: bool) -> None:
    """Raises before any slow work if an output cannot be written or would replace something.

    Args:
        outs: Files or folders to write.
        force: Allow replacing what exists under the same name.

    Raises:
        OutputError: A path exists, its folder is missing, or nothing can be written there.
    """
    for out in outs:
        check_place(out, force, _replaceable_names(out))


@contextlib.contextmanager
def open_writers(outs: Sequence[Path], spec: OutputSpec, force: bool) -> Iterator[Callable[[FrameResult], None]]:
    """Opens all outputs and yields a function that adds one frame to each of them.

    Args:
        outs: Files or folders, whose suffixes are keys of `SUFFIXES`.
        spec: Size, timing and objects.
        force: Replace what exists under the same name.

    Raises:
        OutputError: An output exists or cannot be written.
    """
    with contextlib.ExitStack() as stack:
        adders = [stack.enter_context(_open_writer(out, spec, force)) for out in outs]

        def add(result: FrameResult) -> None:
            for add_to_output in adders:
                add_to_output(result)

        yield add


@contextlib.contextmanager
def _open_writer(out: Path, spec: OutputSpec, force: bool) -> Iterator[Callable[[FrameResult], None]]:
    with replacing(out, force, _replaceable_names(out)) as partial:
        writer = _WRITERS[out.suffix.lower()](partial, spec)

        def add(result: FrameResult) -> None:
            try:
                writer.add(result)
            except OSError as error:  # caught here, so that the message names this output and not another one
                raise OutputError(
                    f"{out} could not be written: {error.strerror or error}. Nothing was changed there. "
                    "Check the free space and the permissions of that folder, or choose another output."
                ) from error

        yield add
        writer.finish()


def _replaceable_names(out: Path) -> frozenset[str]:
    """The frame files of an existing output folder; a folder that holds anything else is not replaced."""
    if not out.is_dir():
        return frozenset()
    return frozenset(entry.name for entry in out.iterdir() if _FRAME_FILE.fullmatch(entry.name))


class _PictureWriter:
    """MP4 and GIF: frames with their masks drawn on them."""

    def __init__(self, writer: Mp4Writer | GifWriter) -> None:
        self._writer = writer
        self.finish = writer.finish

    def add(self, result: FrameResult) -> None:
        self._writer.add(result.picture)


class _FolderWriter:
    def __init__(self, path: Path, spec: OutputSpec) -> None:
        path.mkdir()
        self._path = path

    def add(self, result: FrameResult) -> None:
        mask_to_palette(result.masks, result.obj_ids).save(self._path / f"{result.frame:05d}.png")

    def finish(self) -> None:
        pass


class _JsonWriter:
    def __init__(self, path: Path, spec: OutputSpec) -> None:
        self._file = path.open("w")
        self._file.write("[")
        self._separator = "\n"

    def add(self, result: FrameResult) -> None:
        for obj_id, mask in zip(result.obj_ids, result.masks, strict=True):
            record = {"frame": result.frame, "obj_id": obj_id, **coco_record(mask)}
            self._file.write(self._separator + json.dumps(record))
            self._separator = ",\n"

    def finish(self) -> None:
        self._file.write("\n]\n")
        self._file.close()


class _ArrayWriter:
    """Holds run-length encodings in memory and decodes one mask at a time, so that long videos fit in memory."""

    def __init__(self, path: Path, spec: OutputSpec) -> None:
        self._path, self._spec = path, spec
        self._frames: list[list[dict[str, Any]]] = []

    def add(self, result: FrameResult) -> None:
        self._frames.append([rle_encode(mask) for mask in result.masks])

    def finish(self) -> None:
        shape = len(self._frames), len(self._spec.obj_ids), *self._spec.size
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(bool)), "fortran_order": False, "shape": shape}
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            with file.open("masks.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_2_0(member, header)
                for masks in self._frames:
                    for mask in masks:
                        member.write(np.ascontiguousarray(rle_decode(mask)).tobytes())
            with file.open("obj_ids.npy", "w") as member:
                np.lib.format.write_array(member, np.array(self._spec.obj_ids, np.int32))


def coco_record(mask: np.ndarray) -> dict[str, Any]:
    """A mask as COCO stores it.

    Args:
        mask: [H, W] bool.

    Returns:
        `segmentation` (compressed run-length encoding), `area` in pixels and `bbox` (x, y, width, height).
    """
    rle = rle_encode(mask)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [0, 0, 0, 0]
    if rows.size:
        box = [int(n) for n in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)]
    return {"segmentation": rle_compress(rle), "area": rle_area(rle), "bbox": box}


_WRITERS: Mapping[str, Callable[[Path, OutputSpec], ResultWriter]] = {
    ".mp4": lambda path, spec: _PictureWriter(Mp4Writer(path, spec.size, spec.timing)),
    ".gif": lambda path, spec: _PictureWriter(GifWriter(path, spec.size, spec.timing)),
    "": _FolderWriter,
    ".json": _JsonWriter,
    ".npz": _ArrayWriter,
}
