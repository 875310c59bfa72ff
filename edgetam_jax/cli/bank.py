"""`edgetam-jax bank --photographs FOLDER ... --out FILE`: packs pictures for training, see `data.packing`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from edgetam_jax.data.packing import Kind, Source, pack_bank

HELP = {
    "photographs": "a folder of photographs, which become backgrounds and textures",
    "clips": "a folder of folders of frames, which become moving backgrounds",
    "cutouts": "a folder of pictures with alpha, which become things",
    "annotated": "a dataset, FOLDER or FOLDER:SPLIT, whose masked objects become things",
}


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    sources = [_source(kind, text) for kind in get_args(Kind) for text in getattr(arguments, kind)]
    fingerprint = pack_bank(sources, arguments.out, arguments.force)
    size = arguments.out.stat().st_size / 1e6
    print(f"{arguments.out}: {size:.0f} MB, fingerprint {fingerprint}")


def _source(kind: Kind, text: str) -> Source:
    if kind == "annotated" and not Path(text).exists() and ":" in text:
        folder, split = text.rsplit(":", 1)
        return Source(kind, Path(folder), split)
    return Source(kind, Path(text))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgetam-jax bank",
        description="Pack pictures into one file, from which training composes clips (key `bank` of a recipe's "
        "[synthetic]). Each option may be repeated.",
    )
    for kind in get_args(Kind):
        parser.add_argument(f"--{kind}", action="append", default=[], metavar="FOLDER", help=HELP[kind])
    parser.add_argument("--out", type=Path, required=True, help="the file")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    return parser
