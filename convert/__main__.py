"""The command line: `edgetam-jax convert SOURCE OUT`."""

import argparse
import hashlib
import pathlib
import sys
import time
from collections.abc import Sequence

import jax

from convert.goldens import read_media, table
from convert.verify import verify
from edgetam_jax.checkpoints.api import Loaded, load, read, save
from edgetam_jax.checkpoints.writers import write_hf, write_torch
from edgetam_jax.errors import CheckpointError, EdgeTAMError
from edgetam_jax.media.atomic import check_place

RELEASED_SHA256 = "ed2d4850b8792c239689b043c47046ec239b6e808a3d9b6ae676c803fd8780df"


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(
        prog="edgetam-jax convert",
        description="Convert EdgeTAM checkpoints between PyTorch, Hugging Face and edgetam_jax, in any direction.",
    )
    arguments.add_argument(
        "source", type=pathlib.Path, help="edgetam.pt, a Hugging Face folder or model.safetensors, or one of our own"
    )
    arguments.add_argument("out", type=pathlib.Path, help="file or folder to write")
    arguments.add_argument("--to", choices=("flax", "torch", "hf"), default="flax", help="what to write (flax)")
    arguments.add_argument(
        "--format",
        choices=("safetensors", "orbax"),
        default="safetensors",
        help="of --to flax (safetensors: one file if OUT ends in .safetensors, else a folder)",
    )
    arguments.add_argument("--force", action="store_true", help="replace OUT if it exists")
    arguments.add_argument(
        "--verify",
        nargs="*",
        type=pathlib.Path,
        metavar="PATH",
        help="run published examples on what was written; pictures, or folders that hold some of them: truck.jpg, "
        "groceries.jpg, dog-sam.png, car.png, and the video bedroom.mp4",
    )
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """0: done; 1: done, and a check of --verify failed; 2: nothing done."""
    arguments = parser().parse_args(argv)
    steps = 3 if arguments.verify is None else 4
    try:
        if arguments.to != "flax" and arguments.format != "safetensors":
            raise CheckpointError(f"--format {arguments.format} is for --to flax only; leave it out.")
        check_place(arguments.out, arguments.force)
        media = read_media(arguments.verify or ())
        with Step(1, steps, f"reading {arguments.source}"):
            loaded = read(arguments.source)
        with Step(2, steps, "looking at what was read"):
            lines = summary(arguments.source, loaded)
        with Step(3, steps, f"writing {arguments.out}"):
            write(loaded, arguments)
        print("\n".join([*lines, *written(arguments)]))
        if arguments.verify is None:
            return 0
        with Step(4, steps, "running the published examples"):
            rows = list(verify(load(arguments.out), media))
        print(table(rows))
        return int(any(row.passed is False for row in rows))
    except EdgeTAMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


class Step:
    """A progress line on the terminal: what is going on, and how long it took."""

    def __init__(self, number: int, total: int, text: str) -> None:
        self.text = f"[{number}/{total}] {text} ..."

    def __enter__(self) -> None:
        print(self.text, end="", flush=True, file=sys.stderr)
        self.start = time.monotonic()

    def __exit__(self, failure: type | None, *_: object) -> None:
        took = "failed" if failure else f"{time.monotonic() - self.start:.1f} s"
        print(f" {took}", flush=True, file=sys.stderr)


def summary(source: pathlib.Path, loaded: Loaded) -> list[str]:
    """What was read."""
    config = loaded.model.config
    used = len(jax.tree.leaves(loaded.model.params))
    lines = [
        f"source      {source} ({loaded.kind}, names of {loaded.layout.value}, {', '.join(loaded.dtypes)})",
        f"tensors     {loaded.tensors} read, {used} parameter arrays made of them",
        f"parameters  {loaded.parameters:,}, besides {loaded.statistics:,} stored statistics and constants",
        f"network     {'still images only: no memory, no tracking' if loaded.image_only else 'images and videos'}, "
        f"image size {config.image_size}",
    ]
    for reason, names in loaded.dropped.items():
        shown = names[0] if len(names) == 1 else f"{len(names)} x {names[0].rpartition('.')[2]}"
        lines.append(f"dropped     {shown}: {reason}")
    if source.is_file():
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        whose = "the released edgetam.pt" if digest == RELEASED_SHA256 else "not the released edgetam.pt"
        lines.append(f"sha256      {digest} ({whose})")
    return lines


def write(loaded: Loaded, arguments: argparse.Namespace) -> None:
    model, out, force = loaded.model, arguments.out, arguments.force
    if arguments.to == "flax":
        save(model, out, arguments.format, force=force)
    elif arguments.to == "hf":
        write_hf(model.params, model.config, out, force, loaded.image_only)
    elif loaded.image_only:
        raise CheckpointError(
            f"{arguments.source} is for still images only, and the original loads nothing less than the whole network. "
            "Use --to flax or --to hf, or convert a checkpoint for videos."
        )
    else:
        write_torch(model.params, model.config, out, force)


def written(arguments: argparse.Namespace) -> list[str]:
    out = arguments.out
    size = sum(file.stat().st_size for file in ([out] if out.is_file() else out.rglob("*")) if file.is_file())
    lines = [f"written     {out} ({size:,} bytes, {arguments.to})"]
    if arguments.to != "flax":
        lines.append("filled in   dropped tensors are there as zeros, so that strict loading works")
    return lines


if __name__ == "__main__":
    sys.exit(main())
