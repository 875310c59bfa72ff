"""Outputs of commands: checks of their names, and what `segment` and `masks` write for one image.

The suffix of each file decides its format; `-` is standard output.
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from edgetam_jax.errors import ConfigError, FrameError
from edgetam_jax.media.atomic import check_place, replacing
from edgetam_jax.media.image import read_image
from edgetam_jax.media.outputs import color_ids
from edgetam_jax.media.palette import mask_to_palette
from edgetam_jax.media.visualize import overlay
from edgetam_jax.types import LARGEST_ID

IMAGE_SUFFIXES = {
    ".jpg": "the image with the masks drawn on it (also .webp)",
    ".webp": "",
    ".png": "palette image whose values are object ids",
    ".json": "COCO run-length encodings",
    ".npz": "arrays: masks [objects, height, width], obj_ids",
}
STDIO = Path("-")


class ImageResult(NamedTuple):
    image: np.ndarray  # [H, W, 3] uint8
    obj_ids: Sequence[int]
    masks: np.ndarray  # [O, H, W] bool
    records: Sequence[dict[str, Any]]  # one for each mask, for .json


def add_force_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace existing outputs")


def add_image_out_option(parser: argparse.ArgumentParser, command: str) -> None:
    formats = "; ".join(f"{suffix}: {what}" for suffix, what in IMAGE_SUFFIXES.items() if what)
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        action="append",
        help=f"output, may be repeated (NAME-{command}.jpg). {formats}; -: JSON to standard output",
    )


def check_suffixes(outs: Sequence[Path], suffixes: Mapping[str, str]) -> None:
    """Raises if an output has a suffix that is not among `suffixes`, or is named twice."""
    for out in outs:
        if out.suffix.lower() not in suffixes:
            known = ", ".join(suffix or "no suffix" for suffix in suffixes)
            raise ConfigError(f"{out} cannot be written: {out.suffix or 'no suffix'} is not known; use {known}.")
    if len({os.path.abspath(out) for out in outs}) < len(outs):
        raise ConfigError("the same output is named twice; give each output a name of its own.")


def read_input(path: Path) -> np.ndarray:
    """The pixels [H, W, 3] of an image file or of standard input."""
    if path != STDIO:
        return read_image(path)
    try:
        return read_image(ImageOps.exif_transpose(Image.open(io.BytesIO(sys.stdin.buffer.read()))))
    except (OSError, SyntaxError, ValueError) as error:
        raise FrameError(f"standard input: not an image that can be read ({error}).") from error


def image_output_paths(outs: Sequence[Path] | None, image: Path, command: str, force: bool) -> list[Path]:
    """The outputs of the command line or the default one, checked before any slow work."""
    name = "image" if image == STDIO else image.resolve().stem
    paths = list(outs or [Path(f"{name}-{command}.jpg")])
    files = [out for out in paths if out != STDIO]
    check_suffixes(files, IMAGE_SUFFIXES)
    for out in files:
        check_place(out, force)
    return paths


def write_image_outputs(result: ImageResult, outs: Sequence[Path], force: bool) -> None:
    for out in outs:
        if out == STDIO:
            print(_to_json(result.records), end="")
            continue
        with replacing(out, force) as partial:
            _write_file(result, partial, out.suffix.lower())
        print(f"written: {out}", file=sys.stderr if STDIO in outs else sys.stdout)


def _write_file(result: ImageResult, path: Path, suffix: str) -> None:
    if suffix == ".json":
        path.write_text(_to_json(result.records))
    elif suffix == ".npz":
        with path.open("wb") as file:
            np.savez_compressed(file, masks=result.masks, obj_ids=np.array(result.obj_ids, np.int32))
    elif suffix == ".png":
        mask_to_palette(result.masks[:LARGEST_ID], result.obj_ids[:LARGEST_ID]).save(path, "PNG")
    else:
        picture = Image.fromarray(overlay(result.image, result.masks, obj_ids=color_ids(result.obj_ids)))
        picture.save(path, "WEBP" if suffix == ".webp" else "JPEG", quality=92)


def _to_json(records: Sequence[dict[str, Any]]) -> str:
    """A JSON list with a line for each record."""
    return "[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n"
