"""A network in PyTorch and the same one here, and how arrays go from one to the other."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax.traverse_util import flatten_dict, unflatten_dict

from edgetam_jax.checkpoints.key_table import Layout
from edgetam_jax.checkpoints.mapping import from_layout
from edgetam_jax.config import Config
from edgetam_jax.model import Model
from tests.support import oracle
from tests.support.scene import MINIMAL


class Pair(NamedTuple):
    torch: Any  # the original
    model: Model

    def apply(self, module: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        """Runs one Flax module alone with the parameters that `name` has in the whole."""
        return jax.jit(lambda params, args: module.apply({"params": params}, *args, **kwargs))(
            self.model.params[name], args
        )

    def run(self, method: str, *args: Any) -> Any:
        """Runs a method of the whole network."""
        return run(self.model, method, *args)


def run(model: Model, method: Any, *args: Any) -> Any:
    """`model.apply`, compiled once for all models of one configuration."""
    return _run(model, method, args)


@functools.partial(jax.jit, static_argnames="method")
def _run(model: Model, method: Any, args: tuple[Any, ...]) -> Any:
    return model.apply(method, *args)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def make_pair(original: Any, config: Config) -> Pair:
    params = from_layout(oracle.numpy_state_dict(original), Layout.ORIGINAL, config, "the reference").params
    return Pair(original, Model(jax.tree.map(jnp.asarray, params), config))


def minimal_model(score_bias: float) -> Model:
    """`MINIMAL`, random in every tensor; the bias of its object score is raised by so much, to find more objects."""
    original = oracle.randomize(oracle.build_original(MINIMAL), seed=0)
    return with_score_bias(make_pair(original, MINIMAL).model, lambda bias: bias + score_bias)


def with_score_bias(model: Model, change: Callable[[Any], Any]) -> Model:
    """The model with another bias of its object score: how many objects it finds."""
    params = flatten_dict(model.params)
    path = "sam_mask_decoder", "pred_obj_score_head", "layers_2", "bias"
    params[path] = change(params[path])
    return Model(unflatten_dict(params), model.config)


def channels_first(x: np.ndarray) -> torch.Tensor:
    """[B, H, W, C] to [B, C, H, W]."""
    return torch.from_numpy(np.array(np.moveaxis(np.asarray(x), -1, 1), order="C"))


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(1, -1)
