"""Image files and other still images: one by one, or as the frames of a video."""

import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetam_jax.errors import FrameError
from edgetam_jax.media.video_reader import check_size
from edgetam_jax.ops.pixels import as_image, is_pil, pil_rgb

if TYPE_CHECKING:  # Pillow is imported where files are read
    from PIL import Image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

_EXIF_ORIENTATION = 0x0112


def read_image(source: Any) -> np.ndarray:
    """One image file, PIL image or array as uint8 RGB [H, W, 3]. EXIF orientation is applied to files only."""
    if not isinstance(source, str | Path):
        return np.asarray(as_image(source))
    from PIL import ImageOps

    with _opened(source) as image:
        try:
            turned = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
            return np.ascontiguousarray(pil_rgb(turned))
        except _broken() as error:
            raise FrameError(f"{source}: the image is broken ({error}); replace or remove it.") from error


def read_square(path: str | Path, side: int) -> tuple["Image.Image", tuple[int, int]]:
    """An image file as RGB, upright and resized to side x side; and its own size (height, width).

    A JPEG is decoded at a half, a quarter or an eighth of its size, which is faster, where that is large enough.
    """
    from PIL import Image, ImageOps

    with _opened(path) as image:
        size = _upright_size(image, path)
        try:
            if _orientation(image) != 1:
                turned, box = ImageOps.exif_transpose(image), None
            else:
                # The last row and column of a reduced image may stand for fewer pixels than the others.
                turned, (_, box) = image, image.draft(None, (side, side)) or (None, None)
            turned.load()
        except _broken() as error:
            raise FrameError(f"{path}: the image is broken ({error}); replace or remove it.") from error
    rgb = turned if turned.mode == "RGB" else Image.fromarray(pil_rgb(turned))
    return rgb.resize((side, side), Image.Resampling.BILINEAR, box), size


def read_rgba(path: str | Path) -> np.ndarray:
    """One image file as uint8 RGBA [H, W, 4], upright by its EXIF; alpha is 255 where the file has none."""
    from PIL import ImageOps

    with _opened(path) as image:
        try:
            turned = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
            return np.asarray(turned.convert("RGBA"))
        except _broken() as error:
            raise FrameError(f"{path}: the image is broken ({error}); replace or remove it.") from error


def _broken() -> tuple[type[Exception], ...]:
    """What Pillow raises for damaged files."""
    from PIL import Image

    return OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError


def _opened(path: str | Path) -> "Image.Image":
    from PIL import Image

    try:
        return Image.open(path)
    except FileNotFoundError as error:
        raise FrameError(f"{path}: there is no such file.") from error
    except _broken() as error:
        raise FrameError(f"{path}: not an image that can be read ({error}).") from error


def _orientation(image: "Image.Image") -> int:
    # Pillow would decode a whole PNG file to look for EXIF behind its pixels.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return image.getexif().get(_EXIF_ORIENTATION, 1)


def _image_size(path: str | Path) -> tuple[int, int]:
    """Height and width, upright, from the file's header."""
    with _opened(path) as image:
        return _upright_size(image, path)


def _upright_size(image: "Image.Image", path: str | Path) -> tuple[int, int]:
    try:
        turned = _orientation(image) in (5, 6, 7, 8)
    except _broken() as error:
        raise FrameError(f"{path}: the image is broken ({error}); replace or remove it.") from error
    return (image.width, image.height) if turned else (image.height, image.width)


def images_in(folder: Path) -> list[Path]:
    """Its image files in natural order: frame2 before frame10."""
    files = [f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]
    if not files:
        raise FrameError(f"{folder}: the folder holds no images; expected files with {', '.join(IMAGE_SUFFIXES)}.")
    return sorted(files, key=lambda f: _natural(f.name))


def _natural(name: str) -> tuple[list[Any], str]:
    """Sorts numbers in names by value; equal ones (1.png, 01.png) by name."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def describe(index: int, item: Any) -> str:
    return f"frame {index} ({item})" if isinstance(item, str | Path) else f"frame {index}"


class Images:
    """Paths, PIL images and arrays, loaded one by one; its own reader."""

    fps: float | None = None
    seconds: list[float] | None = None
    length: int | None
    threaded: bool
    size: tuple[int, int]

    def __init__(self, items: Sequence[Any] | Any, threaded: bool = False):
        if len(items) == 0:
            raise FrameError("the list of frames is empty; expected at least one.")
        self._items, self.length, self.threaded = items, len(items), threaded
        # Only headers are read here, so that a frame that does not fit is found before work on the others begins.
        self.size = self._size(0)
        for index in range(1, len(items)):
            check_size(describe(index, items[index]), self._size(index), self.size)

    def reader(self) -> "Images":
        return self

    def read(self, index: int) -> np.ndarray:
        frame = read_image(self._items[index])
        check_size(describe(index, self._items[index]), frame.shape[:2], self.size)
        return frame

    def close(self) -> None:
        pass

    def _size(self, index: int) -> tuple[int, int]:
        item = self._items[index]
        if isinstance(item, str | Path):
            return _image_size(item)
        if is_pil(item):
            return item.height, item.width
        height, width = as_image(item).shape[:2]
        return height, width
