"""Numbers published for the released weights, the pictures they are about, and the table of what came of them.

`goldens.json` holds the numbers. Those for "hf" preprocessing come from tests of the Hugging Face port (and its
manual), those for "image" from the original's image predictor on a CPU. Tolerances leave room for other decoders of
pictures and for GPUs with reduced precision.
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

FRAMES = 3  # of a video, for which numbers are known
GATE = "gate"  # an image that is drawn here
GATE_SIZE = (1200, 800)
GATE_SQUARES = {  # top left corner: colour
    (37, 41): (255, 0, 255),
    (1149, 58): (0, 255, 255),
    (601, 397): (255, 255, 0),
    (71, 757): (255, 0, 0),
    (1003, 731): (0, 0, 255),
}


class Row(NamedTuple):
    check: str
    expected: str
    got: str
    passed: bool | None  # None: not run


@functools.cache
def goldens() -> dict[str, Any]:
    return json.loads(importlib.resources.files("convert").joinpath("goldens.json").read_text())


def read_media(paths: Iterable[pathlib.Path]) -> dict[str, np.ndarray]:
    """Images [H, W, 3] and the first frames of videos [T, H, W, 3] by the names that the checks have for them.

    Of a folder, what is known in it. An image is known by its content, or by its name and size; a video, which may be
    a folder of frames, by its name and size. What was given and is unknown goes by its path; "gate" is always there.
    """
    media = {GATE: gate_image()}
    for path in paths:
        media |= _read_folder(path) if path.is_dir() and _video_name(path) is None else dict([_read(path)])
    return media


def gate_image() -> np.ndarray:
    """Small coloured squares on gray: small objects, near borders, on an image that is not square."""
    width, height = GATE_SIZE
    image = np.full((height, width, 3), 128, np.uint8)
    for (x, y), colour in GATE_SQUARES.items():
        image[y : y + 12, x : x + 12] = colour
    return image


def decode_runs(runs: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """A mask from the lengths of its runs, row by row, background first."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size)


def numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def table(rows: Iterable[Row]) -> str:
    """Rows as aligned text, and a line that counts them."""
    rows = list(rows)
    status = {True: "pass", False: "FAIL", None: "skip"}
    lines = [("check", "expected", "got", "result"), *((*row[:3], status[row.passed]) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    text = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3]]) for line in lines
    ]
    counts = {name: sum(row.passed is value for row in rows) for value, name in status.items()}
    return "\n".join([*text, f"{counts['pass']} passed, {counts['FAIL']} failed, {counts['skip']} not run"])


def _read_folder(folder: pathlib.Path) -> dict[str, np.ndarray]:
    candidates = (path for path in sorted(folder.iterdir()) if _video_name(path) or path.suffix in IMAGE_SUFFIXES)
    names = [*goldens()["images"], *goldens()["videos"]]
    known = {name: pixels for path in candidates for name, pixels in _known(path)}
    if not known:
        raise FrameError(f"{folder} holds none of the published pictures; expected one or more of {', '.join(names)}.")
    return known


def _read(path: pathlib.Path) -> tuple[str, np.ndarray]:
    for found in _known(path):
        return found
    return str(path), _frames(path) if _video_name(path) else _image(path)


def _known(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    """The file's name among the checks, and its pixels; nothing if it has none there."""
    if video := _video_name(path):
        frames = _frames(path)
        if [*frames.shape[2:0:-1]] == goldens()["videos"][video]["size"]:
            yield video, frames
        return
    images = goldens()["images"]
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error
    same = [name for name, known in images.items() if digest == known.get("sha256")]
    if not same and path.name not in images:
        return
    image = _image(path)
    size = [*image.shape[1::-1]]
    if same or images[path.name].get("size", size) == size:
        yield (same or [path.name])[0], image


def _video_name(path: pathlib.Path) -> str | None:
    """Of a video file, or of a folder with its frames."""
    stem = path.name if path.is_dir() else path.stem
    return next((name for name in goldens()["videos"] if pathlib.Path(name).stem == stem), None)


def _frames(path: pathlib.Path) -> np.ndarray:
    with open_video(path, read_ahead=0) as video:
        return np.stack(list(video.frames(stop=FRAMES)))


def _image(path: pathlib.Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as file:
            return pil_rgb(file)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: pathlib.Path, error: OSError) -> FrameError:
    return FrameError(f"{path} cannot be read as an image: {error}")
