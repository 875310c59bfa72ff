"""Layers shared by all components: pure functions on arrays, and thin modules that own their parameters.

Everything is channels-last and takes any number of leading axes. Convolutions pick the formulation that XLA
compiles well: its grouped and few-channel convolutions are slow on CPU, its matrix products are not.

They compute in the type of their input. Sums, norms, softmax and positions are float32 inside, also where that is
bfloat16.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from edgetam_jax.nn.layer_norm import NORM_EPS
from edgetam_jax.nn.tiles import space_to_depth

INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's default for matrices and filters
UP_INIT = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")  # and for transposed convolutions


def gelu(x: Array) -> Array:
    """The exact one, by erf as in torch; by erfc, as in jax.nn, it takes longer on CPU."""
    dtype, x = x.dtype, x.astype(jnp.float32)
    return (x * (0.5 + 0.5 * lax.erf(x * np.float32(0.5**0.5)))).astype(dtype)


def relu(x: Array) -> Array:
    """As `nn.relu`, for which XLA lays out as many zeros on CPU, to compare with."""
    return jnp.where(x <= 0, 0, x)


# Added up in float32, and given in it: up to four times as fast on CPU as to add up in bfloat16.
einsum = partial(jnp.einsum, preferred_element_type=jnp.float32)


def matmul(x: Array, y: Array) -> Array:
    """`x @ y`, added up in float32 (see `einsum`), in the type of `x` and `y`."""
    return jnp.matmul(x, y, preferred_element_type=jnp.float32).astype(jnp.result_type(x, y))


def conv(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolution of [..., H, W, I] with [k, k, I, O], odd kernels padded by k // 2 on each side, even ones not."""
    size, _, _, features = kernel.shape
    if size == stride:  # patches: one matrix product
        return matmul(space_to_depth(x, size), kernel.reshape(-1, features))
    if size == 3 and stride == 2 and kernel.shape[2] < 8:
        return packed_conv(space_to_depth(x, 2), kernel, block=2)
    pad = size // 2
    return _conv2d(x, kernel, stride, (pad, pad))


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def depthwise_conv(x: Array, kernel: Array, bias: Array, stride: int = 1) -> Array:
    """Each channel of [..., H, W, C] with its own filter of [k, k, 1, C]: a sum of shifted copies.

    The sum starts from the bias. Added last, XLA fuses each block's sum into the next one's and computes all of
    them again for every tap: six times slower over the trunk. The gradient is written out, because XLA takes
    minutes to compile what the transposes of all taps would be; it is for reverse mode only.
    """
    size, (height, width) = kernel.shape[0], x.shape[-3:-1]
    dtype, x = x.dtype, _padded(x, size // 2)
    total, kernel = bias.astype(jnp.float32), kernel.astype(jnp.float32)
    for i in range(size):
        for j in range(size):
            read = x[..., i : i + height : stride, j : j + width : stride, :]
            total = total + read.astype(jnp.float32) * kernel[i, j, 0]
    return total.astype(dtype)


def _depthwise_forward(x: Array, kernel: Array, bias: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return depthwise_conv(x, kernel, bias, stride), (x, kernel)


def _depthwise_backward(stride: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array, Array]:
    """To the input: the same sum over the gradient, with the filters turned around. To a tap: what it multiplied."""
    x, kernel = saved
    size, axes = kernel.shape[0], tuple(range(x.ndim - 1))
    for axis in (-3, -2):  # zeros in the places that the stride left out
        spread = [(0, 0, 0)] * x.ndim
        spread[axis] = (0, x.shape[axis] - (gradient.shape[axis] - 1) * stride - 1, stride - 1)
        gradient = lax.pad(gradient, jnp.zeros((), gradient.dtype), spread)
    to_bias = gradient.sum(axes)
    to_x: Any = depthwise_conv(gradient, kernel[::-1, ::-1], jnp.zeros_like(to_bias))
    padded = _padded(x, size // 2)

    def to_row(i: Array) -> Array:
        rows = lax.dynamic_slice_in_dim(padded, i, x.shape[-3], x.ndim - 3)
        return jnp.stack([(rows[..., j : j + x.shape[-2], :] * gradient).sum(axes) for j in range(size)])

    return to_x, lax.map(to_row, jnp.arange(size))[:, :, None], to_bias


depthwise_conv.defvjp(_depthwise_forward, _depthwise_backward)


def fusion_barrier(x: Array) -> Array:
    """The same numbers, behind a fence: no compiler fuses what computes `x` with what reads it.

    On CPU, XLA's library takes sums and products before it into what it does, in pieces which are stored for it, but no
    choice between numbers. On a GPU, XLA takes a sum of shifted copies and the norm that follows for one softmax, and
    does not finish compiling it in a quarter of an hour.
    """
    return lax.platform_dependent(
        x, cpu=lambda x: jnp.where(jnp.isnan(x), jnp.nan, x), default=lax.optimization_barrier
    )


def _padded(x: Array, pad: int) -> Array:
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(pad, pad), (pad, pad), (0, 0)])


def packed_conv(x: Array, kernel: Array, block: int) -> Array:
    """The 3x3 convolution with stride 2 on an image whose `block` x `block` tiles are stored as channels.

    Takes [..., H, W, block * block * I], returns [..., H, W, (block/2)**2 * O]: the output's tiles, packed in
    the same way. Few-channel convolutions at high resolution are fast only in this form.
    """
    inputs, features = kernel.shape[2:]
    # place[d, p, a, i] = 1: output row a reads, through tap i, row p of the tile before (d = 0) or of its own (d = 1).
    place = np.zeros((2, block, block // 2, 3), np.float32)
    for a in range(block // 2):
        for i in range(3):
            row = 2 * a - 1 + i
            place[int(row >= 0), row % block, a, i] = 1
    packed = jnp.einsum("ypai,xqbj,ijco->yxpqcabo", place, place, kernel, precision=lax.Precision.HIGHEST)
    packed = packed.reshape(2, 2, block**2 * inputs, (block // 2) ** 2 * features).astype(kernel.dtype)
    return _conv2d(x, packed, 1, (1, 0))


def _convolve(x: Array, kernel: Array, stride: int, pad: tuple[int, int]) -> Array:
    """Padded by `pad` before and after, along height and along width."""
    lead = x.shape[:-3]
    y = lax.conv_general_dilated(
        x.reshape(-1, *x.shape[-3:]), kernel, (stride, stride), (pad, pad), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y.reshape(*lead, *y.shape[-3:])


_conv2d = jax.custom_vjp(_convolve, nondiff_argnums=(2, 3))


def _conv2d_forward(x: Array, kernel: Array, stride: int, pad: tuple[int, int]) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, stride, pad), (x, kernel)


def _conv2d_backward(
    stride: int, pad: tuple[int, int], saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    """A matrix product for each tap. XLA's own gradients are convolutions too: up to 20 times slower on CPU.

    For reverse mode only.
    """
    x, kernel = saved
    if jax.default_backend() != "cpu":
        return jax.vjp(lambda x, kernel: _convolve(x, kernel, stride, pad), x, kernel)[1](gradient)
    (height, width), lead, zero = gradient.shape[-3:-1], x.ndim - 3, jnp.zeros(())
    padded = jnp.pad(x, [(0, 0)] * lead + [pad, pad, (0, 0)])

    def spread(start: int, count: int, length: int) -> tuple[int, int, int]:
        """What puts `count` values where a tap read them."""
        before = start - pad[0]
        return before, length - before - (count - 1) * stride - 1, stride - 1

    to_x, to_taps = zero, []
    for i, j in np.ndindex(kernel.shape[:2]):
        read = padded[..., i : i + stride * height : stride, j : j + stride * width : stride, :]
        to_taps.append(einsum("...i,...o->io", read, gradient))
        places = spread(i, height, x.shape[-3]), spread(j, width, x.shape[-2])
        given = einsum("...o,io->...i", gradient, kernel[i, j])
        to_x = to_x + lax.pad(given, zero, [(0, 0, 0)] * lead + [*places, (0, 0, 0)])
    return to_x.astype(x.dtype), jnp.stack(to_taps).reshape(kernel.shape).astype(kernel.dtype)


_conv2d.defvjp(_conv2d_forward, _conv2d_backward)


class Linear(nn.Module):
    inputs: int
    features: int
    use_bias: bool = True

    def setup(self) -> None:
        self.kernel = self.param("kernel", INIT, (self.inputs, self.features))
        if self.use_bias:
            self.bias = self.param("bias", nn.initializers.zeros, (self.features,))

    def __call__(self, x: Array) -> Array:
        y = matmul(x, self.kernel)
        return y + self.bias if self.use_bias else y


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

    def __call__(self, x: Array) -> Array:
        return self.with_weights(x, self.kernel, self.bias)

    def with_weights(self, x: Array, kernel: Array, bias: Array) -> Array:
        kernel, bias = kernel.astype(x.dtype), bias.astype(x.dtype)
        if self.depthwise:
            return depthwise_conv(x, kernel, bias, self.stride)
        return conv(x, kernel, self.stride) + bias


def compose(first: Linear | Conv, second: Linear | Conv) -> tuple[Array, Array]:
    """Kernel [I, O] and bias of two layers or 1x1 convolutions that have nothing between them, as one product."""
    before, after = (x.kernel.reshape(x.kernel.shape[-2:]) for x in (first, second))
    return matmul(before, after), matmul(first.bias, after) + second.bias


class UpConv(nn.Module):
    """Transposed convolution with a 2x2 kernel and stride 2: every cell becomes a tile of its own."""

    inputs: int
    features: int

    def setup(self) -> None:
        self.kernel = self.param("kernel", UP_INIT, (2, 2, self.inputs, self.features))
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,))

    def __call__(self, x: Array) -> Array:
        """[..., I] to [..., 4, O], as `tiled`. To lay the tiles out would take longer than the product."""
        kernel = jnp.moveaxis(self.kernel, 2, 0).reshape(self.inputs, 4 * self.features)
        return matmul(x, kernel).reshape(*x.shape[:-1], 4, self.features) + self.bias


class BatchNorm(nn.Module):
    """BatchNorm with stored statistics: a scale and a shift a channel. The statistics are parameters like any other."""

    features: int

    def setup(self) -> None:
        self.scale = self.param("scale", nn.initializers.ones, (self.features,))
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,))
        self.mean = self.param("mean", nn.initializers.zeros, (self.features,))
        self.var = self.param("var", nn.initializers.ones, (self.features,))

    def affine(self) -> tuple[Array, Array]:
        scale = self.scale * lax.rsqrt(self.var + NORM_EPS)
        return scale, self.bias - self.mean * scale


class ConvNorm(nn.Module):
    """A convolution and its BatchNorm, folded into one convolution with a bias inside the program."""

    inputs: int
    features: int
    size: int = 1
    stride: int = 1
    depthwise: bool = False

    def setup(self) -> None:
        self.c = Conv(self.inputs, self.features, self.size, self.stride, self.depthwise, use_bias=False)
        self.bn = BatchNorm(self.features)

    def folded(self) -> tuple[Array, Array]:
        """Kernel and bias of the one convolution."""
        scale, shift = self.bn.affine()
        return self.c.kernel * scale, shift

    def __call__(self, x: Array) -> Array:
        return self.c.with_weights(x, *self.folded())


class MLP(nn.Module):
    """Linear layers with ReLU between them; `widths` holds the size of the input and of every layer."""

    widths: tuple[int, ...]

    def setup(self) -> None:
        self.layers = [Linear(i, o) for i, o in zip(self.widths[:-1], self.widths[1:], strict=True)]

    def __call__(self, x: Array) -> Array:
        for layer in self.layers[:-1]:
            x = nn.relu(layer(x))
        return self.layers[-1](x)
