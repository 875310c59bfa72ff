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
    image, tiles, sizes = _axes(levels)
    return rearrange(x, f"{image} -> {tiles}", **sizes)


def untiled(x: Shaped[Array, "..."], levels: int) -> Shaped[Array, "*b height width c"]:
    """The inverse of `tiled`."""
    image, tiles, sizes = _axes(levels)
    return rearrange(x, f"{tiles} -> {image}", **sizes)


def _axes(levels: int) -> tuple[str, str, dict[str, int]]:
    """For einops: the axes of the image and of its tiles, the outermost first, and the sizes of the small ones."""
    ys, xs = ([f"{axis}{level}" for level in range(levels)] for axis in "yx")
    image = f"... (h {' '.join(ys)}) (w {' '.join(xs)}) c"
    tiles = " ".join(f"({y} {x})" for y, x in zip(ys, xs, strict=True))
    return image, f"... h w {tiles} c", dict.fromkeys([*ys, *xs], 2)
