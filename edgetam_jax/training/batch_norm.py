"""BatchNorm with the statistics of the batch, for networks that are trained from scratch.

Everywhere else it is a constant scale and shift (see `nn.layers.BatchNorm`), and stays so when a trained network is
tuned: then its statistics are the product of far more images than are seen now.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array, lax

from edgetam_jax.nn.layers import NORM_EPS, ConvNorm
from edgetam_jax.nn.repvit import TokenMixer

MOMENTUM = 0.03  # how much of each batch enters the statistics that are kept

Statistics = Mapping[tuple[str, ...], Array]  # by the path of the parameter that keeps them


@contextlib.contextmanager
def batch_statistics(axis: str | None = None) -> Iterator[dict[tuple[str, ...], Array]]:
    """Within, networks normalise by the batch that they see. Gives its means and variances, as they come up.

    With an `axis`, of a `shard_map`'s mesh or a `vmap`, the batch is all that lies along it. The means and variances
    belong to the trace in which the network runs: hand them out of it, and do not enter another (`scan`,
    `checkpoint`) within.
    """
    seen: dict[tuple[str, ...], Array] = {}

    def mean_of(x: Array) -> Array:
        mean = x.mean(tuple(range(x.ndim - 1)))
        return mean if axis is None else lax.pmean(mean, axis)

    def normalised(layer: ConvNorm, x: Array) -> Array:
        kernel = layer.c.kernel
        dtype = x.dtype
        x = layer.c.with_weights(x, kernel, jnp.zeros(kernel.shape[-1])).astype(jnp.float32)
        mean = mean_of(x)
        var = mean_of(jnp.square(x - mean))
        seen[*layer.path, "bn", "mean"], seen[*layer.path, "bn", "var"] = mean, var
        return ((x - mean) * (lax.rsqrt(var + NORM_EPS) * layer.bn.scale) + layer.bn.bias).astype(dtype)

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        if context.method_name == "__call__" and isinstance(layer, ConvNorm):
            return normalised(layer, *args)
        if context.method_name == "__call__" and isinstance(layer, TokenMixer):
            return normalised(layer.conv, *args) + normalised(layer.conv1, *args) + args[0]
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        yield seen


def keep_statistics(params: Any, seen: Statistics, momentum: float = MOMENTUM) -> Any:
    """Parameters whose statistics have moved towards those of a batch."""
    flat: dict[Any, Any] = flatten_dict(params)
    moved = {path: flat[path] + momentum * (value - flat[path]) for path, value in seen.items()}
    return unflatten_dict({**flat, **moved})
