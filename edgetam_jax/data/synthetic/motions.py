"""How things and the camera move: sums of waves, paths out of the frame and back, paths in front of a target.

Scene coordinates: the unit is the frame's shorter side, the origin the middle of the frame, y points down, and time is
in frames. Maps are affine, [..., 2, 3].
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from edgetam_jax.data.synthetic.config import ClipConfig
from edgetam_jax.data.synthetic.outlines import TWO_PI, ShapeKind
from edgetam_jax.data.uniform_stream import UniformStream


class Wave(NamedTuple):
    """amplitude * sin(rate * time + phase)"""

    amplitude: Array  # [...]
    rate: Array  # [...]
    phase: Array  # [...]

    def at(self, time: Array) -> Array:
        return self.amplitude * jnp.sin(self.rate * time + self.phase)


class Motion(NamedTuple):
    """The motion of a thing."""

    start_position: Array  # [2]
    velocity: Array  # [2] per frame
    position_waves: Wave  # [2, 2]: two waves for x and for y
    angle: Array  # [2] at time 0, and its change per frame
    angle_wave: Wave  # [] added to the angle
    radius: Array  # []
    scale_wave: Wave  # [] the logarithm of a factor of the radius
    aspect: Array  # []
    yaw_wave: Wave  # [] the angle by which it is rotated out of the image plane
    exit_path: Array  # [5] start, frames of the way out or back, frames outside, x, y


class Camera(NamedTuple):
    """The motion of the camera."""

    pan: Wave  # [2, 3]: a slow wave and two of shaking, for x and for y
    zoom: Wave  # [] the logarithm of the magnification
    roll: Wave  # []
    drift: Array  # [2] of the background, per frame


def sample_wave(
    stream: UniformStream, amplitude: float | Array, periods: tuple[float, float], pace: float, *shape: int
) -> Wave:
    return Wave(
        amplitude * stream(*shape, low=-1),
        pace * TWO_PI / stream(*shape, low=periods[0], high=periods[1]),
        stream(*shape, high=TWO_PI),
    )


def sample_motion(stream: UniformStream, config: ClipConfig) -> Motion:
    """Uses 27 numbers of the stream."""
    pace, (smallest, largest) = config.pace, np.log(config.radius)
    slow, fast = (sample_wave(stream, size, periods, pace, 2) for size, periods in ((0.24, (24, 80)), (0.05, (10, 30))))
    return Motion(
        start_position=stream(2, low=-0.375, high=0.375) * np.array(config.extent),
        velocity=jnp.zeros(2),
        position_waves=Wave(*(jnp.stack(pair, -1) for pair in zip(slow, fast, strict=True))),
        angle=jnp.stack([stream(high=TWO_PI), pace * 0.15 * stream(low=-1) ** 3]),
        angle_wave=sample_wave(stream, 0.35, (16, 50), pace),
        radius=jnp.exp(stream(low=smallest, high=largest)),
        scale_wave=sample_wave(stream, 0.3, (30, 90), pace),
        aspect=jnp.exp(stream(low=-0.35, high=0.35)),
        yaw_wave=sample_wave(stream, 0.9, (25, 70), pace),
        exit_path=jnp.array([0.0, 1, 0, 0, 0]),
    )


def sample_camera(stream: UniformStream, config: ClipConfig) -> Camera:
    """Uses 28 numbers of the stream."""
    pace = config.pace
    shaking = jnp.where(stream.bernoulli(0.5), 0.012 * stream(), 0)
    heading, speed = stream(2)
    waves = [
        sample_wave(stream, size, periods, pace, 2)
        for size, periods in ((0.1, (40, 90)), (shaking, (4, 8)), (shaking, (2, 4)))
    ]
    return Camera(
        pan=Wave(*(jnp.stack(three, -1) for three in zip(*waves, strict=True))),
        zoom=sample_wave(stream, 0.16, (40, 100), pace),
        roll=sample_wave(stream, 0.1, (40, 100), pace),
        drift=pace * 0.014 * speed**2 * _unit_vector(TWO_PI * heading),
    )


def position(motion: Motion, time: Array) -> Array:
    """The position of a thing: [2]."""
    start, travel, outside, x, y = motion.exit_path
    out = _smoothstep((time - start) / travel) - _smoothstep((time - start - travel - outside) / travel)
    return (
        motion.start_position
        + motion.velocity * time
        + motion.position_waves.at(time).sum(-1)
        + out * jnp.stack([x, y])
    )


def add_exit(stream: UniformStream, motion: Motion, reach: Array, config: ClipConfig) -> Motion:
    """Lets some things leave the frame across the nearest side, after the first frame; most return before the end.

    `reach` is the distance of the outline's farthest vertex at a radius of 1. Uses 4 numbers of the stream.
    """
    leaves = stream.bernoulli(config.leaving)
    travel = jnp.clip(config.frames * stream(low=0.15, high=0.3), 3, 14)
    outside = jnp.clip(config.frames * stream(low=0.05, high=0.35), 1, 24)
    start = 1 + stream() * jnp.maximum(config.frames - 2 - 1.6 * travel - outside, 0)
    start_at = position(motion, start)
    distance = np.array(config.extent) / 2 - jnp.abs(start_at) + 1.2 * reach * motion.radius + 0.1
    nearest = jnp.arange(2) == jnp.argmin(distance)
    target = jnp.where(nearest, jnp.where(start_at < 0, -distance, distance), 0)
    exit_path = jnp.concatenate([jnp.stack([start, travel, outside]), target])
    return motion._replace(exit_path=jnp.where(leaves, exit_path, motion.exit_path))


def occlude_target(stream: UniformStream, motion: Motion, target: Motion, kind: Array, config: ClipConfig) -> Motion:
    """The motion of an occluder that meets a target, either moving across its path or standing on it.

    Uses 5 numbers of the stream.
    """
    time = config.frames * stream(low=0.25, high=0.75)
    radius = target.radius * stream(low=1.2, high=2.2)
    frames = jnp.clip(config.frames * stream(low=0.14, high=0.36), 3, 10)
    speed = jnp.where(stream.bernoulli(0.3), 0, config.pace * (radius + target.radius) / frames)
    velocity = speed * _unit_vector(stream(high=TWO_PI))
    fence = kind == ShapeKind.FENCE
    return motion._replace(
        start_position=position(target, time) - velocity * time,
        velocity=velocity,
        position_waves=_scaled(motion.position_waves, 0.1),
        angle=motion.angle * jnp.stack([1, jnp.where(fence, 0.1, 1)]),
        radius=radius,
        scale_wave=_scaled(motion.scale_wave, 0.2),
        aspect=jnp.where(fence, 1, motion.aspect),
        yaw_wave=_scaled(motion.yaw_wave, 0.3),
    )


def outline_to_world(motion: Motion, time: Array) -> Array:
    """The map from an outline's own coordinates to scene coordinates."""
    angle = motion.angle[0] + motion.angle[1] * time + motion.angle_wave.at(time)
    radius = motion.radius * jnp.exp(motion.scale_wave.at(time))
    axes = jnp.stack([motion.aspect * jnp.cos(motion.yaw_wave.at(time)), 1 / motion.aspect])
    return affine(radius * rotation(angle) * axes, position(motion, time))


def world_to_pixels(camera: Camera, time: Array, config: ClipConfig) -> tuple[Array, Array]:
    """Maps from scene coordinates to pixels: that of things, and that of the background, which drifts."""
    middle = np.array([config.width - 1, config.height - 1]) / 2
    matrix = config.side * jnp.exp(camera.zoom.at(time)) * rotation(camera.roll.at(time))
    pan = camera.pan.at(time).sum(-1)
    far = pan + camera.drift * (time - config.frames / 2)
    return affine(matrix, matrix @ pan + middle), affine(matrix, matrix @ far + middle)


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


def _scaled(wave: Wave, share: float) -> Wave:
    return wave._replace(amplitude=share * wave.amplitude)


def _unit_vector(angle: Array) -> Array:
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)


def _smoothstep(x: Array) -> Array:
    x = jnp.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
