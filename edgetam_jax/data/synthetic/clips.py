"""Synthetic clips: things of random shapes and textures that move, occlude each other, leave and return.

    clip = make_clip(jax.random.key(0), ClipConfig(frames=24))
    clips = jax.vmap(lambda key: make_clip(key, config))(jax.random.split(key, 8))

A clip is made from a random key, on the device that trains, so that there are any number of clips and none is stored.
Masks are exact for every pixel. The blur of lens and motion spreads colours over their borders, as in a photograph.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from edgetam_jax.data.bank import TextureBank
from edgetam_jax.data.synthetic.config import ClipConfig
from edgetam_jax.data.synthetic.layers import add_layers
from edgetam_jax.data.synthetic.outlines import NUM_PARTS
from edgetam_jax.data.synthetic.rendering import (
    Cutouts,
    EdgeList,
    FrameEffects,
    PixelOwners,
    apply_blur_and_noise,
    apply_light,
    find_owners,
    sample_colors,
)
from edgetam_jax.data.synthetic.scenes import Scene, frame_effects, project_bends, project_scene, sample_scene
from edgetam_jax.ops.boxes import boxes_around
from edgetam_jax.ops.tree import map_or_vmap, platform_of, resolve_vectorize

LAYERS = 1  # folded into a clip's key for what comes from a bank
SHADOW_REACH = 0.035  # how far shadows reach, as a share of the frame's shorter side


class SyntheticClip(NamedTuple):
    """Frames and their true masks."""

    frames: UInt8[Array, "t h w 3"]
    masks: Bool[Array, "t o h w"]  # the visible pixels of each object
    visible: Bool[Array, "t o"]  # whether the mask has any pixel
    boxes: Int[Array, "t o 4"]  # x0, y0, x1, y1 around the mask; zeros if it is empty
    covered: Float[Array, "t o"]  # the share of an object's pixels in the frame that others occlude; 0 outside of it


def make_clip(
    key: Array, config: ClipConfig, bank: TextureBank | None = None, vectorize: bool | None = None
) -> SyntheticClip:
    """Makes the clip of a random key; with a bank, a share `config.real` of all clips has textures and things of it.

    `vectorize` renders all frames at once; by default not on CPU.
    """
    vectorize = resolve_vectorize(vectorize, platform_of(key))
    scene = sample_scene(key, config)
    if bank is not None:
        scene = add_layers(jax.random.fold_in(key, LAYERS), scene, bank, config)
    return render(scene, config, vectorize)


@partial(jax.jit, static_argnums=(1, 2))
def render(scene: Scene, config: ClipConfig, vectorize: bool = False) -> SyntheticClip:
    """Renders all frames of a scene, and their masks."""
    frames = jnp.arange(config.frames)
    offsets = jnp.arange(config.exposures) - config.exposures // 2
    times = frames[:, None] + offsets / (2 * config.exposures)  # the shutter is open half of the time
    edges, maps = jax.vmap(jax.vmap(lambda time: project_scene(scene, time, config)))(times)
    bends = jax.vmap(jax.vmap(lambda time: project_bends(scene, time)))(times)  # None without layers
    find = map_or_vmap(map_or_vmap(partial(_find_owners, scene, config), vectorize), vectorize)
    pixels = find(edges, maps, bends)  # [T, exposures, ...]
    effects = jax.vmap(lambda frame: frame_effects(scene, frame))(frames)
    reach = max(1, round(SHADOW_REACH * config.side))

    def expose(owners: Array, maps: Array, bends: Array | None, start: Array | None, effects: FrameEffects) -> Array:
        atlas = scene.atlas if start is None else scene.atlas._replace(start=scene.atlas.start.at[0].set(start))
        images = [
            sample_colors(owners[i], maps[i], atlas, None if bends is None else bends[i])
            for i in range(config.exposures)
        ]
        image = sum(images, jnp.zeros(())) / len(images)
        image = apply_light(image, owners[len(images) // 2], effects, reach)
        return apply_blur_and_noise(image, effects, scene.noise_tile)

    starts = None if scene.layers is None else scene.layers.background_start
    images = map_or_vmap(expose, vectorize)(pixels.owner, maps, bends, starts, effects)
    middle = config.exposures // 2
    return _with_masks(images, pixels.owner[:, middle], pixels.unoccluded[:, middle], scene, config)


def _find_owners(scene: Scene, config: ClipConfig, edges: EdgeList, maps: Array, bends: Array | None) -> PixelOwners:
    """Which thing is in front at each pixel, at one time."""
    cutouts = None
    if scene.layers is not None and bends is not None:
        atlas, first = scene.atlas, slice(1, None, NUM_PARTS)
        cutouts = Cutouts(scene.layers.is_cutout, maps[first], bends[first], atlas.start[first], atlas.size[first])
    return find_owners(edges, config.height, config.width, cutouts, scene.atlas.texels)


def _with_masks(images: Array, owner: Array, unoccluded: Array, scene: Scene, config: ClipConfig) -> SyntheticClip:
    """The clip with its masks, from the map of owners and the unoccluded areas of the middle exposure."""
    layer = jnp.argsort(jnp.where(scene.object_indices < 0, config.things, scene.object_indices))[: config.objects]
    masks = (owner[:, None] + (NUM_PARTS - 1)) // NUM_PARTS == 1 + layer[:, None, None].astype(jnp.uint8)
    area, unoccluded = masks.sum((-2, -1)), unoccluded[:, layer]
    covered = 1 - area / jnp.maximum(unoccluded, 1) - (unoccluded == 0)
    return SyntheticClip(images, masks, area > 0, boxes_around(masks), covered)
