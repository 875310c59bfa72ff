"""LayerNorm over channels, with its gradient."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

NORM_EPS = 1e-5  # torch's default for BatchNorm and LayerNorm
CHANNEL_NORM_EPS = 1e-6  # the original's LayerNorm2d
SHORT = 64  # an axis along which XLA's sums are slow on CPU


class LayerNorm(nn.Module):
    features: int
    eps: float = NORM_EPS

    def setup(self) -> None:
        self.scale = self.param("scale", nn.initializers.ones, (self.features,))
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,))

    def __call__(self, x: Array) -> Array:
        y: Any = layer_norm(x.astype(jnp.float32), self.scale, self.bias, self.eps)
        return y.astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(x: Array, scale: Array, bias: Array, eps: float) -> Array:
    """Over the last axis. The gradient is written out, because XLA's takes three times as long where the axis is short.

    For reverse mode only.
    """
    return _standardized(x, eps)[0] * scale + bias


def _layer_norm_forward(x: Array, scale: Array, bias: Array, eps: float) -> tuple[Array, tuple[Array, Array, Array]]:
    return layer_norm(x, scale, bias, eps), (x, scale, bias)


def _layer_norm_backward(eps: float, saved: tuple[Array, Array, Array], gradient: Array) -> tuple[Array, Array, Array]:
    x, scale, bias = saved
    x, steepness = _standardized(x, eps)
    inner, axes = gradient * scale, tuple(range(x.ndim - 1))
    to_x = (inner - _mean(inner) - x * _mean(inner * x)) * steepness
    return to_x, (gradient * x).sum(axes).astype(scale.dtype), gradient.sum(axes).astype(bias.dtype)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


def _standardized(x: Array, eps: float) -> tuple[Array, Array]:
    """With mean 0 and deviation 1 along the last axis, and one over what the deviation was."""
    x = x - _mean(x)
    steepness = lax.rsqrt(_mean(jnp.square(x)) + eps)
    return x * steepness, steepness


def _mean(x: Array) -> Array:
    """Over the last axis, which stays. As a matrix product where that is faster on CPU.

    Elsewhere as a sum, whose rounding does not depend on how many rows there are.
    """
    count = x.shape[-1]
    if count > SHORT or jax.default_backend() != "cpu":
        return x.mean(-1, keepdims=True)
    return jnp.matmul(x, np.full((count, 1), 1 / count, np.float32), precision=lax.Precision.HIGHEST)
