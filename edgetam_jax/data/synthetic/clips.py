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

from edgetam_jax.data.synthetic.config import ClipConfig
from edgetam_jax.data.synthetic.outlines import NUM_PARTS
from edgetam_jax.data.synthetic.rendering import (
    FrameEffects,
    apply_blur_and_noise,
    apply_light,
    find_owners,
    sample_colors,
)
from edgetam_jax.data.synthetic.scenes import Scene, frame_effects, project_scene, sample_scene
from edgetam_jax.ops.boxes import boxes_around
from edgetam_jax.ops.tree import map_or_vmap

SHADOW_REACH = 0.035  # how far shadows reach, as a share of the frame's shorter side


class SyntheticClip(NamedTuple):
    """Frames and their true masks."""

    frames: UInt8[Array, "t h w 3"]
    masks: Bool[Array, "t o h w"]  # the visible pixels of each object
    visible: Bool[Array, "t o"]  # whether the mask has any pixel
    boxes: Int[Array, "t o 4"]  # x0, y0, x1, y1 around the mask; zeros if it is empty
    covered: Float[Array, "t o"]  # the share of an object's pixels in the frame that others occlude; 0 outside of it


def make_clip(key: Array, config: ClipConfig) -> SyntheticClip:
    """Makes the clip of a random key."""
    return render(sample_scene(key, config), config)


@partial(jax.jit, static_argnums=1)
def render(scene: Scene, config: ClipConfig) -> SyntheticClip:
    """Renders all frames of a scene, and their masks."""
    frames = jnp.arange(config.frames)
    offsets = jnp.arange(config.exposures) - config.exposures // 2
    times = frames[:, None] + offsets / (2 * config.exposures)  # the shutter is open half of the time
    edges, maps = jax.vmap(jax.vmap(lambda time: project_scene(scene, time, config)))(times)
    find = map_or_vmap(map_or_vmap(lambda edges: find_owners(edges, config.height, config.width)))
    pixels = find(edges)  # [T, exposures, ...]
    effects = jax.vmap(lambda frame: frame_effects(scene, frame))(frames)
    reach = max(1, round(SHADOW_REACH * config.side))

    def expose(owners: Array, maps: Array, effects: FrameEffects) -> Array:
        images = [sample_colors(owner, map_, scene.atlas) for owner, map_ in zip(owners, maps, strict=True)]
        image = sum(images, jnp.zeros(())) / len(images)
        image = apply_light(image, owners[len(images) // 2], effects, reach)
        return apply_blur_and_noise(image, effects, scene.noise_tile)

    images = map_or_vmap(expose)(pixels.owner, maps, effects)
    middle = config.exposures // 2
    return _with_masks(images, pixels.owner[:, middle], pixels.unoccluded[:, middle], scene, config)


def _with_masks(images: Array, owner: Array, unoccluded: Array, scene: Scene, config: ClipConfig) -> SyntheticClip:
    """The clip with its masks, from the map of owners and the unoccluded areas of the middle exposure."""
    layer = jnp.argsort(jnp.where(scene.object_indices < 0, config.things, scene.object_indices))[: config.objects]
    masks = (owner[:, None] + (NUM_PARTS - 1)) // NUM_PARTS == 1 + layer[:, None, None].astype(jnp.uint8)
    area, unoccluded = masks.sum((-2, -1)), unoccluded[:, layer]
    covered = 1 - area / jnp.maximum(unoccluded, 1) - (unoccluded == 0)
    return SyntheticClip(images, masks, area > 0, boxes_around(masks), covered)
