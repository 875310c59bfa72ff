"""Published numbers for the released weights (golden values), the images and videos that they are for, and reports.

`goldens.json` holds the numbers. Those for "hf" preprocessing come from tests of the Hugging Face port (and its
manual), those for "image" from the original's image predictor on a CPU. The
tolerances allow for other image decoders and for GPUs with reduced precision.
"""

import functools
import hashlib
import importlib.resources
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgetam_jax.errors import FrameError
from edgetam_jax.media.image import IMAGE_SUFFIXES
from edgetam_jax.media.video import open_video
from edgetam_jax.ops.pixels import pil_rgb

FRAMES = 3  # of a video, for which numbers are published
GATE = "gate"  # an image that is drawn by this module
GATE_SIZE = (1200, 800)
GATE_SQUARES = {  # top left corner: colour
    (37, 41): (255, 0, 255),
    (1149, 58): (0, 255, 255),
    (601, 397): (255, 255, 0),
    (71, 757): (255, 0, 0),
    (1003, 731): (0, 0, 255),
}


class CheckResult(NamedTuple):
    """One line of the report.

    Attributes:
        check: What was compared.
        expected: The published number.
        got: The computed number.
        passed: Whether they agree; None if the check was not run.
    """

    check: str
    expected: str
    got: str
    passed: bool | None


@functools.cache
def load_goldens() -> dict[str, Any]:
    """The content of goldens.json.

    Returns:
        Images, videos, checks and tolerances.
    """
    return json.loads(importlib.resources.files("convert").joinpath("goldens.json").read_text())


def read_media(paths: Iterable[pathlib.Path]) -> dict[str, np.ndarray]:
    """Reads the images and videos that published numbers are for.

    An image is recognised by its content, or by its name and size; a video, which may be a folder of frames, by its
    name and size.

    Args:
        paths: Files, or folders, of which the files that are recognised are read.

    Returns:
        Images [H, W, 3] and the first frames of videos [T, H, W, 3], by the names that the checks use. A file that is
        not recognised has its path as its name. The image "gate" is always included.

    Raises:
        FrameError: A file cannot be read, or a folder holds nothing that is recognised.
    """
    media = {GATE: gate_image()}
    for path in paths:
        if path.is_dir() and _video_name(path) is None:
            media |= _read_media_folder(path)
        else:
            name, pixels = _read_media_file(path)
            media[name] = pixels
    return media


def gate_image() -> np.ndarray:
    """Draws coloured squares on gray: small objects near the borders of an image that is not square.

    Returns:
        [800, 1200, 3] uint8.
    """
    width, height = GATE_SIZE
    image = np.full((height, width, 3), 128, np.uint8)
    for (x, y), colour in GATE_SQUARES.items():
        image[y : y + 12, x : x + 12] = colour
    return image


def decode_runs(runs: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Decodes a mask.

    Args:
        runs: Lengths of runs in row-major order, starting with background.
        size: Height and width.

    Returns:
        [H, W] bool.
    """
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size)


def format_numbers(values: Iterable[float]) -> str:
    """Formats numbers for the report.

    Args:
        values: The numbers.

    Returns:
        Four decimals of each, separated by spaces.
    """
    return " ".join(f"{value:.4f}" for value in values)


def format_table(results: Iterable[CheckResult]) -> str:
    """Formats results as a table.

    Args:
        results: One for each line.

    Returns:
        The aligned table, and a line with their counts.
    """
    results = list(results)
    status = {True: "pass", False: "FAIL", None: "skip"}
    lines = [("check", "expected", "got", "result"), *((*result[:3], status[result.passed]) for result in results)]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    text = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3]]) for line in lines
    ]
    counts = {name: sum(result.passed is value for result in results) for value, name in status.items()}
    return "\n".join([*text, f"{counts['pass']} passed, {counts['FAIL']} failed, {counts['skip']} not run"])


def _read_media_folder(folder: pathlib.Path) -> dict[str, np.ndarray]:
    candidates = (path for path in sorted(folder.iterdir()) if _video_name(path) or path.suffix in IMAGE_SUFFIXES)
    media = {name: pixels for path in candidates for name, pixels in _match_published(path)}
    if not media:
        names = ", ".join([*load_goldens()["images"], *load_goldens()["videos"]])
        raise FrameError(f"{folder} holds none of the published pictures; expected one or more of {names}.")
    return media


def _read_media_file(path: pathlib.Path) -> tuple[str, np.ndarray]:
    for name, pixels in _match_published(path):
        return name, pixels
    return str(path), _read_frames(path) if _video_name(path) else _read_image(path)


def _match_published(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name that the checks use for this file and its pixels, if the checks use this file."""
    if video := _video_name(path):
        frames = _read_frames(path)
        if [*frames.shape[2:0:-1]] == load_goldens()["videos"][video]["size"]:
            yield video, frames
        return
    images = load_goldens()["images"]
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise _image_error(path, error) from error
    matches = [name for name, facts in images.items() if digest == facts.get("sha256")]
    if not matches and path.name not in images:
        return
    image = _read_image(path)
    size = [*image.shape[1::-1]]
    if matches or images[path.name].get("size", size) == size:
        yield (matches or [path.name])[0], image


def _video_name(path: pathlib.Path) -> str | None:
    """The published name of a video file or of a folder with its frames; None if there is none."""
    stem = path.name if path.is_dir() else path.stem
    return next((name for name in load_goldens()["videos"] if pathlib.Path(name).stem == stem), None)


def _read_frames(path: pathlib.Path) -> np.ndarray:
    with open_video(path, read_ahead=0) as video:
        return np.stack(list(video.frames(stop=FRAMES)))


def _read_image(path: pathlib.Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as file:
            return pil_rgb(file)
    except OSError as error:
        raise _image_error(path, error) from error


def _image_error(path: pathlib.Path, error: OSError) -> FrameError:
    return FrameError(f"{path} cannot be read as an image: {error}")
