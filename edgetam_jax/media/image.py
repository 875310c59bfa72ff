"""Reads image files and other still images."""

import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetam_jax.errors import FrameError
from edgetam_jax.ops.pixels import as_image, pil_rgb

if TYPE_CHECKING:  # Pillow is imported where files are read
    from PIL import Image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

_EXIF_ORIENTATION = 0x0112


def read_image(source: Any) -> np.ndarray:
    """Reads an image as uint8 RGB.

    Args:
        source: Path of an image file, PIL image or array. The EXIF orientation of files is applied.

    Returns:
        [H, W, 3] uint8.

    Raises:
        FrameError: The file is missing or broken, or the source is not an image.
    """
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
    """Reads an image file upright and resizes it to a square.

    A JPEG is decoded at a half, a quarter or an eighth of its size if that is large enough, which is faster.

    Args:
        path: Path of the file.
        side: Side of the square in pixels.

    Returns:
        The image as RGB, side x side, and the size of the file's image (height, width).

    Raises:
        FrameError: The file is missing or broken.
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


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width of an image file, upright, from its header."""
    with _opened(path) as image:
        return _upright_size(image, path)


def _upright_size(image: "Image.Image", path: str | Path) -> tuple[int, int]:
    try:
        turned = _orientation(image) in (5, 6, 7, 8)
    except _broken() as error:
        raise FrameError(f"{path}: the image is broken ({error}); replace or remove it.") from error
    return (image.width, image.height) if turned else (image.height, image.width)


def images_in(folder: Path) -> list[Path]:
    """Finds the image files in a folder.

    Args:
        folder: Path of the folder. Hidden files are left out.

    Returns:
        Paths in natural order: frame2 comes before frame10.

    Raises:
        FrameError: The folder holds no images.
    """
    files = [f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]
    if not files:
        raise FrameError(f"{folder}: the folder holds no images; expected files with {', '.join(IMAGE_SUFFIXES)}.")
    return sorted(files, key=lambda f: _natural_key(f.name))


def _natural_key(name: str) -> tuple[list[Any], str]:
    """A key that sorts numbers in names by value, and equal ones (1.png, 01.png) by name."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name
