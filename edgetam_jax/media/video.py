"""Frames in: folders of images, video files, arrays, lists and iterators behind one interface.

    with open_video("clip.mp4") as video:
        video.height, video.width, video.fps, len(video)
        frame = video[12]                       # uint8 [H, W, 3]
        for frame in video.frames(start=12): ...

Frames are decoded when they are asked for, a few ahead in one background thread. What every source has in common:
pixels come out as uint8 RGB (grayscale is repeated, alpha dropped, of 16 bits the high byte kept), upright (the
EXIF orientation of image files and the rotation of video files are applied), and all frames have one size.
"""

import itertools
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgetam_jax.errors import FrameError
from edgetam_jax.media.image import IMAGE_SUFFIXES, Images, describe, images_in, read_image
from edgetam_jax.media.video_reader import VideoFile, check_size
from edgetam_jax.ops.pixels import as_frames, is_pil


class Reader(Protocol):
    """Decodes frames by index. Used by one thread at a time."""

    def read(self, index: int) -> np.ndarray: ...

    def close(self) -> None: ...


class Source(Protocol):
    """Where frames come from. `length` is None while nobody knows it; `threaded` says that decoding costs time."""

    size: tuple[int, int]
    fps: float | None
    seconds: list[float] | None
    length: int | None
    threaded: bool

    def reader(self) -> Reader: ...


class Video:
    """Frames of one size by index. Made by `open_video`."""

    def __init__(self, source: Source, read_ahead: int = 4):
        self._source = source
        self._read_ahead = read_ahead if source.threaded else 0
        self._lock = threading.Lock()
        self._random: Reader | None = None
        self._pools: weakref.WeakSet[ThreadPoolExecutor] = weakref.WeakSet()
        self._closed = False

    @property
    def height(self) -> int:
        return self._source.size[0]

    @property
    def width(self) -> int:
        return self._source.size[1]

    @property
    def fps(self) -> float | None:
        return self._source.fps

    @property
    def seconds(self) -> list[float] | None:
        """When each frame is shown, from the first one on; None where nobody says."""
        return self._source.seconds

    @property
    def num_frames(self) -> int | None:
        """The number of frames; None for an iterator that has not ended yet."""
        return self._source.length

    def __len__(self) -> int:
        if self.num_frames is None:
            raise TypeError("the length of an iterator is unknown before its end; see num_frames.")
        return self.num_frames

    def __getitem__(self, index: int) -> np.ndarray:
        index = self._checked(index)
        with self._lock:
            if self._random is None:
                self._random = self._source.reader()
            try:
                return self._random.read(index)
            except _NoMoreFramesError:
                raise FrameError(f"there is no frame {index}; the iterator ended after {self.num_frames}.") from None

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.frames()

    def frames(self, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[np.ndarray]:
        """Frames start, start + step, ... before `stop`, by default to the end, or to frame 0 where step < 0."""
        if step == 0 or (step < 0 and self.num_frames is None):
            raise FrameError(f"step is {step}; it must not be 0, nor negative for an iterator.")
        if self.num_frames is None:
            start = self._checked(start)
            return self._one_by_one(itertools.count(start, step) if stop is None else range(start, stop, step))
        if start == self.num_frames and step > 0:
            return iter(())
        end = (self.num_frames if step > 0 else -1) if stop is None else stop
        indices = range(self._checked(start), max(-1, min(end, self.num_frames)), step)
        return self._ahead(indices) if self._read_ahead else self._one_by_one(indices)

    def close(self) -> None:
        """End threads and close files. Frames cannot be read afterwards."""
        self._closed = True
        for pool in list(self._pools):
            pool.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            if self._random is not None:
                self._random.close()

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise FrameError("the video is closed; open it again to read frames.")

    def _checked(self, index: int) -> int:
        self._check_open()
        length = self.num_frames
        if length is None:
            if index < 0:
                raise FrameError(f"frame {index} counts from the end, which is unknown for an iterator.")
        elif not -length <= index < length:
            raise FrameError(f"there is no frame {index}; the video has {length}, numbered from 0.")
        return int(index) if length is None else int(index) % length

    def _one_by_one(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        reader = self._source.reader()
        try:
            for index in indices:
                self._check_open()
                yield reader.read(index)
        except _NoMoreFramesError:
            return
        finally:
            reader.close()

    def _ahead(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        # A reader of its own, so that random access in between does not move it.
        reader = self._source.reader()
        pool = ThreadPoolExecutor(1, thread_name_prefix="edgetam-frames")
        self._pools.add(pool)
        pending = deque()
        try:
            for index in indices:
                self._check_open()
                pending.append(pool.submit(reader.read, index))
                if len(pending) > self._read_ahead:
                    yield pending.popleft().result()
            while pending:
                self._check_open()
                yield pending.popleft().result()
        except CancelledError:
            self._check_open()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            reader.close()


def open_video(source: Any, read_ahead: int = 4) -> Video:
    """Opens a video; frames are [H, W, 3] uint8 RGB arrays that are decoded when they are read.

    Args:
        source: One of these:
            a folder of images (.jpg .jpeg .png .webp .bmp), in natural order (frame2 before frame10);
            a video file (needs PyAV), frames in order of presentation;
            one image file, as a video of one frame;
            an array [T, H, W, 3], or a list of PIL images, arrays or image paths;
            an iterator of images, which is read once, forward, and has no known length;
            a `Video`, which is returned unchanged.
        read_ahead: Number of frames of a folder or file that a thread decodes in advance; 0 for no thread.

    Returns:
        The video, to iterate over, to index, and to close (or use in a `with` statement).

    Raises:
        FrameError: The source cannot be read as frames.
    """
    if isinstance(source, Video):
        return source
    if isinstance(source, str | Path):
        return Video(_open_path(Path(source)), read_ahead)
    if is_pil(source):
        return Video(Images([source]))
    if hasattr(source, "__array__"):
        return Video(Images(as_frames(np.asarray(source))))
    if isinstance(source, Sequence) and not isinstance(source, bytes):
        return Video(Images(source, any(isinstance(item, str | Path) for item in source)), read_ahead)
    if isinstance(source, Iterable) and not isinstance(source, bytes | dict):
        return Video(_Stream(iter(source)))
    raise FrameError(
        f"cannot read frames from a {type(source).__name__}; expected a folder, a video file, an array [T, H, W, 3], "
        "or a list or iterator of images."
    )


def _open_path(path: Path) -> Source:
    if path.is_dir():
        return Images(images_in(path), threaded=True)
    if not path.exists():
        raise FrameError(f"{path}: there is no such file or folder.")
    if path.stat().st_size == 0:
        raise FrameError(f"{path}: the file is empty.")
    return Images([path]) if path.suffix.lower() in IMAGE_SUFFIXES else VideoFile(path)


class _NoMoreFramesError(Exception):
    """An iterator has ended."""


class _Stream:
    """An iterator: forwards only. The latest frame stays readable. Its own reader."""

    fps: float | None = None
    seconds: list[float] | None = None
    length: int | None
    threaded: bool = False
    size: tuple[int, int]

    def __init__(self, iterator: Iterator[Any]):
        self._iterator, self._index, self.length = iterator, -1, None
        try:
            self._advance()
        except _NoMoreFramesError:
            raise FrameError("the iterator gave no frame; expected at least one.") from None
        height, width = self._latest.shape[:2]
        self.size = height, width

    def reader(self) -> "_Stream":
        return self

    def read(self, index: int) -> np.ndarray:
        if index < self._index:
            raise FrameError(
                f"frame {index} of the iterator is gone, it stands at {self._index}; "
                "give a list, an array, a folder or a file to go back."
            )
        while self._index < index:
            self._advance()
        return self._latest

    def close(self) -> None:
        pass

    def _advance(self) -> None:
        try:
            item = next(self._iterator)
        except StopIteration:
            self.length = self._index + 1
            raise _NoMoreFramesError from None
        frame = read_image(item)
        if self._index >= 0:
            check_size(describe(self._index + 1, item), frame.shape[:2], self.size)
        self._latest, self._index = frame, self._index + 1
