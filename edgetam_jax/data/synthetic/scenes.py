"""The content of a synthetic clip, drawn from a random key, and its projection at a time."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from edgetam_jax.data.synthetic import motions
from edgetam_jax.data.synthetic.config import ClipConfig
from edgetam_jax.data.synthetic.motions import Camera, Motion, Wave, affine, compose, invert
from edgetam_jax.data.synthetic.outlines import NUM_PARTS, TWO_PI, Outline, ShapeKind, edges, pose, sample_outline
from edgetam_jax.data.synthetic.rendering import BLUR, EdgeList, FrameEffects, TextureAtlas, pack
from edgetam_jax.data.synthetic.textures import background_texture, object_texture
from edgetam_jax.data.uniform_stream import UniformStream

OBJECT_KINDS = {
    ShapeKind.BLOB: 0.25,
    ShapeKind.POLYGON: 0.25,
    ShapeKind.RING: 0.1,
    ShapeKind.LIMBS: 0.2,
    ShapeKind.CHAIN: 0.08,
    ShapeKind.CLUSTER: 0.12,
}
OCCLUDER_KINDS = (ShapeKind.BLOB, ShapeKind.POLYGON, ShapeKind.FENCE)
TILE_MARGIN = 48  # pixels by which the tile of noise is larger than the frame


class Lighting(NamedTuple):
    """Light, blur and noise over time."""

    tint: Array  # [3]
    flicker: Wave  # []
    gradient: Wave  # [2] across x and y
    shadow: Array  # [3] see FrameEffects
    focus: Array  # [] mean standard deviation of the blur, in pixels
    blur: Wave  # [] its relative change
    noise: Array  # []


class Layers(NamedTuple):
    """What a scene that is composed from a bank has in addition; its things [L] are those of the scene."""

    is_cutout: Array  # [L] bool: its shape is the alpha of its texture
    half_size: Array  # [L, 2] half its width and height at a radius of 1; the width is negative if it is mirrored
    bend: Wave  # [L, 3] see `rendering.unbend`
    background: Array  # [4] see `background_view`
    background_start: Array  # [T] the background's first texel on each frame
    tempo: Array  # [2] factors of time, for things and for the camera; 0 if they do not move


class Scene(NamedTuple):
    """The content of a clip; its things [L] are ordered from back to front."""

    outlines: Outline  # [L]
    motions: Motion  # [L]
    object_indices: Array  # [L] int32: the object that each thing is, -1 for other things
    camera: Camera
    background: Array  # [3] the share of its texture that spans the frame's longer side, and the position of its middle
    light: Lighting
    atlas: TextureAtlas
    noise_tile: Array  # [height + TILE_MARGIN, width + TILE_MARGIN] noise of standard deviation 1
    noise_shifts: Array  # [T, 3, 2] int32 the corner in the tile of each colour's noise on each frame
    layers: Layers | None = None


@partial(jax.jit, static_argnums=1)
def sample_scene(key: Array, config: ClipConfig) -> Scene:
    """Draws a scene from a random key."""
    count, size = config.things, config.texture_size
    tile_size = config.height + TILE_MARGIN, config.width + TILE_MARGIN
    noise = 2 * 2 * size * (size + 1) + count * 2 * size * (size // 2 + 1)
    small = 152 * count + 128 * (count + 1) + 128 + 6 * config.frames
    stream = UniformStream(jax.random.uniform(key, (small + noise + tile_size[0] * tile_size[1],)))
    outlines, thing_motions, depth = _sample_things(stream, config)
    order = jnp.argsort(depth)
    object_indices = jnp.where(jnp.arange(count) < config.objects, jnp.arange(count), -1)
    outlines, thing_motions, object_indices = jax.tree.map(
        lambda x: x[order], (outlines, thing_motions, object_indices)
    )
    return Scene(
        outlines=outlines,
        motions=thing_motions,
        object_indices=object_indices,
        camera=motions.sample_camera(stream, config),
        background=stream(3, low=np.array([0.55, 0.4, 0.4]), high=np.array([0.85, 0.6, 0.6])),
        light=_sample_lighting(stream),
        atlas=_sample_atlas(stream, config),
        noise_tile=stream.normal(*tile_size),
        noise_shifts=stream(config.frames, 3, 2, high=TILE_MARGIN + 1).astype(jnp.int32),
    )


def _sample_things(stream: UniformStream, config: ClipConfig) -> tuple[Outline, Motion, Array]:
    """Objects, distractors and occluders, in this order, and their depths, larger ones in front.

    Uses 152 numbers of the stream for each thing.
    """
    count = config.things
    is_occluder = jnp.arange(count) >= count - config.occluders

    def sample_thing(numbers: Array, is_occluder: Array) -> tuple[Outline, Motion, Array]:
        stream = UniformStream(numbers)
        kind = stream.choice(list(OBJECT_KINDS), list(OBJECT_KINDS.values()))
        kind = jnp.where(is_occluder, stream.choice(OCCLUDER_KINDS), kind)
        outline, motion = sample_outline(stream, kind), motions.sample_motion(stream, config)
        reach = jnp.hypot(*pose(outline, jnp.zeros(())).vertices.T).max()
        return outline, motions.add_exit(stream, motion, reach, config), stream()

    outlines, thing_motions, depth = jax.vmap(sample_thing)(stream(count, 144), is_occluder)

    def occlude(numbers: Array, kind: Array, motion: Motion, own_depth: Array) -> tuple[Motion, Array]:
        stream = UniformStream(numbers)
        target = stream.choice(range(config.objects))
        motion = motions.occlude_target(stream, motion, jax.tree.map(lambda x: x[target], thing_motions), kind, config)
        return motion, jnp.maximum(own_depth, depth[target] + 1e-3)

    def merge(new: Array, old: Array) -> Array:
        return jnp.where(is_occluder.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    occluding = jax.vmap(occlude)(stream(count, 8), outlines.kind, thing_motions, depth)
    thing_motions, depth = jax.tree.map(merge, occluding, (thing_motions, depth))
    return outlines, thing_motions, depth


def _sample_atlas(stream: UniformStream, config: ClipConfig) -> TextureAtlas:
    """Textures of the background and of all things."""
    size, things = config.texture_size, config.things
    args = stream(things, 128), stream(things, 2, size, size // 2 + 1)
    textures = lax.map(lambda args: pack(object_texture(UniformStream(args[0]), args[1])), args)
    back = pack(background_texture(UniformStream(stream(128)), stream(2, 2 * size, size + 1)))
    start = back.size + size * size * np.arange(things).repeat(NUM_PARTS)
    return TextureAtlas(
        texels=jnp.concatenate([back, textures.reshape(-1)]),
        start=jnp.asarray(np.concatenate([[0], start]), jnp.int32),
        size=jnp.asarray(np.concatenate([[2 * size], np.full(things * NUM_PARTS, size)]), jnp.int32),
    )


def _sample_lighting(stream: UniformStream) -> Lighting:
    direction = stream(high=TWO_PI)
    return Lighting(
        tint=stream(3, low=0.9, high=1.1),
        flicker=motions.sample_wave(stream, 0.22, (12, 60), 1),
        gradient=motions.sample_wave(stream, 0.5, (30, 90), 1, 2),
        shadow=jnp.stack([jnp.maximum(stream(low=-0.3, high=0.6), 0), jnp.sin(direction), jnp.cos(direction)]),
        focus=jnp.exp(stream(low=-1, high=0.2)),
        blur=motions.sample_wave(stream, 0.4, (12, 40), 1),
        noise=0.045 * stream() ** 2,
    )


def project_scene(scene: Scene, time: Array, config: ClipConfig) -> tuple[EdgeList, Array]:
    """The edges [L, 48] in pixels at a time, and the maps from pixels to texels [1 + NUM_PARTS * L, 2, 3]."""
    size, layers = config.texture_size, scene.layers
    time, camera_time = (time, time) if layers is None else time * layers.tempo
    to_frame, background_to_frame = motions.world_to_pixels(scene.camera, camera_time, config)

    def project_thing(outline: Outline, motion: Motion) -> tuple[EdgeList, Array, Array]:
        now, rest = pose(outline, time), pose(outline, jnp.zeros(()), swing_scale=0)
        to_pixels = compose(to_frame, motions.outline_to_world(motion, time))
        start, end = edges(outline.kind, now.vertices @ to_pixels[:, :2].T + to_pixels[:, 2])
        back = motions.rotation(rest.angles - now.angles)  # [NUM_PARTS, 2, 2]
        to_rest = affine(back, rest.pivots - (back @ now.pivots[..., None])[..., 0])
        to_texels = affine(0.33 * size * jnp.eye(2), jnp.full(2, size / 2 - 0.5))
        from_pixels = invert(to_pixels)
        map_ = compose(to_texels, compose(to_rest, from_pixels))
        return EdgeList(start, end, outline.kind >= ShapeKind.LIMBS), map_, from_pixels

    projected, maps, from_pixels = jax.vmap(project_thing)(scene.outlines, scene.motions)
    view = background_view(scene.background, config) if layers is None else layers.background
    background_map = compose(affine(view[:2] * jnp.eye(2), view[2:]), invert(background_to_frame))
    if layers is not None:
        half = scene.atlas.size[1::NUM_PARTS, None] / 2
        to_texels = affine(half[..., None] / layers.half_size[:, None] * jnp.eye(2), jnp.repeat(half - 0.5, 2, 1))
        maps = jnp.where(layers.is_cutout[:, None, None, None], compose(to_texels, from_pixels)[:, None], maps)
    return projected, jnp.concatenate([background_map[None], maps.reshape(-1, 2, 3)])


def background_view(background: Array, config: ClipConfig) -> Array:
    """Texels of a scene's synthetic background per unit along x and y, and its texel (x, y) in the middle: [4]."""
    size = config.texture_size
    scale = 2 * size / max(config.extent) * background[0]
    return jnp.concatenate([jnp.full(2, scale), 2 * size * background[1:]])


def project_bends(scene: Scene, time: Array) -> Array | None:
    """How textures are bent at a time, by owner: [1 + NUM_PARTS * L, 3], see `rendering.unbend`."""
    if scene.layers is None:
        return None
    bends = jnp.repeat(scene.layers.bend.at(time * scene.layers.tempo[0]), NUM_PARTS, 0)
    return jnp.concatenate([jnp.zeros((1, 3)), bends])


def frame_effects(scene: Scene, frame: Array) -> FrameEffects:
    """Light, shadows, blur and noise of one frame."""
    light, time = scene.light, frame.astype(jnp.float32)
    time = time if scene.layers is None else time * scene.layers.tempo.max()
    gain = light.tint * (1 + light.flicker.at(time))
    sigma = light.focus * (1 + light.blur.at(time))
    weights = jnp.exp(-0.5 * (jnp.arange(-BLUR, BLUR + 1) / sigma) ** 2)
    return FrameEffects(
        light=gain[:, None] * jnp.concatenate([jnp.ones(1), light.gradient.at(time)]),
        shadow=light.shadow,
        blur=weights / weights.sum(),
        shift=scene.noise_shifts[frame],
        noise=light.noise,
    )
