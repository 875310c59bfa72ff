"""Real layers: photographs and moving clips as backgrounds, cut-outs and patches of photographs as things.

They replace textures and shapes of a synthetic scene, and move, deform, occlude each other and are lit as these were.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from edgetam_jax.data.bank import TextureBank
from edgetam_jax.data.synthetic.config import ClipConfig
from edgetam_jax.data.synthetic.motions import sample_wave
from edgetam_jax.data.synthetic.outlines import NUM_PARTS, ShapeKind
from edgetam_jax.data.synthetic.rendering import TextureAtlas
from edgetam_jax.data.synthetic.scenes import Layers, Scene, background_view
from edgetam_jax.data.uniform_stream import UniformStream

# Of the things of a real clip: shares of cut-outs, and of shapes with a photograph's texture. The rest stay synthetic.
CUTOUTS, PATCHES = 0.65, 0.2
PHOTOGRAPHS, CLIPS = 0.6, 0.25  # shares of backgrounds; the rest stay synthetic
TWINS = 0.15  # the share of clips in which all cut-outs are the same
UPRIGHT = 0.7  # the share of cut-outs that hardly rotate
BENDING = 0.6  # the share of cut-outs that bend
# Shares of clips in which nothing moves, only things do, and only the camera does.
STATIC, TRIPOD, STILL_LIFE = 0.08, 0.15, 0.07


@partial(jax.jit, static_argnums=3)
def add_layers(key: Array, scene: Scene, bank: TextureBank, config: ClipConfig) -> Scene:
    """Composes a scene from a bank, in a share of the clips (`config.real`)."""
    stream = UniformStream(jax.random.uniform(key, (32 + 24 * config.things,)))
    is_real = stream.bernoulli(config.real)
    scene = _replace_things(stream, is_real, scene, bank, config)
    return _replace_background(stream, is_real, scene, bank, config)


def _replace_things(
    stream: UniformStream, is_real: Array, scene: Scene, bank: TextureBank, config: ClipConfig
) -> Scene:
    """Cut-outs and patches of photographs in place of some things [L]. Uses 1 + 21 L numbers."""
    count, side = config.things, bank.things.shape[1]
    kind, place, same = stream(count), stream(count), stream.bernoulli(TWINS)
    is_cutout = is_real & (kind < CUTOUTS) & (scene.outlines.kind != ShapeKind.FENCE) & (len(bank.things) > 0)
    is_patch = is_real & ~is_cutout & (kind > 1 - PATCHES) & (len(bank.photographs) > 0)
    number = jnp.searchsorted(bank.thing_shares, jnp.where(same, place[0], place))
    corners, gains = stream(count, 3), stream(count, 3, low=-0.12, high=0.12) + stream(count, 1, low=0.6, high=1.15)
    none = jnp.zeros((side, side, 4), jnp.uint8)

    def texture_of(args: Any) -> Array:
        is_cutout, is_patch, number, corner, gain = args
        cutout = lambda: bank.things[number] if len(bank.things) else none  # noqa: E731
        patch = lambda: _patch(bank.photographs, corner, side) if len(bank.photographs) else none  # noqa: E731
        texture = lax.cond(is_cutout, cutout, lambda: lax.cond(is_patch, patch, lambda: none))
        colors = jnp.clip(jnp.round(texture[..., :3] * gain), 0, 255).astype(jnp.uint8)
        return _pack(jnp.concatenate([colors, texture[..., 3:]], -1))

    textures = lax.map(texture_of, (is_cutout, is_patch, number, corners, gains))
    first = scene.atlas.texels.size + side * side * np.arange(count)
    is_real_owner = jnp.repeat(is_cutout | is_patch, NUM_PARTS)
    start = jnp.where(is_real_owner, np.repeat(first, NUM_PARTS).astype(np.int32), scene.atlas.start[1:])
    size = jnp.where(is_real_owner, np.int32(side), scene.atlas.size[1:])
    half_size = bank.thing_sizes[number] if len(bank.things) else jnp.ones((count, 2))
    mirror = jnp.where(stream(count, 1) < 0.5, np.array([-1, 1], np.float32), np.float32(1))
    bend = sample_wave(stream, 0.3, (14, 60), 1, count, 3)
    bends, upright = stream(count, 1) < BENDING, is_cutout & (stream(count) < UPRIGHT)
    calm = jnp.stack([stream(count, low=-0.35, high=0.35), 0.3 * scene.motions.angle[:, 1]], -1)
    return scene._replace(
        motions=scene.motions._replace(angle=jnp.where(upright[:, None], calm, scene.motions.angle)),
        atlas=TextureAtlas(
            jnp.concatenate([scene.atlas.texels, textures.reshape(-1)]),
            jnp.concatenate([scene.atlas.start[:1], start]),
            jnp.concatenate([scene.atlas.size[:1], size]),
        ),
        layers=Layers(
            is_cutout=is_cutout,
            half_size=half_size * mirror,
            bend=bend._replace(amplitude=jnp.where(bends & is_cutout[:, None], bend.amplitude, 0)),
            background=background_view(scene.background, config),
            background_start=jnp.zeros(config.frames, jnp.int32),
            tempo=jnp.ones(2),
        ),
    )


def _replace_background(
    stream: UniformStream, is_real: Array, scene: Scene, bank: TextureBank, config: ClipConfig
) -> Scene:
    """A photograph or a moving clip in place of the background, and clips in which little moves. Uses 15 numbers."""
    assert scene.layers is not None
    side, time = bank.photographs.shape[1], np.arange(config.frames)
    kind, number, share, backwards, speed, begin = stream(6)
    middle, tempo, quiet = stream(2, low=0.42, high=0.58), stream(2, low=0.2, high=1.1), stream()
    photographs, clips = len(bank.photographs), len(bank.clips)
    limits = np.cumsum([PHOTOGRAPHS if photographs else 0, CLIPS if clips else 0])
    if not photographs or not clips:
        limits = limits / max(limits[-1], 1e-6) * (PHOTOGRAPHS + CLIPS) * bool(photographs or clips)
    is_photograph = is_real & (kind < limits[0])
    is_clip = is_real & (kind >= limits[0]) & (kind < limits[1])
    photograph, clip = (jnp.minimum((number * n).astype(jnp.int32), max(n - 1, 0)) for n in (photographs, clips))
    shape = (config.frames, side, side, 3)

    def still() -> Array:
        return jnp.zeros(shape, jnp.uint8).at[0].set(bank.photographs[photograph])

    def moving() -> Array:
        first, length = bank.clips[clip]
        period = jnp.maximum(2 * (length - 1), 1)
        at = (begin * period).astype(jnp.int32) + time * jnp.where(speed < 0.25, 2, 1)
        at = jnp.where(backwards < 0.5, at, -at) % period
        return bank.frames[first + jnp.minimum(at, period - at)]

    none = lambda: jnp.zeros(shape, jnp.uint8)  # noqa: E731
    of_clip = lambda: lax.cond(is_clip, moving if clips else none, none)  # noqa: E731
    frames = lax.cond(is_photograph, still if photographs else none, of_clip)
    is_replaced = is_photograph | is_clip
    atlas, first = scene.atlas, scene.atlas.texels.size
    aspect = jnp.ones(())
    for is_kind, aspects, index in (
        (is_photograph, bank.photograph_aspects, photograph),
        (is_clip, bank.clip_aspects, clip),
    ):
        aspect = jnp.where(is_kind, aspects[index], aspect) if len(aspects) else aspect
    # The shorter side of the picture spans more or less than the shorter side of the frame.
    extent = jnp.stack([jnp.maximum(aspect, 1), jnp.maximum(1 / aspect, 1)]) / (0.7 + 0.4 * share)
    view = jnp.concatenate([side / extent, side * middle])
    static, tripod = quiet < STATIC, (quiet >= STATIC) & (quiet < STATIC + TRIPOD)
    still_life = (quiet >= STATIC + TRIPOD) & (quiet < STATIC + TRIPOD + STILL_LIFE)
    stopped = jnp.stack([static | still_life, static | tripod])
    starts = first + side * side * jnp.where(is_clip & ~static & ~tripod, time, 0)
    return scene._replace(
        atlas=TextureAtlas(
            jnp.concatenate([atlas.texels, _pack(frames).reshape(-1)]),
            atlas.start,
            atlas.size.at[0].set(jnp.where(is_replaced, side, atlas.size[0])),
        ),
        layers=scene.layers._replace(
            background=jnp.where(is_replaced, view, scene.layers.background),
            background_start=jnp.where(is_replaced, starts, atlas.start[0]).astype(jnp.int32),
            tempo=jnp.where(stopped, 0, tempo),
        ),
    )


def _patch(photographs: Array, place: Array, side: int) -> Array:
    """A random square of a random photograph, with alpha: [side, side, 4]."""
    count, length = photographs.shape[:2]
    number = jnp.minimum((place[0] * count).astype(jnp.int32), count - 1)
    corner = (place[1:] * (length - side + 1)).astype(jnp.int32)
    patch = lax.dynamic_slice(photographs, (number, corner[0], corner[1], 0), (1, side, side, 3))[0]
    return jnp.concatenate([patch, jnp.full((side, side, 1), 255, jnp.uint8)], -1)


def _pack(texture: Array) -> Array:
    """Texels int32 [...] of colours uint8 [..., 3 or 4]; opaque ones are negative, for alpha is the highest byte."""
    shifts = np.array([0, 8, 16, 24][: texture.shape[-1]], np.int32)
    return (texture.astype(jnp.int32) << shifts).sum(-1, dtype=jnp.int32)
