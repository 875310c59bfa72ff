"""The command line: `edgetam-jax convert SOURCE OUT`, or `python -m convert SOURCE OUT`."""

import argparse
import hashlib
import pathlib
import sys
import time
from collections.abc import Sequence

import jax

from convert.goldens import format_table, read_media
from convert.verify import verify
from edgetam_jax.checkpoints.api import LoadedCheckpoint, load, read, save
from edgetam_jax.checkpoints.writers import write_hf, write_torch
from edgetam_jax.cli.errors import exit_code
from edgetam_jax.errors import CheckpointError
from edgetam_jax.media.atomic import check_place

RELEASED_SHA256 = "ed2d4850b8792c239689b043c47046ec239b6e808a3d9b6ae676c803fd8780df"


def build_parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(
        prog="edgetam-jax convert",
        description="Convert EdgeTAM checkpoints between PyTorch, Hugging Face and edgetam_jax, in any direction.",
    )
    arguments.add_argument(
        "source",
        type=pathlib.Path,
        help="edgetam.pt, a Hugging Face folder or model.safetensors, or a checkpoint of this project",
    )
    arguments.add_argument("out", type=pathlib.Path, help="file or folder to write")
    arguments.add_argument("--to", choices=("flax", "torch", "hf"), default="flax", help="the layout to write (flax)")
    arguments.add_argument(
        "--format",
        choices=("safetensors", "orbax"),
        default="safetensors",
        help="the file format of --to flax (safetensors: one file if OUT ends in .safetensors, else a folder)",
    )
    arguments.add_argument("--force", action="store_true", help="replace OUT if it exists")
    arguments.add_argument(
        "--verify",
        nargs="*",
        type=pathlib.Path,
        metavar="PATH",
        help="run published examples on the written checkpoint; images and videos, or folders that contain some of "
        "them: truck.jpg, groceries.jpg, dog-sam.png, car.png, and the video bedroom.mp4",
    )
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 for success, 1 if a check of --verify failed, 2 if nothing was converted."""
    return exit_code(_convert, build_parser().parse_args(argv))


def _convert(arguments: argparse.Namespace) -> int:
    steps = 3 if arguments.verify is None else 4
    if arguments.to != "flax" and arguments.format != "safetensors":
        raise CheckpointError(f"--format {arguments.format} is for --to flax only; leave it out.")
    check_place(arguments.out, arguments.force)
    media = read_media(arguments.verify or ())
    with ProgressStep(1, steps, f"reading {arguments.source}"):
        loaded = read(arguments.source)
    with ProgressStep(2, steps, "summarizing the checkpoint"):
        lines = format_summary(arguments.source, loaded)
    with ProgressStep(3, steps, f"writing {arguments.out}"):
        write_checkpoint(loaded, arguments)
    print("\n".join([*lines, *format_written(arguments)]))
    if arguments.verify is None:
        return 0
    with ProgressStep(4, steps, "running the published examples"):
        results = list(verify(load(arguments.out), media))
    print(format_table(results))
    return int(any(result.passed is False for result in results))


class ProgressStep:
    """Prints a step of the conversion to standard error, and at its end how long it took."""

    def __init__(self, number: int, total: int, text: str) -> None:
        self.text = f"[{number}/{total}] {text} ..."

    def __enter__(self) -> None:
        print(self.text, end="", flush=True, file=sys.stderr)
        self.start = time.monotonic()

    def __exit__(self, failure: type | None, *_: object) -> None:
        outcome = "failed" if failure else f"{time.monotonic() - self.start:.1f} s"
        print(f" {outcome}", flush=True, file=sys.stderr)


def format_summary(source: pathlib.Path, loaded: LoadedCheckpoint) -> list[str]:
    """Facts about the source checkpoint, a line each."""
    config = loaded.model.config
    arrays = len(jax.tree.leaves(loaded.model.params))
    lines = [
        f"source      {source} ({loaded.kind}, names of {loaded.layout.value}, {', '.join(loaded.dtypes)})",
        f"tensors     {loaded.tensors} read, converted to {arrays} parameter arrays",
        f"parameters  {loaded.parameters:,}, and {loaded.statistics:,} stored statistics and constants",
        f"network     {'still images only: no memory, no tracking' if loaded.image_only else 'images and videos'}, "
        f"image size {config.image_size}",
    ]
    for reason, names in loaded.dropped.items():
        tensors = names[0] if len(names) == 1 else f"{len(names)} x {names[0].rpartition('.')[2]}"
        lines.append(f"dropped     {tensors}: {reason}")
    if source.is_file():
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        origin = "the released edgetam.pt" if digest == RELEASED_SHA256 else "not the released edgetam.pt"
        lines.append(f"sha256      {digest} ({origin})")
    return lines


def write_checkpoint(loaded: LoadedCheckpoint, arguments: argparse.Namespace) -> None:
    """Writes the model in the requested layout and format."""
    model, out, force = loaded.model, arguments.out, arguments.force
    if arguments.to == "flax":
        save(model, out, arguments.format, force=force)
    elif arguments.to == "hf":
        write_hf(model.params, model.config, out, force, loaded.image_only)
    elif loaded.image_only:
        raise CheckpointError(
            f"{arguments.source} is for still images only, but the original needs the parameters of the whole network. "
            "Use --to flax or --to hf, or convert a checkpoint for videos."
        )
    else:
        write_torch(model.params, model.config, out, force)


def format_written(arguments: argparse.Namespace) -> list[str]:
    """Facts about the output, a line each."""
    out = arguments.out
    size = sum(file.stat().st_size for file in ([out] if out.is_file() else out.rglob("*")) if file.is_file())
    lines = [f"written     {out} ({size:,} bytes, {arguments.to})"]
    if arguments.to != "flax":
        lines.append("filled in   dropped tensors are written as zeros, so that strict loading works")
    return lines


if __name__ == "__main__":
    sys.exit(main())
