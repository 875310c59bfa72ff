"""Polygons to pixels: which thing is in front at each pixel, and what colour it has there.

Two loops over frames, the first for the map of owners and the second for the colours, because XLA on CPU would
compute the map again for each of its uses within one loop.
"""

import operator
from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from edgetam_jax.data.synthetic.outlines import PARTS, SIDES

BLUR = 3  # pixels that the blur reaches to each side
NOTHING = 0  # in a map of owners: the background; a part of thing i is 1 + PARTS * i + part


class Lines(NamedTuple):
    """Edges of outlines, in pixels; PARTS groups of SIDES, see `outlines`."""

    start: Array  # [..., 48, 2]
    end: Array  # [..., 48, 2]
    parted: Array  # [...] bool: each group is a contour of its own


class Owners(NamedTuple):
    """What is seen at each pixel."""

    owner: Array  # [h, w] uint8
    whole: Array  # [L] int32: pixels of each thing in the frame, were nothing in front of it


class Finish(NamedTuple):
    """How the world becomes a picture, on one frame."""

    light: Array  # [3, 3] for each colour: gain at the frame's middle, its growth along x and along y
    shadow: Array  # [3] its depth in 0..1, shift in y and x as shares of MAX_SHADOW
    blur: Array  # [2 * BLUR + 1] weights along y and along x
    shift: Array  # [3, 2] int32 where in the tile of noise each colour begins
    noise: Array  # [] deviation, in 0..1


class Atlas(NamedTuple):
    """All textures in one row, so that a pixel needs one look."""

    texels: Array  # [N] int32, a byte a colour
    start: Array  # [R] int32, the row of `Finish.maps` of each owner
    size: Array  # [R] int32


def find_owners(lines: Lines, height: int, width: int) -> Owners:
    """Things [L] by their edges, the last one in front. A pixel is inside if its row crosses an odd number of them."""
    x = jnp.arange(width, dtype=jnp.int16)

    def put(owner: Array, thing: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        index, parted, crossed = thing

        def odd(part: int) -> Array:
            # Negative if an odd number of edges lie to the right: the sign bits add up.
            return reduce(operator.xor, (x - row[:, None] for row in crossed[part * SIDES : (part + 1) * SIDES]))

        parts = [odd(part) for part in range(PARTS)]
        inside = jnp.where(parted, reduce(operator.or_, parts), reduce(operator.xor, parts)) < 0
        part = jnp.zeros((), jnp.uint8)
        for i in reversed(range(PARTS)):
            part = jnp.where(parts[i] < 0, jnp.uint8(i), part)
        return jnp.where(inside, (1 + PARTS * index).astype(jnp.uint8) + part, owner), inside.sum(dtype=jnp.int32)

    nothing = jnp.full((height, width), NOTHING, jnp.uint8)
    return Owners(
        *lax.scan(put, nothing, (jnp.arange(len(lines.parted)), lines.parted, _crossings(lines, *nothing.shape)))
    )


def _crossings(lines: Lines, height: int, width: int) -> Array:
    """The first column to the right of where an edge crosses the middle of a pixel row [..., 48, height].

    0, left of all, where it does not. int16 is twice as fast as int32 in what follows.
    """
    y = jnp.arange(height, dtype=jnp.float32)
    (x0, y0), (x1, y1) = (jnp.moveaxis(ends, -1, 0)[..., None] for ends in (lines.start, lines.end))
    crossed = x0 + (y - y0) * (x1 - x0) / jnp.where(y1 == y0, 1, y1 - y0)
    column = jnp.clip(jnp.ceil(crossed), 0, width)
    return jnp.where((y0 <= y) != (y1 <= y), column, 0).astype(jnp.int16)


def pack(texture: Array) -> Array:
    """A texture [h, w, 3] in 0..1 as texels [h * w] of int32."""
    levels = jnp.round(255 * texture).astype(jnp.int32)
    return (levels << np.array([0, 8, 16], np.int32)).sum(-1).reshape(-1)


def color(owner: Array, maps: Array, atlas: Atlas) -> Array:
    """Colours [3, h, w] in 0..1 from a map of owners and, for each owner, the map [R, 2, 3] from pixels to texels."""
    height, width = owner.shape
    row, column = jnp.arange(height, dtype=jnp.float32)[:, None], jnp.arange(width, dtype=jnp.float32)
    index = owner.astype(jnp.int32)

    def of(table: Array) -> Array:
        return table.at[index].get(mode="promise_in_bounds")

    u, v = (of(maps[:, i, 0]) * column + of(maps[:, i, 1]) * row + of(maps[:, i, 2]) for i in (0, 1))
    size, start = of(atlas.size), of(atlas.start)
    u0, v0 = jnp.floor(u), jnp.floor(v)
    du, dv = u - u0, v - v0

    def mirrored(texel: Array) -> Array:
        place = texel & (2 * size - 1)
        return jnp.where(place < size, place, 2 * size - 1 - place)

    columns = [mirrored(u0.astype(jnp.int32) + i) for i in (0, 1)]
    rows = [start + size * mirrored(v0.astype(jnp.int32) + i) for i in (0, 1)]
    taps = [[atlas.texels.at[r + c].get(mode="promise_in_bounds") for c in columns] for r in rows]

    def channel(shift: int) -> Array:
        (a, b), (c, d) = [[((tap >> shift) & 255).astype(jnp.float32) for tap in pair] for pair in taps]
        above, below = a + du * (b - a), c + du * (d - c)
        return (above + dv * (below - above)) / 255

    return jnp.stack([channel(0), channel(8), channel(16)])


def light_up(picture: Array, owner: Array, finish: Finish, reach: int) -> Array:
    """Light, which falls off across the frame, and the shadows of things on what is behind them."""
    _, height, width = picture.shape
    across = (jnp.arange(width) / width - 0.5).astype(jnp.float32)
    down = (jnp.arange(height) / height - 0.5).astype(jnp.float32)[:, None]
    gain = (
        finish.light[:, 0, None, None] + finish.light[:, 1, None, None] * across + finish.light[:, 2, None, None] * down
    )
    shift = jnp.round(reach * (1 + finish.shadow[1:])).astype(jnp.int32)
    thing = (owner.astype(jnp.int32) + PARTS - 1) // PARTS
    caster = lax.dynamic_slice(jnp.pad(thing, reach), (shift[0], shift[1]), thing.shape)
    return picture * gain * jnp.where(caster > thing, 1 - finish.shadow[0], 1)


def develop(picture: Array, finish: Finish, tile: Array) -> Array:
    """Blur and noise: colours [3, h, w] to uint8 [h, w, 3]."""
    _, height, width = picture.shape
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (BLUR, BLUR)
        padded, length = jnp.pad(picture, pad, mode="edge"), picture.shape[axis]
        picture = sum(
            (w * lax.slice_in_dim(padded, i, i + length, axis=axis) for i, w in enumerate(finish.blur)), jnp.zeros(())
        )
    grain = jnp.stack([lax.dynamic_slice(tile, (y, x), (height, width)) for y, x in finish.shift])
    picture = picture + finish.noise * grain
    return jnp.clip(jnp.round(255 * picture), 0, 255).astype(jnp.uint8).transpose(1, 2, 0)
