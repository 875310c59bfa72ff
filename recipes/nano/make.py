"""NANO, from nothing to the file in the package: the recipes of this folder, one after the other.

python recipes/nano/make.py    # from the repository's root; goes on where it was stopped, also in the middle of a run
"""

from pathlib import Path

import jax
import numpy as np

from edgetam_jax.checkpoint import EMBEDDED_PATH, save
from edgetam_jax.model import Model
from edgetam_jax.training.recipe import read_recipe
from edgetam_jax.training.trainer import train


def main() -> None:
    model = None
    for recipe in sorted(Path(__file__).parent.glob("*.toml")):
        model = train(read_recipe(recipe), Path("runs/nano") / recipe.stem)
    assert model is not None
    half = jax.tree.map(lambda x: x.astype(np.float16), model.params)
    save(Model(half, model.config.resized(256)), EMBEDDED_PATH, force=True)


if __name__ == "__main__":
    main()
