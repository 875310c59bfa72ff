"""Synthetic clips: things of random shapes and textures that move, hide each other, leave and come back.

    clip = make_clip(jax.random.key(0), ClipConfig(frames=24))
    clips = jax.vmap(lambda key: make_clip(key, config))(jax.random.split(key, 8))

A key makes a clip, on the device that trains, so there is no end of clips and nothing to store. Masks are what is
drawn, pixel by pixel. The blur of the lens and of motion spreads colours over their borders, as in a photograph.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from edgetam_jax.data.synthetic.config import ClipConfig
from edgetam_jax.data.synthetic.outlines import PARTS
from edgetam_jax.data.synthetic.rendering import Finish, color, develop, find_owners, light_up
from edgetam_jax.data.synthetic.scenes import Scene, draw_lines, finish_of, sample_scene
from edgetam_jax.ops.boxes import boxes_around
from edgetam_jax.ops.tree import map_or_vmap

SHADOW = 0.035  # how far shadows reach, as a share of the frame's shorter side


class Clip(NamedTuple):
    """Frames and the truth about them."""

    frames: UInt8[Array, "t h w 3"]
    masks: Bool[Array, "t o h w"]  # the pixels that are seen of each object
    visible: Bool[Array, "t o"]  # is any?
    boxes: Int[Array, "t o 4"]  # x0, y0, x1, y1 around the mask; zeros if there is none
    covered: Float[Array, "t o"]  # share of an object's pixels in the frame that others hide; 0 outside of the frame


def make_clip(key: Array, config: ClipConfig) -> Clip:
    return film(sample_scene(key, config), config)


@partial(jax.jit, static_argnums=1)
def film(scene: Scene, config: ClipConfig) -> Clip:
    """What the camera sees of a scene."""
    frames = jnp.arange(config.frames)
    shots = jnp.arange(config.exposures) - config.exposures // 2
    times = frames[:, None] + shots / (2 * config.exposures)  # half of the time the shutter is closed
    lines, maps = jax.vmap(jax.vmap(lambda time: draw_lines(scene, time, config)))(times)
    seen = map_or_vmap(map_or_vmap(lambda lines: find_owners(lines, config.height, config.width)))(
        lines
    )  # [T, shots, ...]
    finish = jax.vmap(lambda frame: finish_of(scene, frame))(frames)
    reach = max(1, round(SHADOW * config.side))

    def expose(owners: Array, maps: Array, finish: Finish) -> Array:
        shots = [color(owner, map_, scene.atlas) for owner, map_ in zip(owners, maps, strict=True)]
        picture = sum(shots, jnp.zeros(())) / len(shots)
        return develop(light_up(picture, owners[len(shots) // 2], finish, reach), finish, scene.tile)

    pictures = map_or_vmap(expose)(seen.owner, maps, finish)
    middle = config.exposures // 2
    return _label(pictures, seen.owner[:, middle], seen.whole[:, middle], scene, config)


def _label(pictures: Array, owner: Array, whole: Array, scene: Scene, config: ClipConfig) -> Clip:
    layer = jnp.argsort(jnp.where(scene.numbers < 0, config.things, scene.numbers))[: config.objects]
    masks = (owner[:, None] + (PARTS - 1)) // PARTS == 1 + layer[:, None, None].astype(jnp.uint8)
    area, whole = masks.sum((-2, -1)), whole[:, layer]
    return Clip(pictures, masks, area > 0, boxes_around(masks), 1 - area / jnp.maximum(whole, 1) - (whole == 0))
