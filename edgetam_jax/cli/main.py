"""The command line: `edgetam-jax COMMAND ...`, or `python -m edgetam_jax COMMAND ...`."""

import contextlib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from edgetam_jax.allocator import tune


class Command(NamedTuple):
    module: str  # whose `main` takes the rest of the line
    help: str


COMMANDS = {
    "demo": Command("edgetam_jax.cli.demo", "see it work: two objects in a clip that is made for it"),
    "track": Command("edgetam_jax.cli.track", "follow objects through a video"),
    "segment": Command("edgetam_jax.cli.segment", "masks of what you point at in an image"),
    "masks": Command("edgetam_jax.cli.masks", "masks of everything in an image"),
    "app": Command("edgetam_jax.app.command", "all of that in a browser, with clicks"),
    "bench": Command("edgetam_jax.cli.bench", "how fast a network is on this device"),
    "info": Command("edgetam_jax.cli.info", "versions, devices, and what is in a network's file"),
    "convert": Command("convert.__main__", "checkpoints between PyTorch, Hugging Face and edgetam_jax"),
    "train": Command("edgetam_jax.cli.train", "train or fine-tune a network by a recipe"),
    "batch": Command("edgetam_jax.cli.batch", "track a folder of videos from files of prompts"),
    "vos": Command("edgetam_jax.cli.vos", "track every object of a dataset from its first mask"),
    "scores": Command("edgetam_jax.cli.scores", "J and F of the masks that vos wrote"),
    "interactive": Command("edgetam_jax.cli.interactive", "a dataset with a simulated user who clicks"),
    "held-out": Command("edgetam_jax.cli.held_out", "J and F on synthetic clips that no training has seen"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """What the command returns: 0 if all went well, 2 if nothing could be done."""
    if argv is None:  # the process is ours
        tune()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        with contextlib.suppress(BrokenPipeError):  # who reads may have enough
            print(usage(), flush=True)
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}.\n\n{usage()}", file=sys.stderr)
        return 2
    try:
        return importlib.import_module(COMMANDS[name].module).main(rest)
    except KeyboardInterrupt:
        print("\nstopped.", file=sys.stderr)
        return 130


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: edgetam-jax COMMAND ...", "", *lines, "", "edgetam-jax COMMAND --help says more."])
