"""Convolutions, norms and activations as pure functions on arrays, in the forms that XLA compiles to fast programs.

Everything is channels-last and takes any number of leading axes. XLA's grouped and few-channel convolutions are slow on
CPU, its matrix products are not. A kernel with a form of its own for CPU chooses it by `lax.platform_dependent`, when
the program is lowered for a platform. All forms of a kernel compute the same function and have the same gradient.

Results have the type of the input. Sums and norms are computed in float32, also where the input is bfloat16.

What is compiled into many operations is wrapped in `jax.jit`: calls with equal shapes are then traced once and are one
function of the program, which XLA inlines.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import einops
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float, Float32

from edgetam_jax.nn.tiles import space_to_depth

SHORT = 64  # features of a LayerNorm up to which XLA's sums over them are slow on CPU


@jax.jit
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The exact GELU, by erf as in torch. `jax.nn.gelu` uses erfc, which takes longer on CPU."""
    dtype, x = x.dtype, x.astype(jnp.float32)
    return (x * (0.5 + 0.5 * lax.erf(x * np.float32(0.5**0.5)))).astype(dtype)


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`jax.nn.relu`, on CPU without the array of zeros as large as `x` that XLA would store to compare with."""
    return lax.platform_dependent(x, cpu=lambda x: jnp.where(x <= 0, 0, x), default=jax.nn.relu)


def einsum(subscripts: str, *operands: Float[Array, "..."]) -> Float[Array, "..."]:
    """`jnp.einsum` with sums and result in float32: up to four times as fast on CPU as sums in bfloat16."""
    return jnp.einsum(subscripts, *operands, preferred_element_type=jnp.float32)


def matmul(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """`x @ y` with sums in float32 (see `einsum`), in the type of `x` and `y`."""
    return jnp.matmul(x, y, preferred_element_type=jnp.float32).astype(jnp.result_type(x, y))


@jax.jit
def linear(x: Float[Array, "*b i"], kernel: Float[Array, "i o"], bias: Float[Array, "o"]) -> Float[Array, "*b o"]:
    return matmul(x, kernel) + lax.broadcast_to_rank(bias, x.ndim)


def fusion_barrier(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The identity, across which XLA does not fuse.

    On CPU, XLA's library of kernels fuses sums and products that feed it, and stores them in pieces, but it fuses no
    selection, so a selection is the barrier there. On GPU, XLA takes a sum of shifted copies and the norm that follows
    for one softmax, and does not finish compiling it in a quarter of an hour.
    """
    return lax.platform_dependent(
        x, cpu=lambda x: jnp.where(jnp.isnan(x), jnp.nan, x), default=lax.optimization_barrier
    )


def conv(x: Float[Array, "*b y x i"], kernel: Float[Array, "k k i o"], stride: int = 1) -> Float[Array, "*b y2 x2 o"]:
    """Convolution. Odd kernels are padded by k // 2 on each side, even ones, whose stride is k, are not."""
    size, _, inputs, _ = kernel.shape
    if size == stride == 1:
        return matmul(x, kernel.reshape(kernel.shape[-2:]))
    if size == stride:  # patches: one matrix product
        return matmul(space_to_depth(x, size), rearrange(kernel, "y x i o -> (y x i) o"))
    if size == 3 and stride == 2 and inputs < 8:
        return packed_conv(space_to_depth(x, 2), pack_kernel(kernel, block=2))
    return conv2d(x, kernel, (stride, stride), _same(size))


def packed_conv(
    x: Float[Array, "*b y x tile"], packed: Float[Array, "2 2 tile half_tile"]
) -> Float[Array, "*b y x half_tile"]:
    """The 3x3 convolution with stride 2 of an image whose tiles are stored as channels.

    Takes [..., Y, X, block * block * I] and a kernel from `pack_kernel`, and returns [..., Y, X, (block / 2)**2 * O]:
    the tiles of the output, packed in the same way. On CPU, few-channel convolutions at high resolution are fast only
    in this form.
    """
    return conv2d(x, packed, (1, 1), ((1, 0), (1, 0)))


def pack_kernel(kernel: Float[Array, "3 3 i o"], block: int) -> Float[Array, "2 2 tile half_tile"]:
    """A kernel for `packed_conv`, of images packed in tiles of `block` x `block`."""
    place = tap_places(block)
    packed = jnp.einsum("ypai,xqbj,ijco->yxpqcabo", place, place, kernel, precision=lax.Precision.HIGHEST)
    return rearrange(packed, "y x p q c a b o -> y x (p q c) (a b o)").astype(kernel.dtype)


def tap_places(block: int) -> np.ndarray:
    """What a 3-tap filter with stride 2 reads along an axis that is stored in blocks: [2, block, block / 2, 3].

    [d, p, a, i] is 1 if output a of a block reads, through tap i, element p of the block before (d = 0) or of its own
    (d = 1), else 0.
    """
    places = np.zeros((2, block, block // 2, 3), np.float32)
    for a in range(block // 2):
        for i in range(3):
            element = 2 * a - 1 + i
            places[int(element >= 0), element % block, a, i] = 1
    return places


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _depthwise_conv(
    x: Float[Array, "*b y x c"], kernel: Float[Array, "k k 1 c"], bias: Float[Array, "c"], stride: int = 1
) -> Float[Array, "*b y2 x2 c"]:
    """Depthwise convolution with padding k // 2, as a sum of shifted copies of `x`.

    The sum starts from the bias. If the bias were added last, XLA would fuse each block's sum into the next one's and
    compute all of them again for every tap: six times slower over the trunk. The gradient is written out, because XLA
    takes minutes to compile the transposes of all taps. It supports reverse mode only.
    """
    size, (height, width) = kernel.shape[0], x.shape[-3:-1]
    dtype, x = x.dtype, _pad_map(x, _same(size))
    shape = (*x.shape[:-3], -(-height // stride), -(-width // stride), x.shape[-1])
    taps = jnp.split(kernel.reshape(size * size, -1).astype(jnp.float32), size * size)
    total = lax.broadcast_in_dim(bias.astype(jnp.float32), shape, (x.ndim - 1,))
    for tap, (i, j) in zip(taps, np.ndindex(size, size), strict=True):
        shifted = x[..., i : i + height : stride, j : j + width : stride, :].astype(jnp.float32)
        total = total + shifted * lax.broadcast_in_dim(tap, shape, (x.ndim - 2, x.ndim - 1))
    return total.astype(dtype)


def _depthwise_forward(x: Array, kernel: Array, bias: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _depthwise_conv(x, kernel, bias, stride), (x, kernel)


def _depthwise_backward(stride: int, residuals: tuple[Array, Array], grads: Array) -> tuple[Array, Array, Array]:
    """For `x`, the depthwise convolution of `grads` with the flipped kernel; for a tap, the sum over what it read."""
    x, kernel = residuals
    size, axes = kernel.shape[0], tuple(range(x.ndim - 1))
    for axis in (-3, -2):  # zeros at the positions that the stride skipped
        padding = [(0, 0, 0)] * x.ndim
        padding[axis] = (0, x.shape[axis] - (grads.shape[axis] - 1) * stride - 1, stride - 1)
        grads = lax.pad(grads, jnp.zeros((), grads.dtype), padding)
    bias_grads = grads.sum(axes)
    x_grads: Any = _depthwise_conv(grads, kernel[::-1, ::-1], jnp.zeros_like(bias_grads), 1)
    padded = _pad_map(x, _same(size))

    def row_grads(i: Array) -> Array:
        rows = lax.dynamic_slice_in_dim(padded, i, x.shape[-3], x.ndim - 3)
        return jnp.stack([(rows[..., j : j + x.shape[-2], :] * grads).sum(axes) for j in range(size)])

    return x_grads, lax.map(row_grads, jnp.arange(size))[:, :, None], bias_grads


_depthwise_conv.defvjp(_depthwise_forward, _depthwise_backward)
depthwise_conv = jax.jit(_depthwise_conv, static_argnums=3)


Strides = tuple[int, int]  # along height and along width
Padding = tuple[tuple[int, int], tuple[int, int]]  # zeros before and after, along height and along width


def _same(size: int) -> Padding:
    """The padding that keeps an image's size, for an odd kernel."""
    return (size // 2, size // 2), (size // 2, size // 2)


def _pad_map(x: Array, padding: Padding) -> Array:
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [*padding, (0, 0)])


def _convolve(
    x: Float[Array, "*b y x i"], kernel: Float[Array, "k k2 i o"], strides: Strides, padding: Padding
) -> Float[Array, "*b y2 x2 o"]:
    """XLA's convolution."""
    batch, lead = einops.pack([x], "* y x i")
    out = lax.conv_general_dilated(batch, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return einops.unpack(out, lead, "* y x o")[0]


conv2d = jax.custom_vjp(_convolve, nondiff_argnums=(2, 3))


def _conv2d_forward(x: Array, kernel: Array, strides: Strides, padding: Padding) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, strides, padding), (x, kernel)


def _conv2d_backward(
    strides: Strides, padding: Padding, residuals: tuple[Array, Array], grads: Array
) -> tuple[Array, Array]:
    return lax.platform_dependent(
        *residuals,
        grads,
        cpu=partial(conv_grads_by_taps, strides, padding),
        default=partial(conv_grads_by_xla, strides, padding),
    )


conv2d.defvjp(_conv2d_forward, _conv2d_backward)


def conv_grads_by_xla(strides: Strides, padding: Padding, x: Array, kernel: Array, grads: Array) -> tuple[Array, Array]:
    """The gradients with respect to `x` and `kernel` as XLA derives them: convolutions too."""
    return jax.vjp(lambda x, kernel: _convolve(x, kernel, strides, padding), x, kernel)[1](grads)


def conv_grads_by_taps(
    strides: Strides, padding: Padding, x: Array, kernel: Array, grads: Array
) -> tuple[Array, Array]:
    """The same as a matrix product for each tap, up to 20 times faster on CPU. It supports reverse mode only."""
    (height, width), lead, zero = grads.shape[-3:-1], x.ndim - 3, jnp.zeros(())
    (down, right), padded = strides, _pad_map(x, padding)

    def dilation(axis: int, start: int) -> tuple[int, int, int]:
        """The `lax.pad` that moves the gradients to the positions along an axis where a tap read."""
        before, stride = start - padding[axis][0], strides[axis]
        length, count = x.shape[lead + axis], grads.shape[lead + axis]
        return before, length - before - (count - 1) * stride - 1, stride - 1

    x_grads, tap_grads = zero, []
    for i, j in np.ndindex(kernel.shape[:2]):
        read = padded[..., i : i + down * height : down, j : j + right * width : right, :]
        tap_grads.append(einsum("...i,...o->io", read, grads))
        spread = dilation(0, i), dilation(1, j)
        read_grads = einsum("...o,io->...i", grads, kernel[i, j])
        x_grads = x_grads + lax.pad(read_grads, zero, [(0, 0, 0)] * lead + [*spread, (0, 0, 0)])
    kernel_grads = rearrange(tap_grads, "(y x) i o -> y x i o", y=kernel.shape[0])
    return x_grads.astype(x.dtype), kernel_grads.astype(kernel.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _layer_norm(
    x: Float32[Array, "*b c"], scale: Float[Array, "c"], bias: Float[Array, "c"], eps: float
) -> Float32[Array, "*b c"]:
    """LayerNorm over the last axis.

    The gradient is written out, because XLA's takes three times as long where the axis is short. It supports reverse
    mode only.
    """
    return _with_mean(partial(layer_norm_by, eps), x, scale, bias)


def _layer_norm_forward(x: Array, scale: Array, bias: Array, eps: float) -> tuple[Array, tuple[Array, Array, Array]]:
    return _layer_norm(x, scale, bias, eps), (x, scale, bias)


def _layer_norm_backward(eps: float, residuals: tuple[Array, Array, Array], grads: Array) -> tuple[Array, Array, Array]:
    return _with_mean(partial(layer_norm_grads_by, eps), *residuals, grads)


_layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)
layer_norm = jax.jit(_layer_norm, static_argnums=3)

Mean = Callable[[Float32[Array, "*b c"]], Float32[Array, "*b 1"]]


def _with_mean(function: Callable[..., Any], x: Array, *args: Array) -> Any:
    """`function(mean, x, *args)` with the mean that suits the platform and the length of the last axis."""
    by_sum = partial(function, mean_by_sum)
    if x.shape[-1] > SHORT:
        return by_sum(x, *args)
    return lax.platform_dependent(x, *args, cpu=partial(function, mean_by_product), default=by_sum)


def mean_by_sum(x: Float32[Array, "*b c"]) -> Float32[Array, "*b 1"]:
    """The mean as a sum, whose rounding does not depend on the number of rows."""
    return x.mean(-1, keepdims=True)


def mean_by_product(x: Float32[Array, "*b c"]) -> Float32[Array, "*b 1"]:
    """The mean as a matrix product: faster on CPU, where the axis is short."""
    count = x.shape[-1]
    return jnp.matmul(x, np.full((count, 1), 1 / count, np.float32), precision=lax.Precision.HIGHEST)


def layer_norm_by(eps: float, mean: Mean, x: Array, scale: Array, bias: Array) -> Array:
    normed, _ = _standardize(eps, mean, x)
    return normed * lax.broadcast_to_rank(scale, x.ndim) + lax.broadcast_to_rank(bias, x.ndim)


def layer_norm_grads_by(
    eps: float, mean: Mean, x: Array, scale: Array, bias: Array, grads: Array
) -> tuple[Array, Array, Array]:
    normed, inverse_std = _standardize(eps, mean, x)
    inner, axes = grads * lax.broadcast_to_rank(scale, x.ndim), tuple(range(x.ndim - 1))
    x_grads = (inner - mean(inner) - normed * mean(inner * normed)) * inverse_std
    return x_grads, (grads * normed).sum(axes).astype(scale.dtype), grads.sum(axes).astype(bias.dtype)


def _standardize(eps: float, mean: Mean, x: Array) -> tuple[Array, Array]:
    """`x` with mean 0 and deviation 1 along the last axis, and one over its former deviation."""
    x = x - mean(x)
    inverse_std = lax.rsqrt(mean(jnp.square(x)) + eps)
    return x * inverse_std, inverse_std
