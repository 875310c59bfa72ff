"""Images whose tiles are stored as channels.

Few-channel convolutions at high resolution are fast on CPU only in this layout.
"""

from einops import rearrange
from jaxtyping import Array, Shaped


def space_to_depth(x: Shaped[Array, "*b height width c"], block: int) -> Shaped[Array, "*b y x tile"]:
    """[..., H, W, C] to [..., H / block, W / block, block * block * C]."""
    return rearrange(x, "... (h y) (w x) c -> ... h w (y x c)", y=block, x=block)


def depth_to_space(x: Shaped[Array, "*b y x tile"], block: int) -> Shaped[Array, "*b height width c"]:
    """The inverse of `space_to_depth`."""
    return rearrange(x, "... h w (y x c) -> ... (h y) (w x) c", y=block, x=block)


def tiled(x: Shaped[Array, "*b height width c"], levels: int) -> Shaped[Array, "..."]:
    """[..., H, W, C] to tiles of 2x2 pixels, of 2x2 such tiles, and so on: [..., H / 2^levels, ..., 4, ..., 4, C]."""
    for _ in range(levels):
        x = space_to_depth(x, 2)
    axes, sizes = _tile_axes(levels)
    return rearrange(x, f"... ({axes} c) -> ... {axes} c", **sizes)


def untiled(x: Shaped[Array, "..."], levels: int) -> Shaped[Array, "*b height width c"]:
    """The inverse of `tiled`."""
    axes, sizes = _tile_axes(levels)
    x = rearrange(x, f"... {axes} c -> ... ({axes} c)", **sizes)
    for _ in range(levels):
        x = depth_to_space(x, 2)
    return x


def _tile_axes(levels: int) -> tuple[str, dict[str, int]]:
    """Names of the tiles' axes for einops, the outermost first, and their sizes."""
    names = [f"tile{level}" for level in range(levels)]
    return " ".join(names), dict.fromkeys(names, 4)
