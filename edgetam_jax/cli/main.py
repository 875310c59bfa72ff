"""The command line: `edgetam-jax COMMAND ...`, or `python -m edgetam_jax COMMAND ...`."""

import contextlib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from edgetam_jax.allocator import tune
from edgetam_jax.cli.errors import FAILED, exit_code


class Command(NamedTuple):
    module: str  # imported when the command is called; its `main` takes the remaining arguments
    help: str


COMMANDS = {
    "demo": Command("edgetam_jax.cli.demo", "track two objects through a synthetic clip that is made for it"),
    "track": Command("edgetam_jax.cli.track", "track objects through a video"),
    "segment": Command("edgetam_jax.cli.segment", "segment objects in an image from clicks, boxes or masks"),
    "masks": Command("edgetam_jax.cli.masks", "segment everything in an image"),
    "app": Command("edgetam_jax.app.command", "track and segment in a browser"),
    "bench": Command("edgetam_jax.cli.bench", "measure the speed of a network on this device"),
    "info": Command("edgetam_jax.cli.info", "show versions, devices and the contents of a checkpoint"),
    "convert": Command("convert.__main__", "convert checkpoints between PyTorch, Hugging Face and edgetam_jax"),
    "export": Command("edgetam_jax.cli.export", "write the tracker for ONNX and other runtimes"),
    "train": Command("edgetam_jax.cli.train", "train or fine-tune a network from a recipe"),
    "bank": Command("edgetam_jax.cli.bank", "pack pictures into a bank of textures, from which training makes clips"),
    "batch": Command("edgetam_jax.cli.batch", "track a folder of videos from files of prompts"),
    "vos": Command("edgetam_jax.cli.vos", "track every object of a dataset from its first mask"),
    "scores": Command("edgetam_jax.cli.scores", "compute J and F of the masks that vos wrote"),
    "interactive": Command("edgetam_jax.cli.interactive", "evaluate on a dataset with simulated clicks"),
    "held-out": Command("edgetam_jax.cli.held_out", "compute J and F on held-out synthetic clips"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: The arguments after the program's name; those of the process by default.

    Returns:
        The exit code: 0 for success, 2 for an error that the user can act on, 130 after Ctrl-C; 1 where a command says
        so in its help.
    """
    if argv is None:  # only a process of our own may have its allocator tuned
        tune()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        with contextlib.suppress(BrokenPipeError):  # as in `edgetam-jax --help | head -1`
            print(usage(), flush=True)
        return 0 if arguments else FAILED
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}.\n\n{usage()}", file=sys.stderr)
        return FAILED
    return exit_code(_run, COMMANDS[name].module, rest)


def _run(module: str, argv: Sequence[str]) -> int | None:
    return importlib.import_module(module).main(argv)


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items()]
    note = "Run edgetam-jax COMMAND --help for the options of a command."
    return "\n".join(["usage: edgetam-jax COMMAND ...", "", *lines, "", note])
