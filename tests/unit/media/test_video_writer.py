"""Videos that are written: what players need, the time of every frame, and what happens on a full disk."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from edgetam_jax.errors import FrameError
from edgetam_jax.media.video import open_video
from edgetam_jax.media.video_writer import GIF_SIDE, FrameTiming, GifWriter, Mp4Writer
from tests.support.waiting import HANG_SECONDS

UNEVEN = [0.0, 0.1, 0.15, 0.5, 0.52, 1.0]


def pictures(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Each of one colour in its left half, another in its right."""
    colors = np.random.default_rng(0).integers(0, 256, (count, 1, 2, 3), np.uint8)
    return [np.repeat(np.repeat(c, size[0], 0), [size[1] // 2, size[1] - size[1] // 2], 1) for c in colors]


def mp4(path: Path, frames: list[np.ndarray], timing: FrameTiming) -> Path:
    writer = Mp4Writer(path, (frames[0].shape[0], frames[0].shape[1]), timing)
    for frame in frames:
        writer.add(frame)
    writer.finish()
    return path


@pytest.mark.parametrize("size", [(64, 48), (35, 47), (1, 1)])
def test_players_and_browsers_take_it(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = pictures(5, size)
    path = mp4(tmp_path / "clip.partial", frames, FrameTiming(24))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert "mp4" in container.format.name and stream.frames == 5
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")
    with open_video(path) as video:
        assert (video.height, video.width) == tuple(side + side % 2 for side in size)
        for frame, got in zip(frames, video, strict=True):
            inside = got[: size[0], : size[1]].astype(int)
            if size[1] > 40:  # a colour's pixels are pairs: apart from the line where two meet
                assert np.abs(inside - frame)[:, [2, 10, -3]].max() <= 6


@pytest.mark.parametrize("fps", [25, 30000 / 1001, 24000 / 1001, 12.5])
def test_even_rates_stay(tmp_path: Path, fps: float) -> None:
    seconds = [round(i / fps, 3) for i in range(40)]  # as containers round them
    path = mp4(tmp_path / "clip.mp4", pictures(40, (16, 16)), FrameTiming(fps, seconds))
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == Fraction(fps).limit_denominator(1001)


def test_uneven_times_stay(tmp_path: Path) -> None:
    with open_video(mp4(tmp_path / "clip.mp4", pictures(6, (16, 16)), FrameTiming(6, UNEVEN))) as video:
        assert video.seconds == pytest.approx(UNEVEN, abs=1e-4)


def test_gif(tmp_path: Path) -> None:
    frames = pictures(6, (20, 1000))
    writer = GifWriter(tmp_path / "clip.partial", (20, 1000), FrameTiming(6, UNEVEN))
    for frame in frames:
        writer.add(frame)
    writer.finish()
    with Image.open(tmp_path / "clip.partial") as gif:
        assert (gif.format, gif.size, gif.n_frames) == ("GIF", (GIF_SIDE, 13), 6)  # pyright: ignore
        durations = []
        for index, frame in enumerate(frames):
            gif.seek(index)
            durations.append(gif.info["duration"])
            got = np.asarray(gif.convert("RGB")).astype(int)
            assert np.abs(got[6, [20, -20]] - frame[0, [0, -1]]).max() <= 8
    assert durations == [100, 50, 350, 20, 480, 170]


def test_frames_of_another_size(tmp_path: Path) -> None:
    writer = Mp4Writer(tmp_path / "clip.mp4", (16, 16), FrameTiming(5))
    with pytest.raises(FrameError, match="frame 0 is 18x16"):
        writer.add(np.zeros((16, 18, 3), np.uint8))


@pytest.mark.slow
def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    """As `atomic.replacing` expects; here a limit on the size of files stands for the disk."""
    code = f"""
import resource, pathlib, numpy as np
from edgetam_jax.media.atomic import replacing
from edgetam_jax.errors import OutputError
from edgetam_jax.media.video_writer import FrameTiming, Mp4Writer
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
random = np.random.default_rng(0)
try:
    with replacing(pathlib.Path({str(tmp_path / "clip.mp4")!r}), force=False) as partial:
        writer = Mp4Writer(partial, (64, 64), FrameTiming(5))
        for _ in range(40):
            writer.add(random.integers(0, 256, (64, 64, 3), np.uint8))
        writer.finish()
except OutputError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG_SECONDS)
    assert "clip.mp4 could not be written" in run.stdout, run.stderr
    assert not list(tmp_path.iterdir())
