"""The app in tests: a minimal network that finds something wherever one clicks, and a short example."""

from typing import Any

import jax
import numpy as np

from edgetam_jax.model import Model, param_shapes
from tests.support import scene

KEY = "one"  # of a visitor
PATIENCE = 300.0  # seconds; a busy machine is slow


def network() -> Model:
    """Minimal, and random in every tensor; biased so that it finds all objects."""
    rng = np.random.default_rng(0)

    def tensor(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        names = [entry.key for entry in path]
        values = rng.normal(0, 0.4, shape.shape).astype(shape.dtype)
        if names[-1] == "var":
            return np.abs(values) + 0.1
        return values + 20 if names[-3:] == ["pred_obj_score_head", "layers_2", "bias"] else values

    return Model(jax.tree_util.tree_map_with_path(tensor, param_shapes(scene.MINIMAL)), scene.MINIMAL)


def example() -> np.ndarray:
    return scene.clip(0)
