"""How things and the camera move: sums of waves, trips out of the frame, ambushes.

The world's unit is the frame's shorter side; its origin is the middle of the frame, y points down, time is in frames.
Maps are affine, [..., 2, 3].
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from edgetam_jax.data.synthetic.config import ClipConfig
from edgetam_jax.data.synthetic.outlines import TURN, Kind
from edgetam_jax.data.uniform_stream import UniformStream


class Wave(NamedTuple):
    """amplitude * sin(rate * time + phase)"""

    amplitude: Array  # [...]
    rate: Array  # [...]
    phase: Array  # [...]

    def at(self, time: Array) -> Array:
        return self.amplitude * jnp.sin(self.rate * time + self.phase)


class Motion(NamedTuple):
    home: Array  # [2]
    velocity: Array  # [2]
    sway: Wave  # [2, 2]: two waves for x and for y
    angle: Array  # [2] at first, and its growth a frame
    wobble: Wave  # [] of the angle
    radius: Array  # []
    breath: Wave  # [] of the radius' logarithm
    aspect: Array  # []
    yaw: Wave  # [] turns it out of the picture's plane
    trip: Array  # [5] start, frames on the way out or back, frames outside, x, y


class Camera(NamedTuple):
    pan: Wave  # [2, 3]: a slow wave and two of shaking, for x and for y
    zoom: Wave  # [] of the magnification's logarithm
    roll: Wave  # []
    drift: Array  # [2] of the background, a frame


def sample_wave(
    draws: UniformStream, amplitude: float | Array, periods: tuple[float, float], pace: float, *shape: int
) -> Wave:
    return Wave(
        amplitude * draws(*shape, low=-1),
        pace * TURN / draws(*shape, low=periods[0], high=periods[1]),
        draws(*shape, high=TURN),
    )


def sample_motion(draws: UniformStream, config: ClipConfig) -> Motion:
    """Takes 27 numbers."""
    pace, (smallest, largest) = config.pace, np.log(config.radius)
    slow, fast = (sample_wave(draws, size, periods, pace, 2) for size, periods in ((0.24, (24, 80)), (0.05, (10, 30))))
    return Motion(
        home=draws(2, low=-0.375, high=0.375) * np.array(config.room),
        velocity=jnp.zeros(2),
        sway=Wave(*(jnp.stack(pair, -1) for pair in zip(slow, fast, strict=True))),
        angle=jnp.stack([draws(high=TURN), pace * 0.15 * draws(low=-1) ** 3]),
        wobble=sample_wave(draws, 0.35, (16, 50), pace),
        radius=jnp.exp(draws(low=smallest, high=largest)),
        breath=sample_wave(draws, 0.3, (30, 90), pace),
        aspect=jnp.exp(draws(low=-0.35, high=0.35)),
        yaw=sample_wave(draws, 0.9, (25, 70), pace),
        trip=jnp.array([0.0, 1, 0, 0, 0]),
    )


def sample_camera(draws: UniformStream, config: ClipConfig) -> Camera:
    """Takes 28 numbers."""
    pace = config.pace
    shaking = jnp.where(draws.chance(0.5), 0.012 * draws(), 0)
    heading, speed = draws(2)
    waves = [
        sample_wave(draws, size, periods, pace, 2)
        for size, periods in ((0.1, (40, 90)), (shaking, (4, 8)), (shaking, (2, 4)))
    ]
    return Camera(
        pan=Wave(*(jnp.stack(three, -1) for three in zip(*waves, strict=True))),
        zoom=sample_wave(draws, 0.16, (40, 100), pace),
        roll=sample_wave(draws, 0.1, (40, 100), pace),
        drift=pace * 0.014 * speed**2 * _unit(TURN * heading),
    )


def position(motion: Motion, time: Array) -> Array:
    """[2] where a thing is."""
    start, way, stay, x, y = motion.trip
    out = _smooth((time - start) / way) - _smooth((time - start - way - stay) / way)
    return motion.home + motion.velocity * time + motion.sway.at(time).sum(-1) + out * jnp.stack([x, y])


def with_trip(draws: UniformStream, motion: Motion, reach: Array, config: ClipConfig) -> Motion:
    """Sends some things out of the frame by the nearest side, after the first frame, and most of them back in time.

    `reach` is how far the outline extends, at a radius of 1. Takes 4 numbers.
    """
    leaves = draws.chance(config.leaving)
    way = jnp.clip(config.frames * draws(low=0.15, high=0.3), 3, 14)
    stay = jnp.clip(config.frames * draws(low=0.05, high=0.35), 1, 24)
    start = 1 + draws() * jnp.maximum(config.frames - 2 - 1.6 * way - stay, 0)
    at = position(motion, start)
    distance = np.array(config.room) / 2 - jnp.abs(at) + 1.2 * reach * motion.radius + 0.1
    nearest = jnp.arange(2) == jnp.argmin(distance)
    target = jnp.where(nearest, jnp.where(at < 0, -distance, distance), 0)
    trip = jnp.concatenate([jnp.stack([start, way, stay]), target])
    return motion._replace(trip=jnp.where(leaves, trip, motion.trip))


def ambush(draws: UniformStream, motion: Motion, target: Motion, kind: Array, config: ClipConfig) -> Motion:
    """The motion of what gets in front of a target on its way, by sweeping across or by standing there.

    Takes 5 numbers.
    """
    time = config.frames * draws(low=0.25, high=0.75)
    radius = target.radius * draws(low=1.2, high=2.2)
    frames = jnp.clip(config.frames * draws(low=0.14, high=0.36), 3, 10)
    speed = jnp.where(draws.chance(0.3), 0, config.pace * (radius + target.radius) / frames)
    velocity = speed * _unit(draws(high=TURN))
    fence = kind == Kind.FENCE
    return motion._replace(
        home=position(target, time) - velocity * time,
        velocity=velocity,
        sway=_weaker(motion.sway, 0.1),
        angle=motion.angle * jnp.stack([1, jnp.where(fence, 0.1, 1)]),
        radius=radius,
        breath=_weaker(motion.breath, 0.2),
        aspect=jnp.where(fence, 1, motion.aspect),
        yaw=_weaker(motion.yaw, 0.3),
    )


def into_world(motion: Motion, time: Array) -> Array:
    """The map of an outline."""
    angle = motion.angle[0] + motion.angle[1] * time + motion.wobble.at(time)
    radius = motion.radius * jnp.exp(motion.breath.at(time))
    wide = jnp.stack([motion.aspect * jnp.cos(motion.yaw.at(time)), 1 / motion.aspect])
    return affine(radius * rotation(angle) * wide, position(motion, time))


def through_camera(camera: Camera, time: Array, config: ClipConfig) -> tuple[Array, Array]:
    """Maps from the world to pixels: of things, and of the background, which drifts."""
    middle = np.array([config.width - 1, config.height - 1]) / 2
    turn = config.side * jnp.exp(camera.zoom.at(time)) * rotation(camera.roll.at(time))
    pan = camera.pan.at(time).sum(-1)
    far = pan + camera.drift * (time - config.frames / 2)
    return affine(turn, turn @ pan + middle), affine(turn, turn @ far + middle)


def rotation(angle: Array) -> Array:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)


def affine(matrix: Array, shift: Array) -> Array:
    return jnp.concatenate([matrix, shift[..., None]], -1)


def compose(after: Array, before: Array) -> Array:
    shift = (after[..., :2] @ before[..., 2:])[..., 0] + after[..., 2]
    return affine(after[..., :2] @ before[..., :2], shift)


def invert(map_: Array) -> Array:
    (a, b, x), (c, d, y) = map_
    inverse = jnp.stack([jnp.stack([d, -b]), jnp.stack([-c, a])]) / (a * d - b * c)
    return affine(inverse, -inverse @ jnp.stack([x, y]))


def _weaker(wave: Wave, share: float) -> Wave:
    return wave._replace(amplitude=share * wave.amplitude)


def _unit(angle: Array) -> Array:
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)


def _smooth(x: Array) -> Array:
    x = jnp.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
