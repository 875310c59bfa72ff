"""Writes the same random weights for all systems: `python -m benchmarks.weights FOLDER [--size 1024]`.

The weights of the PyTorch original, random in every tensor, are converted for the others by `edgetam-jax convert`.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks import results

ORIGINAL, OURS, HUGGING_FACE = "edgetam.pt", "edgetam", "edgetam-hf"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="an empty folder")
    parser.add_argument("--size", type=int, default=1024, help="the model's image size (1024)")
    arguments = parser.parse_args()
    write_weights(arguments.folder, arguments.size)


def write_weights(folder: Path, size: int) -> None:
    import torch

    from convert.__main__ import main as convert
    from tests.support import oracle

    state = oracle.randomize(oracle.build_original(results.config_of(size)), 0).state_dict()
    torch.save({"model": state}, folder / ORIGINAL)
    source = str(folder / ORIGINAL)
    if convert([source, str(folder / OURS)]) or convert([source, str(folder / HUGGING_FACE), "--to", "hf"]):
        raise SystemExit("the weights could not be converted")


def load_original(folder: Path, size: int) -> Any:
    import torch

    from tests.support import oracle

    model = oracle.build_original(results.config_of(size))
    model.load_state_dict(torch.load(folder / ORIGINAL, weights_only=True)["model"])
    return model


if __name__ == "__main__":
    main()
