"""Images whose tiles are stored as channels: few-channel convolutions at high resolution are fast only so."""

import jax.numpy as jnp
from jax import Array


def space_to_depth(x: Array, block: int) -> Array:
    """[..., H, W, C] to [..., H/block, W/block, block * block * C]."""
    *lead, height, width, channels = x.shape
    x = x.reshape(*lead, height // block, block, width // block, block, channels)
    return jnp.moveaxis(x, -4, -3).reshape(*lead, height // block, width // block, block * block * channels)


def depth_to_space(x: Array, block: int) -> Array:
    """The inverse of `space_to_depth`."""
    *lead, height, width, channels = x.shape
    x = x.reshape(*lead, height, width, block, block, channels // block**2)
    return jnp.moveaxis(x, -3, -4).reshape(*lead, height * block, width * block, channels // block**2)


def tiled(x: Array, levels: int) -> Array:
    """[..., H, W, C] to tiles of 2x2 pixels, of 2x2 such tiles, and so on: [..., H / 2^levels, ..., 4, ..., 4, C]."""
    channels = x.shape[-1]
    for _ in range(levels):
        x = space_to_depth(x, 2)
    return x.reshape(*x.shape[:-1], *levels * (4,), channels)


def untiled(x: Array, levels: int) -> Array:
    """The inverse of `tiled`."""
    x = x.reshape(*x.shape[: -levels - 1], -1)
    for _ in range(levels):
        x = depth_to_space(x, 2)
    return x
