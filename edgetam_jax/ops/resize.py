"""Image and mask resampling that equals Pillow's, PyTorch's and torchvision's.

Every resize is separable: an output pixel is a weighted sum of a few neighbouring input pixels, first along the width,
then along the height. The weights are constants, computed while tracing. The uint8 resizes sum integers and round to
uint8 between the two passes, as Pillow and torch do, so that their results do not depend on the device.

All functions are pure JAX, take any leading axes, and take `size` as (height, width).
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Shaped, UInt8

Kernel = Callable[[np.ndarray], np.ndarray]

_PILLOW_BITS = 22  # fraction bits of Pillow's weights
_INT16_MAX = 2**15 - 1  # torch stores its weights for uint8 images as int16


def resize_logits(masks: Float[Array | np.ndarray, "*b h w"], size: tuple[int, int]) -> Float[Array, "*b new_h new_w"]:
    """Resizes masks bilinearly without antialias, as torch's `interpolate(align_corners=False)`.

    Args:
        masks: [..., h, w] logits.
        size: The new height and width.

    Returns:
        [..., new height, new width], of the type of `masks`.
    """
    for axis, length in ((-2, size[0]), (-1, size[1])):
        first, weights = two_taps(masks.shape[axis], length)
        masks = weighted_sum(masks, first, weights.astype(masks.dtype), axis)
    return jnp.asarray(masks)


def bilinear_float(
    images: Shaped[Array | np.ndarray, "*b h w c"], size: tuple[int, int]
) -> Float[Array, "*b new_h new_w c"]:
    """torch's bilinear `interpolate` with antialias in float32; values keep their range (0 to 255)."""
    x = jnp.asarray(images, jnp.float32)
    for axis, length in ((-2, size[1]), (-3, size[0])):
        x = weighted_sum(x, *_taps(x.shape[axis], length, _triangle, 1.0, np.float32), axis)
    return x


def bicubic_uint8(
    images: UInt8[Array | np.ndarray, "*b h w c"], size: tuple[int, int]
) -> UInt8[Array, "*b new_h new_w c"]:
    """Pillow's BICUBIC `resize`, bit for bit."""
    return _resize_uint8(images, size, _cubic, 2.0, lambda _: _PILLOW_BITS)


def bilinear_uint8(
    images: UInt8[Array | np.ndarray, "*b h w c"], size: tuple[int, int]
) -> UInt8[Array, "*b new_h new_w c"]:
    """torch's and torchvision's bilinear resize of uint8 with antialias, bit for bit; Pillow's BILINEAR within 1."""
    return _resize_uint8(images, size, _triangle, 1.0, _torch_bits)


def two_taps(length: int, new_length: int) -> tuple[Int[np.ndarray, "new"], Float32[np.ndarray, "taps new"]]:
    """The taps of `resize_logits` along one axis, in the form that `weighted_sum` takes."""
    # The scale and the positions are rounded to float32 as torch rounds them: near 256 that moves a position by 1e-5,
    # which would show in logits of size 50.
    scale = float(np.float32(length / new_length))
    position = ((np.arange(new_length) + 0.5) * scale - 0.5).astype(np.float32)
    position = np.clip(position, np.float32(0), np.float32(length - 1))
    first = np.minimum(position.astype(np.int32), max(length - 2, 0))
    right = position - first
    return first, np.stack([1 - right, right])[:length].astype(np.float32)


def weighted_sum(
    x: Shaped[Array | np.ndarray, "*shape"],
    first: Int[np.ndarray, "new"],
    weights: Shaped[np.ndarray, "taps new"],
    axis: int,
) -> Shaped[Array, "*new_shape"]:
    """Output i is the sum over t of weights[t, i] * x[first[i] + t] along a negative axis."""
    # Gathers of a few taps fuse into one loop: on CPU several times faster than products with the weight matrix.
    x = jnp.asarray(x)
    after = (slice(None),) * (-axis - 1)
    tap_shape = [1] * x.ndim
    tap_shape[axis] = -1
    total = jnp.zeros((), x.dtype)
    for t, tap in enumerate(weights):
        total = total + x.at[(..., first + t, *after)].get(mode="promise_in_bounds") * tap.reshape(tap_shape)
    return total


def _resize_uint8(
    images: UInt8[Array | np.ndarray, "*b h w c"],
    size: tuple[int, int],
    kernel: Kernel,
    support: float,
    fraction_bits: Callable[[np.ndarray], int],
) -> UInt8[Array, "*b new_h new_w c"]:
    x = jnp.asarray(images)
    for axis, length in ((-2, size[1]), (-3, size[0])):
        if x.shape[axis] == length:
            continue
        first, weights = _taps(x.shape[axis], length, kernel, support, np.float64)
        bits = fraction_bits(weights)
        # Rounds halves away from zero.
        fixed_point = np.trunc(weights * 2**bits + np.copysign(0.5, weights)).astype(np.int32)
        total = weighted_sum(x.astype(jnp.int32), first, fixed_point, axis) + 2 ** (bits - 1)
        x = jnp.clip(total >> bits, 0, 255).astype(jnp.uint8)
    return x


def _taps(
    length: int, new_length: int, kernel: Kernel, support: float, dtype: type
) -> tuple[Int[np.ndarray, "new"], Float[np.ndarray, "taps new"]]:
    """The first input pixel under each output pixel, and the weights of that pixel and the ones after it.

    Pixel centres lie at i + 0.5. When shrinking, the kernel widens by the factor, which is the antialias.
    """
    scale = dtype(length / new_length)
    filter_scale = max(scale, dtype(1))
    radius = dtype(support) * filter_scale
    centre = (np.arange(new_length, dtype=dtype) + dtype(0.5)) * scale
    start = np.maximum((centre - radius + dtype(0.5)).astype(np.int32), 0)
    stop = np.minimum((centre + radius + dtype(0.5)).astype(np.int32), length)
    taps = int((stop - start).max())
    # A window that would leave the image on the right starts earlier, with zeros in front of its weights.
    first = np.minimum(start, length - taps)
    pixel = first[None, :] + np.arange(taps, dtype=np.int32)[:, None]
    inside = (start <= pixel) & (pixel < stop)
    weights = np.where(
        inside, kernel((pixel.astype(dtype) - centre + dtype(0.5)) * (dtype(1) / filter_scale)), dtype(0)
    )
    return first, weights / weights.sum(0)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _cubic(x: np.ndarray) -> np.ndarray:
    """The cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x * x + 1.0
    outer = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return np.where(x < 1.0, inner, np.where(x < 2.0, outer, 0.0))


def _torch_bits(weights: np.ndarray) -> int:
    """The most fraction bits with which the largest weight still fits 16 bits."""
    largest = float(weights.max())
    bits = 0
    while bits < _PILLOW_BITS and math.floor(largest * 2 ** (bits + 1) + 0.5) <= _INT16_MAX:
        bits += 1
    return bits
