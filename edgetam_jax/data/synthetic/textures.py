"""Textures, squares of RGB: noise of a band of frequencies, stripes, checks, spots and gradients in random colours."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from edgetam_jax.data.synthetic.outlines import TURN
from edgetam_jax.data.uniform_stream import UniformStream

SITES = 14  # of a background's patches, up to 16


def object_texture(draws: UniformStream, phases: Array) -> Array:
    """[size, size, 3] in 0..1, for what moves; brighter on one side and darker towards the rim, as round things are.

    Takes 30 numbers, and [2, size, size / 2 + 1] uniform ones for the noise.
    """
    coarse, fine = noise(draws, phases[0]), noise(draws, phases[1])
    x, y = _grid(len(coarse))
    color = _paint(draws, _pattern(draws, coarse, fine), coarse, fine)
    angle, side, rim = draws(3, high=np.array([TURN, 0.35, 0.3]))
    light = 1 + side * (jnp.cos(angle) * x + jnp.sin(angle) * y) - rim * jnp.minimum(x * x + y * y, 1)
    return jnp.clip(color * light[..., None], 0, 1)


def background_texture(draws: UniformStream, phases: Array) -> Array:
    """[size, size, 3] in 0..1: patches with uneven borders, each in a colour and a strength of pattern of its own.

    Takes 102 numbers, and [2, size, size / 2 + 1] uniform ones for the noise.
    """
    coarse, fine = noise(draws, phases[0]), noise(draws, phases[1])
    x, y = _grid(len(coarse))
    color = _paint(draws, _pattern(draws, coarse, fine), coarse, fine)
    uneven, patchy, vivid = draws(3, high=np.array([0.12, 1, 0.8]))
    x, y = x + uneven * coarse, y + uneven * fine
    # The nearest site by one minimum: its number is in the last four bits of the distance.
    nearest = jnp.full(x.shape, 2**30, jnp.int32)
    for number, (site_x, site_y) in enumerate(draws(SITES, 2, low=-1)):
        distance = (x - site_x) ** 2 + (y - site_y) ** 2
        nearest = jnp.minimum(nearest, (distance * 2**16).astype(jnp.int32) << 4 | number)
    patch = _colors(draws, SITES)[nearest & 15]
    share = jnp.where(patchy < 0.7, 0.3 + vivid * patchy, 0)
    return jnp.clip(share * patch + (1 - share) * color, 0, 1)


def noise(draws: UniformStream, phases: Array) -> Array:
    """[size, size] of mean 0 and deviation 1: a random band of frequencies, possibly drawn out in one direction."""
    size = len(phases)
    middle, width, stretch, angle = draws(4)
    fy, fx = np.fft.fftfreq(size, 1 / size)[:, None].astype("f4"), np.fft.rfftfreq(size, 1 / size).astype("f4")
    along = jnp.cos(TURN * angle) * fx + jnp.sin(TURN * angle) * fy
    across = (jnp.cos(TURN * angle) * fy - jnp.sin(TURN * angle) * fx) * (1 + 5 * stretch**4)
    octave = 0.5 * jnp.log2(along**2 + across**2 + 1e-6)
    off = (octave - 1 - np.log2(size / 12) * middle) / (0.4 + 1.2 * width)
    strength = jnp.exp2(-0.72 * off**2 - octave).at[0, 0].set(0)
    turns = TURN * phases
    field = jnp.fft.irfft2(jax.lax.complex(strength * jnp.cos(turns), strength * jnp.sin(turns)), (size, size))
    return field / (field.std() + 1e-12)


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    line = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    return line[None], line[:, None]


def _pattern(draws: UniformStream, coarse: Array, fine: Array) -> Array:
    """A pattern [size, size] in 0..1 that the noise bends: clouds, blotches, stripes, checks, dots or a gradient."""
    angle, pitch, warp, sharp, level = draws(5)
    x, y = _grid(len(coarse))
    turned = jnp.cos(TURN * angle) * x + jnp.sin(TURN * angle) * y
    upright = jnp.cos(TURN * angle) * y - jnp.sin(TURN * angle) * x
    rate = np.pi * 2.0 ** (1 + 2 * pitch)
    bent = 0.12 * jnp.maximum(warp - 0.4, 0) * coarse
    wave, other = jnp.sin(rate * (turned + bent)), jnp.sin(rate * (upright + bent))
    choices = [coarse, coarse + 0.5 * fine - 1 + level, wave, wave * other, wave + other - 0.9, turned + 0.1 * coarse]
    kind = draws.choice(range(len(choices)))
    steepness = jnp.stack([1.5, 6, 1 + 8 * sharp, 2 + 10 * sharp, 6, 1.5])[kind]
    return jax.nn.sigmoid(steepness * jnp.stack(choices)[kind])


def _paint(draws: UniformStream, pattern: Array, coarse: Array, fine: Array) -> Array:
    """A pattern in two colours, clouded by a third and grained."""
    first, second, third = _colors(draws, 3)
    clouds, grain = draws(2, high=np.array([0.35, 0.14]))
    color = first + pattern[..., None] * (second - first)
    color = color + clouds * jax.nn.sigmoid(2 * coarse)[..., None] * (third - color)
    return color * (1 + grain * fine[..., None])


def _colors(draws: UniformStream, count: int) -> Array:
    """[count, 3] RGB in 0..1: hues around one of the set or far from it, few of them vivid."""
    shared, spread = draws(2)
    hue, saturation, value = draws(3, count)
    hue = shared + spread * (hue - 0.5)
    saturation, value = 0.9 * saturation**1.3, 0.12 + 0.83 * value
    phase = jnp.abs((hue[:, None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1
    return value[:, None] * (1 - saturation[:, None] * (1 - jnp.clip(phase, 0, 1)))
