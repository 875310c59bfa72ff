"""Video files by PyAV: every frame by its number, in order of presentation."""

from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from edgetam_jax.errors import FrameError

_RECENT_PIXELS = 64_000_000  # decoded frames kept for reading backwards: 30 at 1920x1080, about 100 MB


def check_size(what: str, size: tuple[int, ...], expected: tuple[int, int]) -> None:
    if size != expected:
        raise FrameError(
            f"{what} is {size[1]}x{size[0]} (width x height), frame 0 is {expected[1]}x{expected[0]}; "
            "all frames of a video must have one size."
        )


class VideoFile:
    """One pass over the file's packets, without decoding, numbers the frames by their time stamps.

    `times` are the stamps in order of presentation, None where the file has no usable ones; `keys` are the numbers
    of the frames to which a seek can go.
    """

    fps: float | None
    seconds: list[float] | None  # when each frame is shown, from the first one on
    length: int | None
    threaded: bool = True
    size: tuple[int, int]

    def __init__(self, path: Path):
        self.path = path
        av = import_av()
        try:
            with av.open(str(path)) as container:
                stream = _stream(container, path)
                self.fps = float(stream.average_rate) if stream.average_rate else None
                packets, tick = _packets(container, stream, path), stream.time_base
            stamps = sorted((pts, key) for pts, key in packets if pts is not None)
            self.times: list[int] | None = [pts for pts, _ in stamps]
            self.keys = [i for i, (_, key) in enumerate(stamps) if key]
            self.length = len(packets)
            self.seconds = [float((pts - self.times[0]) * tick) for pts in self.times]
            if len(set(self.times)) < len(packets):
                # Old formats have no usable stamps: frames are counted by decoding, going back begins at the first.
                self.times, self.keys, self.seconds = None, [], None
                with av.open(str(path)) as container:
                    self.length = sum(1 for _ in container.decode(_stream(container, path)))
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

    def reader(self) -> "Decoder":
        return Decoder(self)


class Decoder:
    """Decodes forwards, seeks to go back or far ahead, and keeps the latest frames for reading backwards."""

    def __init__(self, file: VideoFile):
        self._file = file
        self._number = None if file.times is None else {pts: i for i, pts in enumerate(file.times)}
        self._recent: OrderedDict[int, Any] = OrderedDict()
        self._container: Any = None
        self._restart()

    def read(self, index: int) -> np.ndarray:
        av = import_av()
        try:
            frame = self._recent.get(index) or self._find(index)
            pixels = frame.to_ndarray(format="rgb24")
        except av.error.FFmpegError as error:
            raise FrameError(f"{self._file.path}: frame {index} cannot be decoded ({error}).") from error
        # The rotation that a phone wrote down, counterclockwise.
        pixels = np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
        if hasattr(self._file, "size"):
            check_size(f"{self._file.path}: frame {index}", pixels.shape[:2], self._file.size)
        return pixels

    def close(self) -> None:
        self._recent.clear()
        if self._container is not None:
            self._container.close()

    def _restart(self) -> None:
        self.close()
        self._container = import_av().open(str(self._file.path))
        self._stream = _stream(self._container, self._file.path)
        self._stream.thread_type = "AUTO"
        self._decoded = self._container.decode(self._stream)
        self._next = 0

    def _seek(self, time: int) -> None:
        self._container.seek(time, stream=self._stream)
        self._decoded = self._container.decode(self._stream)
        self._next = -1

    def _find(self, index: int) -> Any:
        keys, times = self._file.keys, self._file.times
        before = keys[: bisect_right(keys, index)]
        frame = None
        if (before[-1] if before else 0) <= self._next <= index:
            frame = self._forward(index)
        # A seek may land behind the frame where the file's index is coarse: then from one start earlier.
        for key in before[:-3:-1]:
            if frame is None and times is not None:
                self._seek(times[key])
                frame = self._forward(index)
        if frame is None:
            self._restart()
            frame = self._forward(index)
        if frame is None:
            raise FrameError(f"{self._file.path}: frame {index} of {self._file.length} is broken or missing.")
        return frame

    def _forward(self, index: int) -> Any:
        """Decode up to a frame; None if decoding has passed it or come to the end."""
        for frame in self._decoded:
            number = self._next if self._number is None else self._number.get(frame.pts, -1)
            if number < 0:
                continue
            self._next = number + 1
            self._recent[number] = frame
            self._recent.move_to_end(number)
            while len(self._recent) > max(2, _RECENT_PIXELS // (frame.width * frame.height)):
                self._recent.popitem(last=False)
            if number >= index:
                return frame if number == index else None
        self._next = -1
        return None


def import_av(what: str = "reading video files") -> Any:
    try:
        import av
    except ImportError as error:
        raise FrameError(f"{what} needs PyAV: pip install 'edgetam-jax[video]'.") from error
    return av


def _stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise FrameError(f"{path}: the file has no video stream.")
    return container.streams.video[0]


def _packets(container: Any, stream: Any, path: Path) -> list[tuple[int | None, bool]]:
    """Time stamp of every frame that is shown, and whether decoding can begin there."""
    packets = [(p.pts, p.is_keyframe, p.is_discard) for p in container.demux(stream) if p.size]
    # Only this format's header knows the exact number.
    if "mp4" in container.format.name and len(packets) < stream.frames:
        raise FrameError(f"{path}: the file is cut off; {len(packets)} of its {stream.frames} frames are there.")
    return [(pts, key) for pts, key, discard in packets if not discard]
