"""BatchNorm with the statistics of the batch, for networks that are trained from scratch.

Everywhere else BatchNorm is a constant scale and shift (see `nn.layers.BatchNorm`). It stays so when a trained network
is fine-tuned, because its statistics come from far more images than fine-tuning uses.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array, lax

from edgetam_jax.nn.kernels import gelu
from edgetam_jax.nn.layers import NORM_EPS, ConvNorm
from edgetam_jax.nn.repvit import Stem, TokenMixer

MOMENTUM = 0.03  # weight of each batch in the running statistics

Statistics = Mapping[tuple[str, ...], Array]  # by the path of the parameter that holds each running statistic


@contextlib.contextmanager
def batch_statistics(axis: str | None = None) -> Iterator[dict[tuple[str, ...], Array]]:
    """Within this context, networks normalize with the statistics of their input. Yields these statistics.

    The yielded dictionary fills while a network runs. Its arrays belong to the trace in which the network runs: return
    them from that function, and do not enter another trace (`scan`, `checkpoint`) inside the context.

    Args:
        axis: The name of a mesh axis of `shard_map`, or of a `vmap`, over which the batch is distributed.
    """
    statistics: dict[tuple[str, ...], Array] = {}

    def mean_of(x: Array) -> Array:
        mean = x.mean(tuple(range(x.ndim - 1)))
        return mean if axis is None else lax.pmean(mean, axis)

    def normalized(layer: ConvNorm, x: Array) -> Array:
        kernel = layer.c.kernel
        dtype = x.dtype
        x = layer.c.with_weights(x, kernel, jnp.zeros(kernel.shape[-1])).astype(jnp.float32)
        mean = mean_of(x)
        centred = x - lax.broadcast_to_rank(mean, x.ndim)
        var = mean_of(jnp.square(centred))
        statistics[*layer.path, "bn", "mean"], statistics[*layer.path, "bn", "var"] = mean, var
        scale = lax.rsqrt(var + NORM_EPS) * layer.bn.scale
        scaled = centred * lax.broadcast_to_rank(scale, x.ndim) + lax.broadcast_to_rank(layer.bn.bias, x.ndim)
        return scaled.astype(dtype)

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        if context.method_name == "__call__" and isinstance(layer, ConvNorm):
            return normalized(layer, *args)
        if context.method_name == "__call__" and isinstance(layer, Stem):
            return normalized(layer.conv2, gelu(normalized(layer.conv1, *args)))
        if context.method_name == "__call__" and isinstance(layer, TokenMixer):
            return normalized(layer.conv, *args) + normalized(layer.conv1, *args) + args[0]
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        yield statistics


def update_statistics(params: Any, statistics: Statistics, momentum: float = MOMENTUM) -> Any:
    """Parameters whose running statistics are moved towards those of a batch."""
    leaves: dict[Any, Any] = flatten_dict(params)
    moved = {path: leaves[path] + momentum * (value - leaves[path]) for path, value in statistics.items()}
    return unflatten_dict({**leaves, **moved})
