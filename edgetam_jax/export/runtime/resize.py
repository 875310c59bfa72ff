"""Images, masks and logits in other sizes, with NumPy: the same as in edgetam_jax."""

from typing import Any

import numpy as np

PILLOW_BITS = 22  # fraction bits of Pillow's weights


def resize_bicubic(image: np.ndarray, size: int) -> np.ndarray:
    """Pillow's BICUBIC to a square, bit for bit: width, then height, with uint8 in between."""
    for axis in (1, 0):
        length = image.shape[axis]
        if length == size:
            continue
        first, weights = _taps(length, size, _cubic, 2.0)
        fixed = np.trunc(weights * 2**PILLOW_BITS + np.copysign(0.5, weights)).astype(np.int32)
        shape = [-1 if each == axis else 1 for each in range(3)]
        total = np.full(1, 2 ** (PILLOW_BITS - 1), np.int32)
        for tap, weight in enumerate(fixed):
            total = total + image.take(first + tap, axis).astype(np.int32) * weight.reshape(shape)
        image = np.clip(total >> PILLOW_BITS, 0, 255).astype(np.uint8)
    return image


def _taps(length: int, size: int, kernel: Any, support: float) -> tuple[np.ndarray, np.ndarray]:
    """The first pixel that each of `size` outputs reads, and the weights [taps, size] of it and the following ones."""
    scale = length / size
    wide = max(scale, 1.0)
    centre = (np.arange(size) + 0.5) * scale
    start = np.maximum((centre - support * wide + 0.5).astype(int), 0)
    stop = np.minimum((centre + support * wide + 0.5).astype(int), length)
    taps = int((stop - start).max())
    first = np.minimum(start, length - taps)
    pixel = first + np.arange(taps)[:, None]
    weights = kernel((pixel - centre + 0.5) / wide) * ((start <= pixel) & (pixel < stop))
    return first, weights / weights.sum(0)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    inner, outer = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


def resize_linear(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask as shares of covered area, with antialias, to a square: `jax.image.resize`'s "linear"."""
    x = mask.astype(np.float32)
    for axis in (0, 1):
        length = x.shape[axis]
        at = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(length / size) - 0.5
        weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(length)) / max(length / size, 1))
        weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        x = np.moveaxis(np.tensordot(weights, x, (1, axis)), 0, axis)
    return x


def resize_logits(logits: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Bilinear, without antialias: pixel centres at i + 0.5."""
    for axis, length in enumerate(size):
        old = logits.shape[axis]
        at = ((np.arange(length) + 0.5) * float(np.float32(old / length)) - 0.5).astype(np.float32)
        at = np.clip(at, np.float32(0), np.float32(old - 1))
        first = np.minimum(at.astype(int), max(old - 2, 0))
        right = (at - first).reshape([-1 if each == axis else 1 for each in range(2)])
        logits = logits.take(first, axis) * (1 - right) + logits.take(np.minimum(first + 1, old - 1), axis) * right
    return logits
