"""`edgetam-jax scores DATASET MASKS`: J&F of a folder of masks, see `evaluation.scores`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edgetam_jax.data.categories import categories_of, seen_categories
from edgetam_jax.data.datasets import open_dataset
from edgetam_jax.errors import FrameError
from edgetam_jax.evaluation.scores import by_category, score_dataset, seen_unseen, table


def main(argv: Sequence[str] | None = None) -> None:
    _print_scores(_parser().parse_args(argv))


def _print_scores(arguments: argparse.Namespace) -> None:
    dataset = open_dataset(arguments.dataset, arguments.split)
    categories = categories_of(dataset)
    if categories is None and arguments.seen is not None:
        raise FrameError(f"{dataset.images.parent} has no meta.json, which would say what its objects are.")
    seen = None if categories is None else seen_categories(dataset, arguments.seen)
    objects = score_dataset(dataset, arguments.masks)
    print(table(objects))
    if categories is not None and seen is not None:
        print(seen_unseen(by_category(objects, categories, seen)))
    elif categories is not None:
        print("For seen and unseen categories, give --seen the meta.json of the training part.", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgetam-jax scores", description="Score the masks that were found for a dataset."
    )
    parser.add_argument("dataset", type=Path, help="a folder as DAVIS, MOSE, YouTube-VOS or SA-V lay it out")
    parser.add_argument("masks", type=Path, help="what edgetam-jax vos wrote")
    parser.add_argument("--split", help="which part of the dataset; by default the one for validation")
    parser.add_argument("--seen", type=Path, metavar="META", help="meta.json of YouTube-VOS's training part")
    return parser
