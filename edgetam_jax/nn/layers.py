"""Layers shared by all components: thin modules that own the parameters of the functions in `kernels.py`.

Everything is channels-last and takes any number of leading axes.
"""

from itertools import pairwise

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float

from edgetam_jax.nn.folding import derived
from edgetam_jax.nn.kernels import conv, depthwise_conv, layer_norm, linear, matmul

NORM_EPS = 1e-5  # torch's default for BatchNorm and LayerNorm
CHANNEL_NORM_EPS = 1e-6  # the original's LayerNorm2d
INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's default for matrices and filters
UP_INIT = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")  # and for transposed convolutions


class Linear(nn.Module):
    inputs: int
    features: int
    use_bias: bool = True

    def setup(self) -> None:
        self.kernel = self.param("kernel", INIT, (self.inputs, self.features))
        if self.use_bias:
            self.bias = self.param("bias", nn.initializers.zeros, (self.features,))

    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        return linear(x, self.kernel, self.bias) if self.use_bias else matmul(x, self.kernel)


class Conv(nn.Module):
    inputs: int
    features: int
    size: int = 1
    stride: int = 1
    depthwise: bool = False
    use_bias: bool = True

    def setup(self) -> None:
        fan_in = 1 if self.depthwise else self.inputs
        self.kernel = self.param("kernel", INIT, (self.size, self.size, fan_in, self.features))
        if self.use_bias:
            self.bias = self.param("bias", nn.initializers.zeros, (self.features,))

    def __call__(self, x: Float[Array, "*b y x i"]) -> Float[Array, "*b y2 x2 o"]:
        return self.with_weights(x, self.kernel, self.bias)

    def cast(self, *weights: Float[Array, "..."]) -> tuple[Float[Array, "..."], ...]:
        """Weights that were computed from the parameters, in the type of the kernel."""
        return tuple(x.astype(self.kernel.dtype) for x in weights)

    def with_weights(
        self, x: Float[Array, "*b y x i"], kernel: Float[Array, "k k fan_in o"], bias: Float[Array, "o"]
    ) -> Float[Array, "*b y2 x2 o"]:
        """The convolution with a kernel and bias computed from the parameters, such as a folded BatchNorm."""
        kernel, bias = kernel.astype(x.dtype), bias.astype(x.dtype)
        if self.depthwise:
            return depthwise_conv(x, kernel, bias, self.stride)
        if self.size == self.stride == 1:
            return linear(x, kernel.reshape(kernel.shape[-2:]), bias)
        return conv(x, kernel, self.stride) + lax.broadcast_to_rank(bias, x.ndim)


def compose(first: Linear | Conv, second: Linear | Conv) -> tuple[Float[Array, "i o"], Float[Array, "o"]]:
    """Kernel and bias of two consecutive linear layers or 1x1 convolutions as one product."""
    before, after = (layer.kernel.reshape(layer.kernel.shape[-2:]) for layer in (first, second))
    return matmul(before, after), matmul(first.bias, after) + second.bias


class UpConv(nn.Module):
    """Transposed convolution with a 2x2 kernel and stride 2: every cell becomes a tile of its own."""

    inputs: int
    features: int

    def setup(self) -> None:
        self.kernel = self.param("kernel", UP_INIT, (2, 2, self.inputs, self.features))
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,))

    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b 4 o"]:
        """The output in the layout of `tiled`: to arrange the tiles as an image would take longer than the product."""
        kernel = derived(self, "matrix", lambda: rearrange(self.kernel, "y x i o -> i (y x o)"))
        tiles = matmul(x, kernel)
        tiles = rearrange(tiles, "... (tile o) -> ... tile o", tile=4)
        return tiles + lax.broadcast_to_rank(self.bias, tiles.ndim)


class LayerNorm(nn.Module):
    """LayerNorm over channels, computed in float32."""

    features: int
    eps: float = NORM_EPS

    def setup(self) -> None:
        self.scale = self.param("scale", nn.initializers.ones, (self.features,))
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,))

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        return jnp.asarray(layer_norm(x.astype(jnp.float32), self.scale, self.bias, self.eps), x.dtype)


class BatchNorm(nn.Module):
    """BatchNorm with stored statistics: a scale and a shift per channel. The statistics are ordinary parameters."""

    features: int

    def setup(self) -> None:
        self.scale = self.param("scale", nn.initializers.ones, (self.features,))
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,))
        self.mean = self.param("mean", nn.initializers.zeros, (self.features,))
        self.var = self.param("var", nn.initializers.ones, (self.features,))

    def affine(self) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
        """The scale and the shift."""
        scale = self.scale * lax.rsqrt(self.var + NORM_EPS)
        return scale, self.bias - self.mean * scale


class ConvNorm(nn.Module):
    """A convolution and its BatchNorm, folded into one convolution with a bias."""

    inputs: int
    features: int
    size: int = 1
    stride: int = 1
    depthwise: bool = False

    def setup(self) -> None:
        self.c = Conv(self.inputs, self.features, self.size, self.stride, self.depthwise, use_bias=False)
        self.bn = BatchNorm(self.features)

    def folded(self) -> tuple[Float[Array, "k k fan_in o"], Float[Array, "o"]]:
        """Kernel and bias of the folded convolution, in float32."""
        scale, shift = self.bn.affine()
        return self.c.kernel * lax.broadcast_to_rank(scale, 4), shift

    def __call__(self, x: Float[Array, "*b y x i"]) -> Float[Array, "*b y2 x2 o"]:
        return self.c.with_weights(x, *derived(self, "conv", lambda: self.c.cast(*self.folded())))


class MLP(nn.Module):
    """Linear layers with ReLU between them; `widths` holds the size of the input and of every layer."""

    widths: tuple[int, ...]

    def setup(self) -> None:
        self.layers = [Linear(inputs, features) for inputs, features in pairwise(self.widths)]

    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        for layer in self.layers[:-1]:
            x = nn.relu(layer(x))
        return self.layers[-1](x)
