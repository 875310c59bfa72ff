"""Checks that images and frames are uint8 RGB, and turns them into the network's normalised input.

There are three preprocessing rules, each equal to what a published implementation feeds the network:

- `"image"`: the original's image predictor. Bilinear with antialias in float (torch's `interpolate`).
- `"video"`: the original's video predictor. Pillow's BICUBIC on uint8, bit for bit: width before height, as every
  Pillow before 13 does. (Since Pillow 13 frames whose height shrinks by far the most go height first there.)
- `"hf"`: the Hugging Face processors. torchvision's bilinear with antialias on uint8, bit for bit.
"""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float, UInt8

from edgetam_jax.errors import FrameError
from edgetam_jax.ops.resize import bicubic_uint8, bilinear_float, bilinear_uint8

Rule = Literal["image", "video", "hf"]

MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # ImageNet's, of RGB in 0 to 1
STD = np.array([0.229, 0.224, 0.225], np.float32)


def preprocess(
    frames: UInt8[Array | np.ndarray, "*b h w 3"], size: int, rule: Rule = "image"
) -> Float[Array, "*b size size 3"]:
    """Resizes frames to `size` x `size` and normalises them by ImageNet's mean and standard deviation.

    Args:
        frames: uint8 RGB, [..., H, W, 3].
        size: Side of the output, the model's `image_size`. Static under `jit`.
        rule: `"image"`, `"video"` or `"hf"`, whose preprocessing to follow. Static under `jit`.

    Returns:
        The network's input, float32 [..., size, size, 3].

    Raises:
        FrameError: `frames` are not uint8 RGB, or the rule is unknown.
    """
    if rule not in get_args(Rule):
        raise FrameError(f"preprocessing rule is {rule!r}; expected one of {get_args(Rule)}.")
    if frames.ndim < 3 or frames.shape[-1] != 3 or frames.dtype != jnp.uint8:
        raise FrameError(f"frames are {frames.dtype} {frames.shape}; expected uint8 [..., H, W, 3]. See as_frames.")
    resize = {"image": bilinear_float, "video": bicubic_uint8, "hf": bilinear_uint8}[rule]
    mean, std = (lax.broadcast_to_rank(values, frames.ndim) for values in (MEAN, STD))
    return (resize(frames, (size, size)).astype(jnp.float32) / 255 - mean) / std


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
