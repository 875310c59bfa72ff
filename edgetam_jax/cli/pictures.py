"""What `segment` and `masks` write of one image, in the form that each file's suffix names; `-` is standard output."""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from edgetam_jax.cli import options
from edgetam_jax.cli.outputs import color_ids
from edgetam_jax.errors import FrameError
from edgetam_jax.media.atomic import check_place, replacing
from edgetam_jax.media.image import read_image
from edgetam_jax.media.palette import mask_to_palette
from edgetam_jax.media.visualize import overlay
from edgetam_jax.types import LARGEST_ID

SUFFIXES = {
    ".jpg": "the image with the masks drawn on it (also .webp)",
    ".webp": "",
    ".png": "palette image whose values are the objects' numbers",
    ".json": "run-lengths as COCO has them",
    ".npz": "arrays: masks [objects, height, width], obj_ids",
}
STANDARD = Path("-")


class Result(NamedTuple):
    image: np.ndarray  # [H, W, 3]
    obj_ids: Sequence[int]
    masks: np.ndarray  # [O, H, W] bool
    records: Sequence[dict[str, Any]]


def open_image(path: Path) -> np.ndarray:
    """A file, or what comes in by standard input."""
    if path != STANDARD:
        return read_image(path)
    try:
        return read_image(ImageOps.exif_transpose(Image.open(io.BytesIO(sys.stdin.buffer.read()))))
    except (OSError, SyntaxError, ValueError) as error:
        raise FrameError(f"standard input: not an image that can be read ({error}).") from error


def add_out_option(parser: argparse.ArgumentParser, command: str) -> None:
    kinds = "; ".join(f"{suffix}: {what}" for suffix, what in SUFFIXES.items() if what)
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        action="append",
        help=f"output, many times if you like (NAME-{command}.jpg). {kinds}; -: JSON to standard output",
    )


def outputs_of(outs: Sequence[Path] | None, image: Path, command: str, force: bool) -> list[Path]:
    """The outputs that were asked for, or the usual one; checked as far as that can be before."""
    name = "image" if image == STANDARD else image.resolve().stem
    chosen = list(outs or [Path(f"{name}-{command}.jpg")])
    files = [out for out in chosen if out != STANDARD]
    options.check_outputs(files, SUFFIXES)
    for out in files:
        check_place(out, force)
    return chosen


def write(result: Result, outs: Sequence[Path], force: bool) -> None:
    for out in outs:
        if out == STANDARD:
            print(_lines(result.records), end="")
            continue
        with replacing(out, force) as partial:
            _write(result, partial, out.suffix.lower())
        print(f"written: {out}", file=sys.stderr if STANDARD in outs else sys.stdout)


def _write(result: Result, path: Path, suffix: str) -> None:
    if suffix == ".json":
        path.write_text(_lines(result.records))
    elif suffix == ".npz":
        with path.open("wb") as file:
            np.savez_compressed(file, masks=result.masks, obj_ids=np.array(result.obj_ids, np.int32))
    elif suffix == ".png":
        mask_to_palette(result.masks[:LARGEST_ID], result.obj_ids[:LARGEST_ID]).save(path, "PNG")
    else:
        picture = Image.fromarray(overlay(result.image, result.masks, obj_ids=color_ids(result.obj_ids)))
        picture.save(path, "WEBP" if suffix == ".webp" else "JPEG", quality=92)


def _lines(records: Sequence[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n"
