"""From polygons to pixels: which thing is in front at each pixel, and the colour that it has there.

The map of owners and the colours are computed in two loops over frames, because XLA on CPU would compute the map again
for each of its uses within one loop.
"""

import operator
from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from edgetam_jax.data.synthetic.outlines import NUM_PARTS, PART_VERTICES

BLUR = 3  # the radius of the blur in pixels
BACKGROUND = 0  # in a map of owners: the background; a part of thing i is 1 + NUM_PARTS * i + part


class EdgeList(NamedTuple):
    """Edges of outlines, in pixels; NUM_PARTS groups of PART_VERTICES, see `outlines`."""

    start: Array  # [..., 48, 2]
    end: Array  # [..., 48, 2]
    has_parts: Array  # [...] bool: each group is a contour of its own


class PixelOwners(NamedTuple):
    """Which thing is in front at each pixel."""

    owner: Array  # [h, w] uint8
    unoccluded: Array  # [L] int32: pixels of each thing in the frame, those behind other things included


class FrameEffects(NamedTuple):
    """Light, shadows, blur and noise of one frame."""

    light: Array  # [3, 3] for each colour: gain in the middle of the frame, and its gradient along x and along y
    shadow: Array  # [3] strength in 0..1, and the shift in y and x as shares of `clips.SHADOW_REACH`
    blur: Array  # [2 * BLUR + 1] weights along y and along x
    shift: Array  # [3, 2] int32 the corner of each colour's noise in the noise tile
    noise: Array  # [] standard deviation, of colours in 0..1


class TextureAtlas(NamedTuple):
    """All textures in one array, so that each pixel needs one lookup."""

    texels: Array  # [N] int32, a byte for each colour
    start: Array  # [R] int32, the first texel of each owner's texture
    size: Array  # [R] int32, the side of each owner's texture


class Cutouts(NamedTuple):
    """Things whose shape is the alpha of their texture, where `is_cutout` is true."""

    is_cutout: Array  # [L] bool
    maps: Array  # [L, 2, 3] from pixels to texels
    bends: Array  # [L, 3] see `unbend`
    start: Array  # [L] int32, the first texel
    size: Array  # [L] int32, the side of the texture


def find_owners(
    edges: EdgeList, height: int, width: int, cutouts: Cutouts | None = None, texels: Array | None = None
) -> PixelOwners:
    """Finds which of the things [L] is in front at each pixel; later things are in front of earlier ones.

    A pixel is inside of a contour if an odd number of its edges lie to the right of it. It is inside of a cut-out if
    the nearest texel (of `texels`, see `TextureAtlas`) is opaque.
    """
    x = jnp.arange(width, dtype=jnp.int16)

    def inside_polygon(crossed: Array, has_parts: Array) -> tuple[Array, Array]:
        def is_inside(part: int) -> Array:
            # Negative if an odd number of edges lie to the right: `xor` combines the sign bits.
            columns = crossed[part * PART_VERTICES : (part + 1) * PART_VERTICES]
            return reduce(operator.xor, (x - column[:, None] for column in columns))

        parts = [is_inside(part) for part in range(NUM_PARTS)]
        inside = jnp.where(has_parts, reduce(operator.or_, parts), reduce(operator.xor, parts)) < 0
        part = jnp.zeros((), jnp.uint8)
        for i in reversed(range(NUM_PARTS)):
            part = jnp.where(parts[i] < 0, jnp.uint8(i), part)
        return inside, jnp.broadcast_to(part, inside.shape)

    def inside_cutout(cutout: Cutouts) -> tuple[Array, Array]:
        assert texels is not None
        u, v = _texel_position(cutout.maps, height, width)
        u, v = unbend(u, v, cutout.bends, cutout.size)
        column, row = (jnp.floor(w + 0.5).astype(jnp.int32) for w in (u, v))
        last = cutout.size - 1
        index = cutout.start + cutout.size * jnp.clip(row, 0, last) + jnp.clip(column, 0, last)
        opaque = texels.at[index].get(mode="promise_in_bounds") < 0  # the highest bit is that of alpha
        fits = (column >= 0) & (column <= last) & (row >= 0) & (row <= last)
        return opaque & fits, jnp.zeros((height, width), jnp.uint8)

    def draw_thing(owner: Array, thing: tuple[Array, Array, Array, Cutouts | None]) -> tuple[Array, Array]:
        index, has_parts, crossed, cutout = thing
        if cutout is None:
            inside, part = inside_polygon(crossed, has_parts)
        else:
            inside, part = lax.cond(
                cutout.is_cutout, lambda: inside_cutout(cutout), lambda: inside_polygon(crossed, has_parts)
            )
        return jnp.where(inside, (1 + NUM_PARTS * index).astype(jnp.uint8) + part, owner), inside.sum(dtype=jnp.int32)

    background = jnp.full((height, width), BACKGROUND, jnp.uint8)
    index, crossed = jnp.arange(len(edges.has_parts)), _crossings(edges, *background.shape)
    return PixelOwners(*lax.scan(draw_thing, background, (index, edges.has_parts, crossed, cutouts)))


def _texel_position(map_: Array, height: int, width: int) -> tuple[Array, Array]:
    """The position in a texture of each pixel, by a map [2, 3]: two of [h, w]."""
    row, column = jnp.arange(height, dtype=jnp.float32)[:, None], jnp.arange(width, dtype=jnp.float32)
    u, v = (a[0] * column + a[1] * row + a[2] for a in (map_[0], map_[1]))
    return u, v


def unbend(u: Array, v: Array, bend: Array, size: Array) -> tuple[Array, Array]:
    """The position in a texture at rest of a position in the bent one: first along u, by v and its cube, then along v.

    `bend` has the three amplitudes as shares of half the texture, [3, ...]; zeros change nothing.
    """
    half = size / 2
    y = (v + 0.5) / half - 1
    y = jnp.clip(y, -2, 2)
    u = u - half * (bend[0] * (y * y - 0.3) + bend[1] * y * (y * y - 0.5))
    x = jnp.clip((u + 0.5) / half - 1, -2, 2)
    return u, v - half * bend[2] * (x * x - 0.3)


def _crossings(edges: EdgeList, height: int, width: int) -> Array:
    """The first column to the right of each edge on each pixel row, 0 where the edge does not cross it.

    Returns [..., 48, height] int16, with which `find_owners` is twice as fast as with int32.
    """
    y = jnp.arange(height, dtype=jnp.float32)
    (x0, y0), (x1, y1) = (jnp.moveaxis(ends, -1, 0)[..., None] for ends in (edges.start, edges.end))
    crossed = x0 + (y - y0) * (x1 - x0) / jnp.where(y1 == y0, 1, y1 - y0)
    column = jnp.clip(jnp.ceil(crossed), 0, width)
    return jnp.where((y0 <= y) != (y1 <= y), column, 0).astype(jnp.int16)


def pack(texture: Array) -> Array:
    """Packs a texture [h, w, 3] in 0..1 into texels [h * w] int32."""
    levels = jnp.round(255 * texture).astype(jnp.int32)
    return (levels << np.array([0, 8, 16], np.int32)).sum(-1).reshape(-1)


def sample_colors(owner: Array, maps: Array, atlas: TextureAtlas, bends: Array | None = None) -> Array:
    """The colours [3, h, w] in 0..1 of a map of owners, with each owner's map [R, 2, 3] from pixels to texels.

    Textures are bent by `bends` [R, 3], see `unbend`.
    """
    height, width = owner.shape
    row, column = jnp.arange(height, dtype=jnp.float32)[:, None], jnp.arange(width, dtype=jnp.float32)
    index = owner.astype(jnp.int32)

    def per_pixel(table: Array) -> Array:
        return table.at[index].get(mode="promise_in_bounds")

    u, v = (
        per_pixel(maps[:, i, 0]) * column + per_pixel(maps[:, i, 1]) * row + per_pixel(maps[:, i, 2]) for i in (0, 1)
    )
    size, start = per_pixel(atlas.size), per_pixel(atlas.start)
    if bends is not None:
        u, v = unbend(u, v, jnp.stack([per_pixel(bends[:, i]) for i in range(3)]), size)
    u0, v0 = jnp.floor(u), jnp.floor(v)
    du, dv = u - u0, v - v0

    def mirrored(texel: Array) -> Array:
        position = texel & (2 * size - 1)
        return jnp.where(position < size, position, 2 * size - 1 - position)

    columns = [mirrored(u0.astype(jnp.int32) + i) for i in (0, 1)]
    rows = [start + size * mirrored(v0.astype(jnp.int32) + i) for i in (0, 1)]
    taps = [[atlas.texels.at[r + c].get(mode="promise_in_bounds") for c in columns] for r in rows]

    def channel(shift: int) -> Array:
        (a, b), (c, d) = [[((tap >> shift) & 255).astype(jnp.float32) for tap in pair] for pair in taps]
        above, below = a + du * (b - a), c + du * (d - c)
        return (above + dv * (below - above)) / 255

    return jnp.stack([channel(0), channel(8), channel(16)])


def apply_light(image: Array, owner: Array, effects: FrameEffects, reach: int) -> Array:
    """Applies the light, which varies across the frame, and the shadows that things cast on what is behind them."""
    _, height, width = image.shape
    across = (jnp.arange(width) / width - 0.5).astype(jnp.float32)
    down = (jnp.arange(height) / height - 0.5).astype(jnp.float32)[:, None]
    level, gradient_x, gradient_y = (effects.light[:, i, None, None] for i in range(3))
    gain = level + gradient_x * across + gradient_y * down
    shift = jnp.round(reach * (1 + effects.shadow[1:])).astype(jnp.int32)
    thing = (owner.astype(jnp.int32) + NUM_PARTS - 1) // NUM_PARTS
    caster = lax.dynamic_slice(jnp.pad(thing, reach), (shift[0], shift[1]), thing.shape)
    return image * gain * jnp.where(caster > thing, 1 - effects.shadow[0], 1)


def apply_blur_and_noise(image: Array, effects: FrameEffects, noise_tile: Array) -> Array:
    """Applies blur and noise to colours [3, h, w], and converts them to uint8 [h, w, 3]."""
    _, height, width = image.shape
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (BLUR, BLUR)
        padded, length = jnp.pad(image, pad, mode="edge"), image.shape[axis]
        image = sum(
            (w * lax.slice_in_dim(padded, i, i + length, axis=axis) for i, w in enumerate(effects.blur)), jnp.zeros(())
        )
    grain = jnp.stack([lax.dynamic_slice(noise_tile, (y, x), (height, width)) for y, x in effects.shift])
    image = image + effects.noise * grain
    return jnp.clip(jnp.round(255 * image), 0, 255).astype(jnp.uint8).transpose(1, 2, 0)
