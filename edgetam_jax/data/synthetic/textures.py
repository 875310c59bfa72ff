"""Square RGB textures: band-limited noise, stripes, checks, spots and gradients in random colours."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from edgetam_jax.data.synthetic.outlines import TWO_PI
from edgetam_jax.data.uniform_stream import UniformStream

SITES = 14  # patches of a background, at most 16


def object_texture(stream: UniformStream, phases: Array) -> Array:
    """The texture of a thing, brighter on one side and darker towards the rim, as if it were round.

    Returns [size, size, 3] in 0..1. Uses 30 numbers of the stream; `phases` are uniform [2, size, size / 2 + 1].
    """
    coarse, fine = noise(stream, phases[0]), noise(stream, phases[1])
    x, y = _grid(len(coarse))
    color = _paint(stream, _pattern(stream, coarse, fine), coarse, fine)
    angle, side, rim = stream(3, high=np.array([TWO_PI, 0.35, 0.3]))
    light = 1 + side * (jnp.cos(angle) * x + jnp.sin(angle) * y) - rim * jnp.minimum(x * x + y * y, 1)
    return jnp.clip(color * light[..., None], 0, 1)


def background_texture(stream: UniformStream, phases: Array) -> Array:
    """The texture of a background: patches with uneven borders in random colours, mixed with a pattern.

    Returns [size, size, 3] in 0..1. Uses 102 numbers of the stream; `phases` are uniform [2, size, size / 2 + 1].
    """
    coarse, fine = noise(stream, phases[0]), noise(stream, phases[1])
    x, y = _grid(len(coarse))
    color = _paint(stream, _pattern(stream, coarse, fine), coarse, fine)
    uneven, patchy, vivid = stream(3, high=np.array([0.12, 1, 0.8]))
    x, y = x + uneven * coarse, y + uneven * fine
    # The nearest site is found by one minimum, for the last four bits of a distance are the site's number.
    nearest = jnp.full(x.shape, 2**30, jnp.int32)
    for number, (site_x, site_y) in enumerate(stream(SITES, 2, low=-1)):
        distance = (x - site_x) ** 2 + (y - site_y) ** 2
        nearest = jnp.minimum(nearest, (distance * 2**16).astype(jnp.int32) << 4 | number)
    patch = _colors(stream, SITES)[nearest & 15]
    share = jnp.where(patchy < 0.7, 0.3 + vivid * patchy, 0)
    return jnp.clip(share * patch + (1 - share) * color, 0, 1)


def noise(stream: UniformStream, phases: Array) -> Array:
    """Noise of a random band of frequencies, possibly stretched in one direction: [size, size], mean 0, deviation 1."""
    size = len(phases)
    middle, width, stretch, angle = stream(4)
    fy, fx = np.fft.fftfreq(size, 1 / size)[:, None].astype("f4"), np.fft.rfftfreq(size, 1 / size).astype("f4")
    along = jnp.cos(TWO_PI * angle) * fx + jnp.sin(TWO_PI * angle) * fy
    across = (jnp.cos(TWO_PI * angle) * fy - jnp.sin(TWO_PI * angle) * fx) * (1 + 5 * stretch**4)
    octave = 0.5 * jnp.log2(along**2 + across**2 + 1e-6)
    off = (octave - 1 - np.log2(size / 12) * middle) / (0.4 + 1.2 * width)
    strength = jnp.exp2(-0.72 * off**2 - octave).at[0, 0].set(0)
    turns = TWO_PI * phases
    field = jnp.fft.irfft2(jax.lax.complex(strength * jnp.cos(turns), strength * jnp.sin(turns)), (size, size))
    return field / (field.std() + 1e-12)


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    line = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    return line[None], line[:, None]


def _pattern(stream: UniformStream, coarse: Array, fine: Array) -> Array:
    """Clouds, blotches, stripes, checks, dots or a gradient, distorted by noise: [size, size] in 0..1."""
    angle, pitch, warp, sharp, level = stream(5)
    x, y = _grid(len(coarse))
    turned = jnp.cos(TWO_PI * angle) * x + jnp.sin(TWO_PI * angle) * y
    upright = jnp.cos(TWO_PI * angle) * y - jnp.sin(TWO_PI * angle) * x
    rate = np.pi * 2.0 ** (1 + 2 * pitch)
    bent = 0.12 * jnp.maximum(warp - 0.4, 0) * coarse
    wave, other = jnp.sin(rate * (turned + bent)), jnp.sin(rate * (upright + bent))
    choices = [coarse, coarse + 0.5 * fine - 1 + level, wave, wave * other, wave + other - 0.9, turned + 0.1 * coarse]
    kind = stream.choice(range(len(choices)))
    steepness = jnp.stack([1.5, 6, 1 + 8 * sharp, 2 + 10 * sharp, 6, 1.5])[kind]
    return jax.nn.sigmoid(steepness * jnp.stack(choices)[kind])


def _paint(stream: UniformStream, pattern: Array, coarse: Array, fine: Array) -> Array:
    """A pattern in two colours, with clouds of a third colour and grain."""
    first, second, third = _colors(stream, 3)
    clouds, grain = stream(2, high=np.array([0.35, 0.14]))
    color = first + pattern[..., None] * (second - first)
    color = color + clouds * jax.nn.sigmoid(2 * coarse)[..., None] * (third - color)
    return color * (1 + grain * fine[..., None])


def _colors(stream: UniformStream, count: int) -> Array:
    """Random RGB colours [count, 3] in 0..1, with hues near a common one or far from it, most of low saturation."""
    shared, spread = stream(2)
    hue, saturation, value = stream(3, count)
    hue = shared + spread * (hue - 0.5)
    saturation, value = 0.9 * saturation**1.3, 0.12 + 0.83 * value
    phase = jnp.abs((hue[:, None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1
    return value[:, None] * (1 - saturation[:, None] * (1 - jnp.clip(phase, 0, 1)))
