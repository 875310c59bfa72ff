"""Frames out: MP4 files that browsers play, and GIFs. Frame by frame, uint8 RGB [H, W, 3] of one size."""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgetam_jax.errors import OutputError
from edgetam_jax.media.video_reader import check_size, import_av

TICKS = 90_000  # a second, where frames come at uneven times
EVEN = 0.002  # seconds by which the frames of an even rate may be off: containers round
GIF_SIDE = 640  # pixels of a GIF's longer side, at most
GIF_TICK = 0.01  # seconds
_BT709 = 1


class FrameTiming:
    """When frames are shown: at an even rate, or at the times of the video that they were made of."""

    def __init__(self, fps: float, seconds: Sequence[float] | None = None) -> None:
        self.rate = Fraction(fps).limit_denominator(1001)
        even = seconds is None or all(abs(t - i / self.rate) <= EVEN for i, t in enumerate(seconds))
        self._seconds = None if even else seconds

    @property
    def time_base(self) -> Fraction:
        return 1 / self.rate if self._seconds is None else Fraction(1, TICKS)

    def pts(self, index: int) -> int:
        """When a frame is shown, in units of the time base."""
        return index if self._seconds is None else round(self._seconds[index] * TICKS)

    def second(self, index: int) -> float:
        """The same in seconds; for the frame after the last too."""
        if self._seconds is None:
            return float(index / self.rate)
        known = len(self._seconds)
        return self._seconds[index] if index < known else self._seconds[-1] + float((index - known + 1) / self.rate)


class Mp4Writer:
    """H.264 with 4:2:0 colours, the index in front. Odd sides grow by one pixel, for these colours come in pairs."""

    def __init__(self, path: Path, size: tuple[int, int], timing: FrameTiming) -> None:
        av = import_av("writing MP4")
        if "libx264" not in av.codecs_available:
            raise OutputError("this build of PyAV cannot write H.264; pip install av, or choose .gif or a folder.")
        self._av, self._size, self._timing, self._index = av, size, timing, 0
        height, width = size
        self._spare = ((0, height % 2), (0, width % 2), (0, 0))
        try:
            self._file = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
            self._stream = self._file.add_stream("libx264", timing.rate, {"preset": "veryfast", "crf": "20"})
        except av.error.FFmpegError as error:
            raise _as_os_error(error) from error
        self._stream.height, self._stream.width = height + height % 2, width + width % 2
        self._stream.pix_fmt = "yuv420p"
        coder = self._stream.codec_context
        coder.time_base = timing.time_base
        coder.colorspace = coder.color_primaries = coder.color_trc = _BT709
        coder.color_range = 1  # 16 to 235

    def add(self, picture: np.ndarray) -> None:
        check_size(f"frame {self._index}", picture.shape[:2], self._size)
        frame = self._av.VideoFrame.from_ndarray(np.pad(picture, self._spare, mode="edge"), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709)
        frame.pts, frame.time_base = self._timing.pts(self._index), self._timing.time_base
        self._index += 1
        self._put(frame)

    def finish(self) -> None:
        """Without it there is no file that plays."""
        self._put(None)
        try:
            self._file.close()
        except self._av.error.FFmpegError as error:
            raise _as_os_error(error) from error

    def _put(self, frame: Any) -> None:
        try:
            self._file.mux(self._stream.encode(frame))
        except self._av.error.FFmpegError as error:
            raise _as_os_error(error) from error


class GifWriter:
    """At most `GIF_SIDE` pixels long. Frames wait in memory, a byte a pixel, until the end."""

    def __init__(self, path: Path, size: tuple[int, int], timing: FrameTiming) -> None:
        self._path, self._timing, self._frames = path, timing, list[Image.Image]()
        scale = min(1.0, GIF_SIDE / max(size))
        self._shape = max(1, round(size[1] * scale)), max(1, round(size[0] * scale))

    def add(self, picture: np.ndarray) -> None:
        image = Image.fromarray(picture)
        if image.size != self._shape:
            image = image.resize(self._shape, Image.Resampling.LANCZOS)
        self._frames.append(image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE))

    def finish(self) -> None:
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
