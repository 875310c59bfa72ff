"""`edgetam-jax train RECIPE --out FOLDER`: trains a network, and resumes a run that was interrupted."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax

from edgetam_jax.errors import TrainingError


def main(argv: Sequence[str] | None = None) -> None:
    _train(_parser().parse_args(argv))


def _train(arguments: argparse.Namespace) -> None:
    try:
        from edgetam_jax.training.recipe import read_recipe
        from edgetam_jax.training.trainer import MODEL, train
    except ModuleNotFoundError as error:
        raise TrainingError(f"training needs {error.name}: pip install 'edgetam-jax[train]'.") from error
    recipe = read_recipe(arguments.recipe, arguments.set)
    _initialize_distributed(arguments)
    train(recipe, arguments.out)
    print(f"trained: {arguments.out / MODEL}")


def _initialize_distributed(arguments: argparse.Namespace) -> None:
    """Connects several processes that train one network, each with its own devices and part of every batch."""
    options = arguments.coordinator, arguments.processes, arguments.process
    if all(value is None for value in options):
        return
    if any(value is None for value in options) or not 0 <= arguments.process < arguments.processes:
        raise TrainingError(
            f"--coordinator, --processes and --process are {options}; expected all three, and the process from 0."
        )
    jax.distributed.initialize(*options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgetam-jax train",
        description="Train a network by a recipe. Run the same command again to resume a run that was interrupted.",
    )
    parser.add_argument("recipe", type=Path, help="a TOML file; see recipes/")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, metrics and the network")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a value of the recipe, such as optimizer.learning_rate=1e-5 (TOML); may be repeated",
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0 if several train together")
    parser.add_argument("--processes", type=int, help="number of processes")
    parser.add_argument("--process", type=int, help="number of this process, from 0")
    return parser
