"""Frames to the network's pixels: resize to a square and normalise, on the device.

Three rules, each equal to what a published implementation feeds the network:

- `"image"`: the original's image predictor. Bilinear with antialias in float (torch's `interpolate`).
- `"video"`: the original's video predictor. Pillow's BICUBIC on uint8, bit for bit: width before height, as every
  Pillow of its time does. (Since Pillow 13 frames whose height shrinks by far the most go height first there.)
- `"hf"`: the Hugging Face processors. torchvision's bilinear with antialias on uint8, bit for bit.

Every resize is separable: an output pixel is a weighted sum of a few neighbours, first along the width, then the
height. The weights are constants made while tracing. The uint8 rules sum integers and round to uint8 between the two
passes, as Pillow and torch do, so their results do not depend on the device.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, UInt8

from edgetam_jax.errors import FrameError

Rule = Literal["image", "video", "hf"]

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)

_PILLOW_BITS = 22  # fraction bits of Pillow's weights
_INT16_MAX = 2**15 - 1  # torch keeps its weights for uint8 in 16 bits


def preprocess(frames: UInt8[Array, "*b h w 3"], size: int, rule: Rule = "image") -> Float[Array, "*b size size 3"]:
    """The network's input, size x size, ImageNet-normalised. Pure; `size` and `rule` are static under `jit`."""
    if rule not in get_args(Rule):
        raise FrameError(f"preprocessing rule is {rule!r}; expected one of {get_args(Rule)}.")
    if frames.ndim < 3 or frames.shape[-1] != 3 or frames.dtype != jnp.uint8:
        raise FrameError(f"frames are {frames.dtype} {frames.shape}; expected uint8 [..., H, W, 3]. See as_frames.")
    resize = {"image": image_float, "video": video_bicubic, "hf": hf_bilinear}[rule]
    return (resize(frames, (size, size)).astype(jnp.float32) / 255 - MEAN) / STD


def image_float(frames: UInt8[Array, "*b h w c"], size: tuple[int, int]) -> Float[Array, "*b sh sw c"]:
    """Bilinear with antialias in float, values 0 to 255."""
    x = jnp.asarray(frames, jnp.float32)
    for axis, length in ((-2, size[1]), (-3, size[0])):
        x = weighted_sum(x, *_taps(x.shape[axis], length, _triangle, 1.0, np.float32), axis)
    return x


def video_bicubic(frames: UInt8[Array, "*b h w c"], size: tuple[int, int]) -> UInt8[Array, "*b sh sw c"]:
    """Pillow's BICUBIC `resize` to `size`, which is (height, width), bit for bit."""
    return _resize_uint8(frames, size, _cubic, 2.0, lambda _: _PILLOW_BITS)


def hf_bilinear(frames: UInt8[Array, "*b h w c"], size: tuple[int, int]) -> UInt8[Array, "*b sh sw c"]:
    """torch's and torchvision's bilinear resize of uint8 with antialias, bit for bit; Pillow's BILINEAR within 1."""
    return _resize_uint8(frames, size, _triangle, 1.0, _torch_bits)


def _resize_uint8(
    frames: UInt8[Array, "*b h w c"],
    size: tuple[int, int],
    kernel: Callable[[np.ndarray], np.ndarray],
    support: float,
    precision: Callable[[np.ndarray], int],
) -> UInt8[Array, "*b sh sw c"]:
    x = jnp.asarray(frames)
    for axis, length in ((-2, size[1]), (-3, size[0])):
        if x.shape[axis] == length:
            continue
        first, weights = _taps(x.shape[axis], length, kernel, support, np.float64)
        bits = precision(weights)
        # Rounds halves away from zero.
        fixed = np.trunc(weights * 2**bits + np.copysign(0.5, weights)).astype(np.int32)
        total = weighted_sum(x.astype(jnp.int32), first, fixed, axis) + 2 ** (bits - 1)
        x = jnp.clip(total >> bits, 0, 255).astype(jnp.uint8)
    return x


def weighted_sum(x: jax.Array, first: np.ndarray, weights: np.ndarray, axis: int) -> jax.Array:
    """Output i is the sum over t of weights[t, i] * x[first[i] + t] along a negative axis."""
    # Gathers of a few taps fuse into one loop: on CPU several times faster than products with the weight matrix.
    trailing = (slice(None),) * (-axis - 1)
    broadcast = (-1,) + (1,) * (-axis - 1)
    x = jnp.asarray(x)
    total = jnp.zeros((), x.dtype)
    for t, tap in enumerate(weights):
        index = (..., first + t, *trailing)
        total = total + x.at[index].get(mode="promise_in_bounds") * tap.reshape(broadcast)
    return total


def _taps(
    length: int, new_length: int, kernel: Callable[[np.ndarray], np.ndarray], support: float, dtype: type
) -> tuple[np.ndarray, np.ndarray]:
    """The first input pixel under each output pixel [new], and the weights from there on [taps, new].

    Pixel centres lie at i + 0.5. When shrinking, the kernel widens with the factor: that is the antialias.
    """
    scale = dtype(length / new_length)
    widening = max(scale, dtype(1))
    reach = dtype(support) * widening
    centre = (np.arange(new_length, dtype=dtype) + dtype(0.5)) * scale
    low = np.maximum((centre - reach + dtype(0.5)).astype(np.int32), 0)
    high = np.minimum((centre + reach + dtype(0.5)).astype(np.int32), length)
    taps = int((high - low).max())
    # A window that would leave the image on the right begins earlier, with zeros in front of its weights.
    first = np.minimum(low, length - taps)
    pixel = first + np.arange(taps, dtype=np.int32)[:, None]
    inside = (low <= pixel) & (pixel < high)
    weights = np.where(inside, kernel((pixel.astype(dtype) - centre + dtype(0.5)) * (dtype(1) / widening)), dtype(0))
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


def as_image(image: Any) -> UInt8[Array | np.ndarray, "h w 3"]:
    """One image as uint8 RGB: [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], or a PIL image.

    Grayscale is repeated over the channels, alpha is dropped. uint8 is taken as it is; floats must lie in 0 to 1 and
    are rounded to 255 steps; other integers must lie in 0 to 255. Inside a traced function values cannot be seen, so
    there they are clipped instead of checked. The array stays where it was, NumPy or JAX.
    """
    image = _array(image, "image")
    if image.ndim != 2 and not (image.ndim == 3 and image.shape[-1] in (1, 3, 4)):
        raise FrameError(
            f"the image has shape {image.shape}; expected [H, W, 3], [H, W] or [H, W, 4], channels last. "
            "Move a leading channel axis to the end; give several images one by one."
        )
    return _rgb_uint8(image[..., None] if image.ndim == 2 else image, "image")


def as_frames(frames: Any) -> UInt8[Array | np.ndarray, "t h w 3"]:
    """Frames as uint8 RGB: [T, H, W, C] with 1, 3 or 4 channels, or one image, which becomes T = 1.

    What `as_image` says of values and channels holds here. Lists of equal frames are stacked.
    """
    if isinstance(frames, list | tuple) and frames and all(hasattr(f, "ndim") or is_pil(f) for f in frames):
        images = [as_image(frame) for frame in frames]
        for i, image in enumerate(images):
            if image.shape != images[0].shape:
                raise FrameError(
                    f"frame {i} is {image.shape[1]}x{image.shape[0]} (width x height), frame 0 is "
                    f"{images[0].shape[1]}x{images[0].shape[0]}; all frames must have one size."
                )
        return jnp.stack(images) if isinstance(images[0], jax.Array) else np.stack(images)
    frames = _array(frames, "frames")
    if frames.ndim == 4 and frames.shape[-1] in (1, 3, 4):
        return _rgb_uint8(frames, "frames")
    if frames.ndim == 2 or (frames.ndim == 3 and frames.shape[-1] in (1, 3, 4)):
        return as_image(frames)[None]
    raise FrameError(
        f"frames have shape {frames.shape}; expected [T, H, W, 3], channels last (1, 3 or 4 of them), or one image. "
        "A grayscale video needs a channel axis of 1 at the end; channels first must be moved there."
    )


def is_pil(value: Any) -> bool:
    """Is it a PIL image? Pillow is not imported to find that out."""
    return hasattr(value, "convert")


def pil_rgb(image: Any) -> np.ndarray:
    """A PIL image of any mode as uint8 [H, W, 3]. Of 16-bit grayscale the high byte is kept; alpha is dropped."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        values = np.clip(values >> 8 if values.max(initial=0) > 255 else values, 0, 255).astype(np.uint8)
        return np.repeat(values[..., None], 3, axis=-1)
    return np.asarray(image.convert("RGB"))


def _array(value: Any, name: str) -> Any:
    if is_pil(value):
        return pil_rgb(value)
    if isinstance(value, jax.Array):
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise FrameError(f"{name}: cannot be one array ({error}); expected frames of equal size.") from error
    if array.dtype.kind not in "uif":
        raise FrameError(f"{name}: values are {array.dtype}; expected uint8, or floats in 0 to 1.")
    return array


def _rgb_uint8(pixels: Any, name: str) -> Any:
    """[..., 1 | 3 | 4] numbers to uint8 [..., 3]."""
    if 0 in pixels.shape:
        raise FrameError(f"{name}: shape {pixels.shape} is empty; expected at least one frame and one pixel.")
    xp = jnp if isinstance(pixels, jax.Array) else np
    if pixels.shape[-1] == 4:
        pixels = pixels[..., :3]
    if pixels.dtype != np.uint8:
        is_float = jnp.issubdtype(pixels.dtype, jnp.floating)
        if not is_float and not jnp.issubdtype(pixels.dtype, jnp.integer):
            raise FrameError(f"{name}: values are {pixels.dtype}; expected uint8, or floats in 0 to 1.")
        top = 1 if is_float else 255
        if not isinstance(pixels, Tracer):
            low, high = float(pixels.min()), float(pixels.max())
            if not (low >= 0 and high <= top):
                raise FrameError(
                    f"{name}: {pixels.dtype} values go from {low:g} to {high:g}; expected 0 to {top}. "
                    "Give uint8, or floats in 0 to 1 without NaN."
                )
        pixels = xp.clip(pixels, 0, top)
        pixels = (xp.round(pixels * 255) if is_float else pixels).astype(np.uint8)
    return xp.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels
