"""Writes MP4 files that browsers play, and GIFs, frame by frame. Frames are uint8 RGB [H, W, 3] of one size."""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgetam_jax.errors import OutputError
from edgetam_jax.media.video_reader import check_size, import_av

TICKS = 90_000  # a second, for videos without a constant frame rate
EVEN = 0.002  # seconds by which frames of a constant rate may be off, because containers round times
GIF_SIDE = 640  # pixels of a GIF's longer side, at most
GIF_TICK = 0.01  # seconds
_BT709 = 1


class FrameTiming:
    """When frames are shown: at a constant rate, or at the times of the video that they were made from.

    Args:
        fps: Frames per second.
        seconds: The time of each frame. By default, and where they agree with `fps`, the rate is constant.

    Attributes:
        rate: Frames per second as a fraction.
    """

    def __init__(self, fps: float, seconds: Sequence[float] | None = None) -> None:
        self.rate = Fraction(fps).limit_denominator(1001)
        even = seconds is None or all(abs(t - i / self.rate) <= EVEN for i, t in enumerate(seconds))
        self._seconds = None if even else seconds

    @property
    def time_base(self) -> Fraction:
        """The unit of `pts`, in seconds."""
        return 1 / self.rate if self._seconds is None else Fraction(1, TICKS)

    def pts(self, index: int) -> int:
        """The time stamp of a frame.

        Args:
            index: The frame.

        Returns:
            Its time in units of `time_base`.
        """
        return index if self._seconds is None else round(self._seconds[index] * TICKS)

    def second(self, index: int) -> float:
        """The time of a frame.

        Args:
            index: The frame, or the one after the last.

        Returns:
            Its time in seconds.
        """
        if self._seconds is None:
            return float(index / self.rate)
        known = len(self._seconds)
        return self._seconds[index] if index < known else self._seconds[-1] + float((index - known + 1) / self.rate)


class Mp4Writer:
    """Writes H.264 with 4:2:0 colours, and the index at the file's beginning.

    Odd sides grow by one pixel, because two pixels share a colour.

    Args:
        path: The file to write.
        size: Height and width of the frames.
        timing: When they are shown.

    Raises:
        FrameError: PyAV is not installed.
        OutputError: PyAV has no H.264.
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], timing: FrameTiming) -> None:
        av = import_av("writing MP4")
        if "libx264" not in av.codecs_available:
            raise OutputError("this build of PyAV cannot write H.264; pip install av, or choose .gif or a folder.")
        self._av, self._size, self._timing, self._index = av, size, timing, 0
        height, width = size
        self._padding = ((0, height % 2), (0, width % 2), (0, 0))
        try:
            self._file = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
            self._stream = self._file.add_stream("libx264", timing.rate, {"preset": "veryfast", "crf": "20"})
        except av.error.FFmpegError as error:
            raise _as_os_error(error) from error
        self._stream.height, self._stream.width = height + height % 2, width + width % 2
        self._stream.pix_fmt = "yuv420p"
        codec = self._stream.codec_context
        codec.time_base = timing.time_base
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = 1  # 16 to 235

    def add(self, picture: np.ndarray) -> None:
        """Writes the next frame.

        Args:
            picture: [H, W, 3] uint8.

        Raises:
            FrameError: Its size is not that of the video.
            OSError: The file cannot be written.
        """
        check_size(f"frame {self._index}", picture.shape[:2], self._size)
        frame = self._av.VideoFrame.from_ndarray(np.pad(picture, self._padding, mode="edge"), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709)
        frame.pts, frame.time_base = self._timing.pts(self._index), self._timing.time_base
        self._index += 1
        self._encode(frame)

    def finish(self) -> None:
        """Writes what is pending and the index, without which the file cannot be played."""
        self._encode(None)
        try:
            self._file.close()
        except self._av.error.FFmpegError as error:
            raise _as_os_error(error) from error

    def _encode(self, frame: Any) -> None:
        try:
            self._file.mux(self._stream.encode(frame))
        except self._av.error.FFmpegError as error:
            raise _as_os_error(error) from error


class GifWriter:
    """Writes a GIF of at most `GIF_SIDE` pixels in width and height. Frames are held in memory, one byte a pixel.

    Args:
        path: The file to write.
        size: Height and width of the frames.
        timing: When they are shown.
    """

    def __init__(self, path: Path, size: tuple[int, int], timing: FrameTiming) -> None:
        self._path, self._timing, self._frames = path, timing, list[Image.Image]()
        scale = min(1.0, GIF_SIDE / max(size))
        self._shape = max(1, round(size[1] * scale)), max(1, round(size[0] * scale))

    def add(self, picture: np.ndarray) -> None:
        """Adds the next frame.

        Args:
            picture: [H, W, 3] uint8.
        """
        image = Image.fromarray(picture)
        if image.size != self._shape:
            image = image.resize(self._shape, Image.Resampling.LANCZOS)
        self._frames.append(image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE))

    def finish(self) -> None:
        """Writes the file."""
        ticks = [round(self._timing.second(index) / GIF_TICK) for index in range(len(self._frames) + 1)]
        durations = [max(2, end - begin) * 10 for begin, end in itertools.pairwise(ticks)]
        first, *others = self._frames
        first.save(
            self._path,
            "GIF",
            save_all=True,
            append_images=others,
            duration=durations,
            loop=0,
            disposal=1,
            optimize=False,
        )


def _as_os_error(error: Any) -> OSError:
    return OSError(error.errno, error.strerror)
