"""Position encodings: sine for feature maps, random Fourier features for prompts, rotary for memory attention."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array

TEMPERATURE = 10000.0


@functools.cache
def sine_encoding(size: int, features: int) -> np.ndarray:
    """[size, size, features]: the y half, then the x half, each sine and cosine interleaved, of positions in (0, 1]."""
    half = features // 2
    position = np.arange(1, size + 1, dtype=np.float32) / np.float32(size + 1e-6) * np.float32(2 * np.pi)
    frequency = TEMPERATURE ** (2 * (np.arange(half, dtype=np.float32) // 2) / half)
    angle = position[:, None] / frequency.astype(np.float32)
    axis = np.where(np.arange(half) % 2 == 0, np.sin(angle), np.cos(angle))  # [size, half]
    y = np.broadcast_to(axis[:, None], (size, size, half))
    x = np.broadcast_to(axis[None, :], (size, size, half))
    return np.concatenate([y, x], -1)


def fourier_encoding(coords: Array, matrix: Array) -> Array:
    """[..., 2] positions (x, y) in [0, 1] through the Gaussian [2, F] to [..., 2F]."""
    angle = 2 * np.pi * ((2 * coords - 1)[..., None] * matrix).sum(-2)  # no matrix product: float32 on any device
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def fourier_grid(size: int, matrix: Array) -> Array:
    """[size, size, 2F]: the encoding of the centres of a grid's cells.

    An angle is the sum of one that depends on the column and one on the row: few sines, and products of them.
    """
    centre = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = (2 * np.pi * (2 * centre[:, None] - 1) * row for row in matrix)
    sin_x, cos_x, sin_y, cos_y = jnp.sin(x), jnp.cos(x), jnp.sin(y)[:, None], jnp.cos(y)[:, None]
    return jnp.concatenate([sin_x * cos_y + cos_x * sin_y, cos_x * cos_y - sin_x * sin_y], -1)


@functools.cache
def rotary_angles(size: int, features: int) -> np.ndarray:
    """[size * size, features / 2]: the angle of each channel pair; the first half turns with x, the second with y."""
    frequency = (1.0 / TEMPERATURE ** (np.arange(0, features, 4)[: features // 4] / features)).astype(np.float32)
    along = np.arange(size, dtype=np.float32)[:, None] * frequency
    x = np.broadcast_to(along[None, :], (size, size, features // 4))
    y = np.broadcast_to(along[:, None], (size, size, features // 4))
    return np.concatenate([x, y], -1).reshape(size * size, features // 2)


@functools.cache
def pair_order(features: int) -> np.ndarray:
    """The channels (0, 2, 4, ..., 1, 3, 5, ...): brings the two members of every rotary pair half a width apart."""
    return np.concatenate([np.arange(0, features, 2), np.arange(1, features, 2)])


def rotate(x: Array, angles: np.ndarray) -> Array:
    """Turns [..., N, F], whose channels stand in `pair_order`, by the angles [N, F / 2].

    Queries and keys are projected straight into that order: their product does not depend on the order of the
    channels, and two contiguous halves are cheaper to combine than interleaved pairs.
    """
    cos, sin = jnp.asarray(np.cos(angles), x.dtype), jnp.asarray(np.sin(angles), x.dtype)
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], -1)
