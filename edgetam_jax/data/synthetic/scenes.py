"""What there is in a synthetic clip, drawn from one key, and where it is at a time."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from edgetam_jax.data.synthetic import motions
from edgetam_jax.data.synthetic.config import ClipConfig
from edgetam_jax.data.synthetic.motions import Camera, Motion, Wave, affine, compose, invert
from edgetam_jax.data.synthetic.outlines import PARTS, TURN, Kind, Outline, edges, pose, sample_outline
from edgetam_jax.data.synthetic.rendering import BLUR, Atlas, Finish, Lines, pack
from edgetam_jax.data.synthetic.textures import background_texture, object_texture
from edgetam_jax.data.uniform_stream import UniformStream

OBJECTS = {
    Kind.BLOB: 0.25,
    Kind.POLYGON: 0.25,
    Kind.RING: 0.1,
    Kind.LIMBS: 0.2,
    Kind.CHAIN: 0.08,
    Kind.CLUSTER: 0.12,
}
OCCLUDERS = (Kind.BLOB, Kind.POLYGON, Kind.FENCE)
TILE = 48  # pixels by which the tile of noise is larger than the frame


class Light(NamedTuple):
    tint: Array  # [3]
    flicker: Wave  # []
    slope: Wave  # [2] across x and y
    shadow: Array  # [3] see Finish
    focus: Array  # [] deviation of the blur, in pixels
    blur: Wave  # [] around it, as a share
    noise: Array  # []


class Scene(NamedTuple):
    """Its things [L] lie from back to front."""

    outlines: Outline  # [L]
    motions: Motion  # [L]
    numbers: Array  # [L] int32: which object each thing is, -1 if it is none
    camera: Camera
    background: Array  # [3] the share of its texture that fills the frame's longer side, and where its middle lies
    light: Light
    atlas: Atlas
    tile: Array  # [height + TILE, width + TILE] noise of deviation 1
    shifts: Array  # [T, 3, 2] int32 where in the tile each colour of each frame begins


@partial(jax.jit, static_argnums=1)
def sample_scene(key: Array, config: ClipConfig) -> Scene:
    count, size = config.things, config.texture_size
    tile = config.height + TILE, config.width + TILE
    noise = 2 * 2 * size * (size + 1) + count * 2 * size * (size // 2 + 1)
    small = 152 * count + 128 * (count + 1) + 128 + 6 * config.frames
    draws = UniformStream(jax.random.uniform(key, (small + noise + tile[0] * tile[1],)))
    outlines, moves, depth = _sample_things(draws, config)
    order = jnp.argsort(depth)
    numbers = jnp.where(jnp.arange(count) < config.objects, jnp.arange(count), -1)
    outlines, moves, numbers = jax.tree.map(lambda x: x[order], (outlines, moves, numbers))
    return Scene(
        outlines=outlines,
        motions=moves,
        numbers=numbers,
        camera=motions.sample_camera(draws, config),
        background=draws(3, low=np.array([0.55, 0.4, 0.4]), high=np.array([0.85, 0.6, 0.6])),
        light=_sample_light(draws),
        atlas=_sample_atlas(draws, config),
        tile=draws.normal(*tile),
        shifts=draws(config.frames, 3, 2, high=TILE + 1).astype(jnp.int32),
    )


def _sample_things(draws: UniformStream, config: ClipConfig) -> tuple[Outline, Motion, Array]:
    """Objects, distractors and occluders, in this order, and how far in front each is. Takes 152 numbers a thing."""
    count = config.things
    is_occluder = jnp.arange(count) >= count - config.occluders

    def thing(numbers: Array, is_occluder: Array) -> tuple[Outline, Motion, Array]:
        draws = UniformStream(numbers)
        kind = draws.choice(list(OBJECTS), list(OBJECTS.values()))
        kind = jnp.where(is_occluder, draws.choice(OCCLUDERS), kind)
        outline, motion = sample_outline(draws, kind), motions.sample_motion(draws, config)
        reach = jnp.hypot(*pose(outline, jnp.zeros(())).vertices.T).max()
        return outline, motions.with_trip(draws, motion, reach, config), draws()

    outlines, moves, depth = jax.vmap(thing)(draws(count, 144), is_occluder)

    def in_front(numbers: Array, kind: Array, motion: Motion, own_depth: Array) -> tuple[Motion, Array]:
        draws = UniformStream(numbers)
        target = draws.choice(range(config.objects))
        motion = motions.ambush(draws, motion, jax.tree.map(lambda x: x[target], moves), kind, config)
        return motion, jnp.maximum(own_depth, depth[target] + 1e-3)

    def merge(new: Array, old: Array) -> Array:
        return jnp.where(is_occluder.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    hiding = jax.vmap(in_front)(draws(count, 8), outlines.kind, moves, depth)
    moves, depth = jax.tree.map(merge, hiding, (moves, depth))
    return outlines, moves, depth


def _sample_atlas(draws: UniformStream, config: ClipConfig) -> Atlas:
    """Textures of the background and of all things."""
    size, things = config.texture_size, config.things
    args = draws(things, 128), draws(things, 2, size, size // 2 + 1)
    textures = lax.map(lambda args: pack(object_texture(UniformStream(args[0]), args[1])), args)
    back = pack(background_texture(UniformStream(draws(128)), draws(2, 2 * size, size + 1)))
    start = back.size + size * size * np.arange(things).repeat(PARTS)
    return Atlas(
        texels=jnp.concatenate([back, textures.reshape(-1)]),
        start=jnp.asarray(np.concatenate([[0], start]), jnp.int32),
        size=jnp.asarray(np.concatenate([[2 * size], np.full(things * PARTS, size)]), jnp.int32),
    )


def _sample_light(draws: UniformStream) -> Light:
    away = draws(high=TURN)
    return Light(
        tint=draws(3, low=0.9, high=1.1),
        flicker=motions.sample_wave(draws, 0.22, (12, 60), 1),
        slope=motions.sample_wave(draws, 0.5, (30, 90), 1, 2),
        shadow=jnp.stack([jnp.maximum(draws(low=-0.3, high=0.6), 0), jnp.sin(away), jnp.cos(away)]),
        focus=jnp.exp(draws(low=-1, high=0.2)),
        blur=motions.sample_wave(draws, 0.4, (12, 40), 1),
        noise=0.045 * draws() ** 2,
    )


def draw_lines(scene: Scene, time: Array, config: ClipConfig) -> tuple[Lines, Array]:
    """At one time: the edges [L, 48] in pixels, and the maps from pixels to texels [1 + PARTS * L, 2, 3]."""
    size = config.texture_size
    lens, far = motions.through_camera(scene.camera, time, config)

    def thing(outline: Outline, motion: Motion) -> tuple[Lines, Array]:
        now, rest = pose(outline, time), pose(outline, jnp.zeros(()), moving=0)
        to_pixels = compose(lens, motions.into_world(motion, time))
        start, end = edges(outline.kind, now.vertices @ to_pixels[:, :2].T + to_pixels[:, 2])
        back = motions.rotation(rest.angles - now.angles)  # [PARTS, 2, 2]
        to_rest = affine(back, rest.pivots - (back @ now.pivots[..., None])[..., 0])
        to_texels = affine(0.33 * size * jnp.eye(2), jnp.full(2, size / 2 - 0.5))
        return Lines(start, end, outline.kind >= Kind.LIMBS), compose(to_texels, compose(to_rest, invert(to_pixels)))

    lines, maps = jax.vmap(thing)(scene.outlines, scene.motions)
    scale, middle = 2 * size / max(config.room) * scene.background[0], 2 * size * scene.background[1:]
    back = compose(affine(scale * jnp.eye(2), middle), invert(far))
    return lines, jnp.concatenate([back[None], maps.reshape(-1, 2, 3)])


def finish_of(scene: Scene, frame: Array) -> Finish:
    light, time = scene.light, frame.astype(jnp.float32)
    gain = light.tint * (1 + light.flicker.at(time))
    sigma = light.focus * (1 + light.blur.at(time))
    weights = jnp.exp(-0.5 * (jnp.arange(-BLUR, BLUR + 1) / sigma) ** 2)
    return Finish(
        light=gain[:, None] * jnp.concatenate([jnp.ones(1), light.slope.at(time)]),
        shadow=light.shadow,
        blur=weights / weights.sum(),
        shift=scene.shifts[frame],
        noise=light.noise,
    )
