"""`Model`: parameters and their configuration as one pytree, and how to make one without a checkpoint."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from edgetam_jax.config import Config
from edgetam_jax.errors import CheckpointError
from edgetam_jax.nn.edgetam import EdgeTAM
from edgetam_jax.ops.tree import platform_of
from edgetam_jax.types import Memory

Params = Mapping[str, Any]


@flax.struct.dataclass
class Model:
    """A network: its parameters are leaves, its configuration is static, so it passes through `jax.jit` and `grad`."""

    params: Params
    config: Config = flax.struct.field(pytree_node=False)

    @property
    def platform(self) -> str:
        """Where the parameters are: "cpu", "gpu" or "tpu". While they are traced, that of JAX's default device."""
        return platform_of(self.params["no_mem_embed"])

    def check_for_video(self) -> None:
        """Refuses a model that came from a checkpoint for still images, which lacks what tracking needs."""
        if "memory_attention" not in self.params:
            raise CheckpointError(
                "this model holds the parts for still images only, as its checkpoint did; "
                "load a checkpoint of the video model to track."
            )

    def astype(self, dtype: str) -> "Model":
        """The same with its arithmetic in another type. Statistics and positions stay exact."""
        if dtype == "float32":
            return self
        flat: dict[Any, Any] = flatten_dict(self.params)
        cast = {path: x if is_statistic(path) else x.astype(dtype) for path, x in flat.items()}
        return dataclasses.replace(self, params=unflatten_dict(cast))

    def apply(self, method: str | Callable[..., Any], *args: Any) -> Any:
        """Runs a method of `nn.edgetam.EdgeTAM` with these parameters."""
        return EdgeTAM(self.config).apply({"params": self.params}, *args, method=method)


def is_statistic(path: tuple[str, ...]) -> bool:
    """Whether a parameter's path names what no gradient may move: BatchNorm's statistics, the encoding's Gaussian."""
    return path[-2:] in (("bn", "mean"), ("bn", "var")) or path[-1] == "positional_encoding_gaussian_matrix"


def init_params(config: Config, key: Array) -> Params:
    """Fresh parameters, for training from scratch."""
    size, dim = config.image_size, config.hidden_dim
    memory = Memory(
        frames=jnp.zeros((1, config.perceiver.tokens, config.memory_dim)),
        rows=jnp.zeros((1,), jnp.int32),
        frames_valid=jnp.ones((1,), bool),
        pointers=jnp.zeros((1, dim)),
        pointers_valid=jnp.ones((1,), bool),
    )
    pixels, mask = jnp.zeros((size, size, 3)), jnp.ones((size, size))
    init = partial(EdgeTAM(config).init, method="init_all")
    return jax.jit(init)(key, pixels, mask, memory)["params"]  # compiled, so that nothing else is computed


def param_shapes(config: Config) -> Params:
    """The tree of `jax.ShapeDtypeStruct` that `config`'s parameters have; nothing is computed."""
    return jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0))
