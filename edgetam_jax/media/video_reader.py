"""Video files by PyAV: every frame by its number, in order of presentation."""

from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from edgetam_jax.errors import FrameError

_CACHED_PIXELS = 64_000_000  # decoded frames kept for reading backwards: 30 at 1920x1080, about 100 MB


def check_size(what: str, size: tuple[int, ...], expected: tuple[int, int]) -> None:
    """Refuses a frame of another size than the first one.

    Args:
        what: The frame, as the error names it.
        size: Its height and width.
        expected: Height and width of the first frame.

    Raises:
        FrameError: The sizes differ.
    """
    if size != expected:
        raise FrameError(
            f"{what} is {size[1]}x{size[0]} (width x height), frame 0 is {expected[1]}x{expected[0]}; "
            "all frames of a video must have one size."
        )


class VideoFile:
    """A video file. One pass over its packets, without decoding, numbers the frames by their time stamps.

    Args:
        path: The file.

    Attributes:
        pts: Time stamps in order of presentation; None if the file has no usable ones.
        keyframes: Indices of the frames to which a seek can go.
        size, fps, seconds, length, prefetch: See `sources.FrameSource`.

    Raises:
        FrameError: The file cannot be read as a video.
    """

    fps: float | None
    seconds: list[float] | None  # when each frame is shown, from the first one on
    length: int | None
    prefetch: bool = True
    size: tuple[int, int]

    def __init__(self, path: Path):
        self.path = path
        av = import_av()
        try:
            with av.open(str(path)) as container:
                stream = _video_stream(container, path)
                self.fps = float(stream.average_rate) if stream.average_rate else None
                packets, tick = _read_timestamps(container, stream, path), stream.time_base
            stamps = sorted((pts, key) for pts, key in packets if pts is not None)
            self.pts: list[int] | None = [pts for pts, _ in stamps]
            self.keyframes = [i for i, (_, key) in enumerate(stamps) if key]
            self.length = len(packets)
            self.seconds = [float((pts - self.pts[0]) * tick) for pts in self.pts]
            if len(set(self.pts)) < len(packets):
                # Old formats have no usable time stamps: frames are counted by decoding, and there is no seeking.
                self.pts, self.keyframes, self.seconds = None, [], None
                with av.open(str(path)) as container:
                    self.length = sum(1 for _ in container.decode(_video_stream(container, path)))
        except av.error.FFmpegError as error:
            raise FrameError(f"{path}: not a video that can be read ({error}).") from error
        if not self.length:
            raise FrameError(f"{path}: the video holds no frames.")
        decoder = self.reader()
        try:
            height, width = decoder.read(0).shape[:2]
        finally:
            decoder.close()
        self.size = height, width

    def reader(self) -> "VideoFileReader":
        """A decoder with a position of its own, to be closed after use."""
        return VideoFileReader(self)


class VideoFileReader:
    """Decodes frames of a video file by index.

    It decodes forward, seeks to go back or far ahead, and caches the latest frames for reading backward.
    """

    def __init__(self, file: VideoFile):
        self._file = file
        self._index_of_pts = None if file.pts is None else {pts: i for i, pts in enumerate(file.pts)}
        self._cache: OrderedDict[int, Any] = OrderedDict()
        self._container: Any = None
        self._restart()

    def read(self, index: int) -> np.ndarray:
        """Decodes a frame.

        Args:
            index: Its number in order of presentation, from 0.

        Returns:
            [H, W, 3] uint8, upright.

        Raises:
            FrameError: The frame is missing or broken, or its size is not that of the first frame.
        """
        av = import_av()
        try:
            frame = self._cache.get(index) or self._decode_frame(index)
            pixels = frame.to_ndarray(format="rgb24")
        except av.error.FFmpegError as error:
            raise FrameError(f"{self._file.path}: frame {index} cannot be decoded ({error}).") from error
        # Phones store the rotation as metadata, counterclockwise.
        pixels = np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
        if hasattr(self._file, "size"):
            check_size(f"{self._file.path}: frame {index}", pixels.shape[:2], self._file.size)
        return pixels

    def close(self) -> None:
        """Closes the file and empties the cache."""
        self._cache.clear()
        if self._container is not None:
            self._container.close()

    def _restart(self) -> None:
        self.close()
        self._container = import_av().open(str(self._file.path))
        self._stream = _video_stream(self._container, self._file.path)
        self._stream.thread_type = "AUTO"
        self._decoded = self._container.decode(self._stream)
        self._next = 0

    def _seek(self, time: int) -> None:
        self._container.seek(time, stream=self._stream)
        self._decoded = self._container.decode(self._stream)
        self._next = -1

    def _decode_frame(self, index: int) -> Any:
        keyframes, pts = self._file.keyframes, self._file.pts
        before = keyframes[: bisect_right(keyframes, index)]
        frame = None
        if (before[-1] if before else 0) <= self._next <= index:
            frame = self._decode_until(index)
        # A seek may land behind the frame if the file's index is coarse; then the keyframe before is tried.
        for key in before[:-3:-1]:
            if frame is None and pts is not None:
                self._seek(pts[key])
                frame = self._decode_until(index)
        if frame is None:
            self._restart()
            frame = self._decode_until(index)
        if frame is None:
            raise FrameError(f"{self._file.path}: frame {index} of {self._file.length} is broken or missing.")
        return frame

    def _decode_until(self, index: int) -> Any:
        """Decodes up to a frame. None if the frame was passed, or the video has ended."""
        for frame in self._decoded:
            number = self._next if self._index_of_pts is None else self._index_of_pts.get(frame.pts, -1)
            if number < 0:
                continue
            self._next = number + 1
            self._cache[number] = frame
            self._cache.move_to_end(number)
            while len(self._cache) > max(2, _CACHED_PIXELS // (frame.width * frame.height)):
                self._cache.popitem(last=False)
            if number >= index:
                return frame if number == index else None
        self._next = -1
        return None


def import_av(what: str = "reading video files") -> Any:
    """The module `av`.

    Args:
        what: What needs it, as the error says.

    Raises:
        FrameError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise FrameError(f"{what} needs PyAV: pip install 'edgetam-jax[video]'.") from error
    return av


def _video_stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise FrameError(f"{path}: the file has no video stream.")
    return container.streams.video[0]


def _read_timestamps(container: Any, stream: Any, path: Path) -> list[tuple[int | None, bool]]:
    """For each frame that is shown, its time stamp and whether it is a keyframe."""
    packets = [(p.pts, p.is_keyframe, p.is_discard) for p in container.demux(stream) if p.size]
    # Only this format's header knows the exact number.
    if "mp4" in container.format.name and len(packets) < stream.frames:
        raise FrameError(f"{path}: the file is cut off; {len(packets)} of its {stream.frames} frames are there.")
    return [(pts, key) for pts, key, discard in packets if not discard]
