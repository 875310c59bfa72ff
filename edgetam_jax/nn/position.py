"""Position encodings: sine for feature maps, random Fourier features for prompts, rotary for memory attention."""

import functools

import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jax import lax
from jaxtyping import Array, Float, Float32, Int

TEMPERATURE = 10000.0


@functools.cache
def sine_encoding(size: int, features: int) -> Float32[np.ndarray, "{size} {size} {features}"]:
    """For positions in (0, 1]: the y half, then the x half of the channels, each with sine and cosine interleaved."""
    half = features // 2
    position = np.arange(1, size + 1, dtype=np.float32) / np.float32(size + 1e-6) * np.float32(2 * np.pi)
    frequency = TEMPERATURE ** (2 * (np.arange(half, dtype=np.float32) // 2) / half)
    angle = position[:, None] / frequency.astype(np.float32)[None, :]
    axis = np.where(np.arange(half) % 2 == 0, np.sin(angle), np.cos(angle))
    y, x = repeat(axis, "y half -> y x half", x=size), repeat(axis, "x half -> y x half", y=size)
    return np.concatenate([y, x], -1)


def fourier_encoding(coords: Float[Array, "*b 2"], matrix: Float[Array, "2 f"]) -> Float[Array, "*b 2*f"]:
    """Positions (x, y) in [0, 1] to the sines, then the cosines, of their products with the Gaussian `matrix`."""
    products = (2 * coords - 1)[..., None] * lax.broadcast_to_rank(matrix, coords.ndim + 1)
    angle = 2 * np.pi * products.sum(-2)  # no matrix product: float32 on any device
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def fourier_grid(size: int, matrix: Float[Array, "2 f"]) -> Float[Array, "{size} {size} 2*f"]:
    """`fourier_encoding` of the centres of a grid's cells.

    An angle is the sum of one that depends on the column and one that depends on the row, so that few sines are
    computed, and products of them.
    """
    centre = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = (2 * np.pi * (2 * centre[:, None] - 1) * row[None, :] for row in matrix)
    sin_x, cos_x, sin_y, cos_y = jnp.sin(x)[None], jnp.cos(x)[None], jnp.sin(y)[:, None], jnp.cos(y)[:, None]
    return jnp.concatenate([sin_x * cos_y + cos_x * sin_y, cos_x * cos_y - sin_x * sin_y], -1)


@functools.cache
def rotary_angles(size: int, features: int) -> Float32[np.ndarray, "{size}*{size} {features}//2"]:
    """The angle of each channel pair at each position, row by row; half of the pairs turn with x, half with y."""
    frequency = (1.0 / TEMPERATURE ** (np.arange(0, features, 4)[: features // 4] / features)).astype(np.float32)
    axis = np.arange(size, dtype=np.float32)[:, None] * frequency[None, :]
    x, y = repeat(axis, "x pair -> (y x) pair", y=size), repeat(axis, "y pair -> (y x) pair", x=size)
    return np.concatenate([x, y], -1)


@functools.cache
def pair_order(features: int) -> Int[np.ndarray, "{features}"]:
    """The channels (0, 2, 4, ..., 1, 3, 5, ...), which puts the two members of every rotary pair half a width apart."""
    return rearrange(np.arange(features), "(pair member) -> (member pair)", member=2)


def rotate(x: Float[Array, "*b n f"], angles: Float32[np.ndarray, "n f//2"]) -> Float[Array, "*b n f"]:
    """Rotates each channel pair of `x`, whose channels are in `pair_order`, by its angle.

    Queries and keys are projected straight into that order: their product does not depend on the order of the
    channels, and two contiguous halves are cheaper to combine than interleaved pairs.
    """
    cos, sin = (lax.broadcast_to_rank(jnp.asarray(f(angles), x.dtype), x.ndim) for f in (np.cos, np.sin))
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], -1)
