"""3x3 convolutions with stride 2 and few channels, on images whose blocks of columns are stored as channels.

[..., H, W, I] is read as [..., H, W / block, block * I], which moves nothing. XLA's convolutions at high resolution are
slow on CPU and TPU where there are few channels; here there are `block` times as many.
"""

from typing import NamedTuple

import jax.numpy as jnp
from einops import rearrange, repeat
from jax import lax
from jaxtyping import Array, Float

from edgetam_jax.nn.kernels import conv2d, tap_places


class WideWeights(NamedTuple):
    kernel: Float[Array, "3 taps wide_i wide_o"]  # 3 taps along the width for blocks of one column, else 2
    bias: Float[Array, "wide_o"]


def widen(kernel: Float[Array, "3 3 i o"], bias: Float[Array, "o"], block: int) -> WideWeights:
    """The weights for an image with `block` columns as channels, an even number or 1."""
    if block == 1:
        return WideWeights(kernel, bias)
    wide = jnp.einsum("xqbj,yjio->yxqibo", tap_places(block), kernel, precision=lax.Precision.HIGHEST)
    wide = rearrange(wide, "y x q i b o -> y x (q i) (b o)").astype(kernel.dtype)
    return WideWeights(wide, repeat(bias, "o -> (b o)", b=block // 2))


def wide_conv(x: Float[Array, "*b y x wide_i"], weights: WideWeights) -> Float[Array, "*b y2 x2 wide_o"]:
    """The convolution; the output has half as many columns as channels as the input, or 1."""
    narrow = weights.kernel.shape[1] == 3
    out = conv2d(x, weights.kernel, (2, 2 if narrow else 1), ((1, 1), (1, 1 if narrow else 0)))
    return out + lax.broadcast_to_rank(weights.bias, out.ndim)
