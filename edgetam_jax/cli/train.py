"""`edgetam-jax train RECIPE --out FOLDER`: trains, and goes on where it was stopped."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from edgetam_jax.errors import EdgeTAMError, TrainingError


def main(argv: Sequence[str] | None = None) -> int:
    """0: trained to the last step; 2: it could not start or go on. What breaks in between keeps its traceback."""
    try:
        _train(_parser().parse_args(argv))
    except EdgeTAMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _train(arguments: argparse.Namespace) -> None:
    try:
        from edgetam_jax.training.recipe import read_recipe
        from edgetam_jax.training.trainer import MODEL, train
    except ModuleNotFoundError as error:
        raise TrainingError(f"training needs {error.name}: pip install 'edgetam-jax[train]'.") from error
    recipe = read_recipe(arguments.recipe)
    _join(arguments)
    train(recipe, arguments.out)
    print(f"trained: {arguments.out / MODEL}")


def _join(arguments: argparse.Namespace) -> None:
    """Several processes train one network: each has its devices and its part of every batch."""
    given = arguments.coordinator, arguments.processes, arguments.process
    if all(value is None for value in given):
        return
    if any(value is None for value in given) or not 0 <= arguments.process < arguments.processes:
        raise TrainingError(
            f"--coordinator, --processes and --process are {given}; expected all three, and the process from 0."
        )
    jax.distributed.initialize(*given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgetam-jax train",
        description="Train a network by a recipe. A run that was stopped goes on when the same line is typed again.",
    )
    parser.add_argument("recipe", type=Path, help="a TOML file; see recipes/")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, metrics and the network")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, where several train together")
    parser.add_argument("--processes", type=int, help="how many they are")
    parser.add_argument("--process", type=int, help="which one this is, from 0")
    return parser
