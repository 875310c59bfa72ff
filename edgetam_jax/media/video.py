"""Frames in: folders of images, video files, arrays, lists and iterators behind one interface.

    with open_video("clip.mp4") as video:
        video.height, video.width, video.fps, len(video)
        frame = video[12]                       # uint8 [H, W, 3]
        for frame in video.frames(start=12): ...

Frames are decoded when they are read; during iteration, a background thread decodes the next few. Every source gives
uint8 RGB (grayscale is repeated, alpha is dropped, and the high byte of 16 bits is kept) in upright position (the EXIF
orientation of image files and the rotation of video files are applied). All frames have one size.
"""

import itertools
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from edgetam_jax.errors import FrameError
from edgetam_jax.media.image import IMAGE_SUFFIXES, images_in
from edgetam_jax.media.sources import FrameReader, FrameSource, ImageSource, IteratorSource, NoMoreFramesError
from edgetam_jax.media.video_reader import VideoFile
from edgetam_jax.ops.pixels import as_frames, is_pil


class Video:
    """A video whose frames are decoded when they are read. Made by `open_video`.

    `video[index]` is a frame, [H, W, 3] uint8; negative indices count from the end. `for frame in video` reads
    all frames, and `len(video)` is their number. A `with` statement closes the video at its end.

    Args:
        source: Where the frames come from.
        read_ahead: Number of frames that are decoded in advance, by sources that can do so.
    """

    def __init__(self, source: FrameSource, read_ahead: int = 4):
        self._source = source
        self._read_ahead = read_ahead if source.prefetch else 0
        self._lock = threading.Lock()
        self._indexed_reader: FrameReader | None = None
        self._pools: weakref.WeakSet[ThreadPoolExecutor] = weakref.WeakSet()
        self._closed = False

    @property
    def height(self) -> int:
        """Height of the frames in pixels."""
        return self._source.size[0]

    @property
    def width(self) -> int:
        """Width of the frames in pixels."""
        return self._source.size[1]

    @property
    def fps(self) -> float | None:
        """Average frame rate of a video file; None for other sources."""
        return self._source.fps

    @property
    def seconds(self) -> list[float] | None:
        """The time of each frame, where the first is at 0; None for sources without time stamps."""
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
        index = self._check_index(index)
        with self._lock:
            if self._indexed_reader is None:
                self._indexed_reader = self._source.reader()
            try:
                return self._indexed_reader.read(index)
            except NoMoreFramesError:
                raise FrameError(f"there is no frame {index}; the iterator ended after {self.num_frames}.") from None

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.frames()

    def frames(self, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[np.ndarray]:
        """Reads frames in turn, decoding the next ones in advance.

        Args:
            start: Index of the first frame.
            stop: Index before which reading ends. By default the last frame is included, or frame 0 if `step` < 0.
            step: Difference of successive indices, not 0. Iterators can only be read with `step` > 0.

        Returns:
            An iterator of frames, [H, W, 3] uint8.

        Raises:
            FrameError: The indices do not fit the video, or a frame cannot be read.
        """
        if step == 0 or (step < 0 and self.num_frames is None):
            raise FrameError(f"step is {step}; it must not be 0, nor negative for an iterator.")
        if self.num_frames is None:
            start = self._check_index(start)
            return self._read_in_turn(itertools.count(start, step) if stop is None else range(start, stop, step))
        if start == self.num_frames and step > 0:
            return iter(())
        end = (self.num_frames if step > 0 else -1) if stop is None else stop
        indices = range(self._check_index(start), max(-1, min(end, self.num_frames)), step)
        return self._read_prefetched(indices) if self._read_ahead else self._read_in_turn(indices)

    def close(self) -> None:
        """Ends threads and closes files. Frames cannot be read afterwards."""
        self._closed = True
        for pool in list(self._pools):
            pool.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            if self._indexed_reader is not None:
                self._indexed_reader.close()

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise FrameError("the video is closed; open it again to read frames.")

    def _check_index(self, index: int) -> int:
        self._check_open()
        length = self.num_frames
        if length is None:
            if index < 0:
                raise FrameError(f"frame {index} counts from the end, which is unknown for an iterator.")
        elif not -length <= index < length:
            raise FrameError(f"there is no frame {index}; the video has {length}, numbered from 0.")
        return int(index) if length is None else int(index) % length

    def _read_in_turn(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        reader = self._source.reader()
        try:
            for index in indices:
                self._check_open()
                yield reader.read(index)
        except NoMoreFramesError:
            return
        finally:
            reader.close()

    def _read_prefetched(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        # With its own reader, so that indexing the video meanwhile does not move the position.
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
        return Video(ImageSource([source]))
    if hasattr(source, "__array__"):
        return Video(ImageSource(as_frames(np.asarray(source))))
    if isinstance(source, Sequence) and not isinstance(source, bytes):
        return Video(ImageSource(source, any(isinstance(item, str | Path) for item in source)), read_ahead)
    if isinstance(source, Iterable) and not isinstance(source, bytes | dict):
        return Video(IteratorSource(iter(source)))
    raise FrameError(
        f"cannot read frames from a {type(source).__name__}; expected a folder, a video file, an array [T, H, W, 3], "
        "or a list or iterator of images."
    )


def _open_path(path: Path) -> FrameSource:
    if path.is_dir():
        return ImageSource(images_in(path), prefetch=True)
    if not path.exists():
        raise FrameError(f"{path}: there is no such file or folder.")
    if path.stat().st_size == 0:
        raise FrameError(f"{path}: the file is empty.")
    return ImageSource([path]) if path.suffix.lower() in IMAGE_SUFFIXES else VideoFile(path)
