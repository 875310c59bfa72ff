"""Outlines of things, as polygons that move: blobs, straight polygons, rings, bodies with limbs, chains, clusters.

An outline has 48 vertices whatever its kind: in one contour, in two of which the second is a hole, or, from LIMBS on,
in four that are parts and may overlap.
"""

import enum
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from edgetam_jax.data.uniform_stream import UniformStream

PARTS, SIDES = 4, 12
VERTICES = PARTS * SIDES
TURN = 2 * np.pi
HARMONICS = np.arange(2, 6)
CORNERS = (3, 4, 6, 8)  # how many a polygon can have; all divide VERTICES


class Kind(enum.IntEnum):
    BLOB = 0
    POLYGON = 1
    RING = 2
    LIMBS = 3
    CHAIN = 4
    CLUSTER = 5
    FENCE = 6


class Outline(NamedTuple):
    """One thing's shape, at rest about as large as the unit disk, and how it deforms."""

    kind: Array  # [] int32
    waves: Array  # [4, 3] of the radius, for HARMONICS: amplitude, phase, speed
    corners: Array  # [8, 3] angle's shift, radius, phase
    corner_count: Array  # [] int32
    hole: Array  # [3] size, x, y
    parts: Array  # [4, 2] length and width
    joints: Array  # [4, 4] where it sits, angle at rest, swing, phase
    bend: Array  # [2] amplitude, phase
    speed: Array  # [] of all that swings, radians a frame
    scale: Array  # []


class Pose(NamedTuple):
    """An outline at one time."""

    vertices: Array  # [48, 2]
    angles: Array  # [4] of each part
    pivots: Array  # [4, 2] what it turns about


def sample_outline(draws: UniformStream, kind: Array) -> Outline:
    """Takes 65 numbers."""
    waves = jnp.stack([draws(4, high=0.5) / HARMONICS, draws(4, high=TURN), draws(4, low=-0.2, high=0.2)], -1)
    corners = jnp.stack([draws(8, low=-0.28, high=0.28), draws(8, low=0.7, high=1.2), draws(8, high=TURN)], -1)
    count = draws.choice(CORNERS)
    star = draws.chance(0.4) & (count >= 6)
    parts, joints = _sample_parts(draws, kind)
    outline = Outline(
        kind=kind,
        waves=waves,
        corners=corners.at[1::2, 1].multiply(jnp.where(star, 0.5, 1.0)),
        corner_count=count,
        hole=jnp.concatenate([draws(1, low=0.45, high=0.65), draws(2, low=-0.2, high=0.2)]),
        parts=parts,
        joints=joints,
        bend=jnp.where(kind == Kind.FENCE, 0, draws(2, high=np.array([0.3, TURN]))),
        speed=TURN / draws(low=14, high=40),
        scale=jnp.ones(()),
    )
    start, end = edges(kind, pose(outline, jnp.zeros(())).vertices)
    area = (start[:, 0] * end[:, 1] - start[:, 1] * end[:, 0]).sum() / 2
    overlap = jnp.where(kind == Kind.CLUSTER, 0.65, 0.9)
    return outline._replace(scale=1 / jnp.sqrt(overlap * area / np.pi))


def _sample_parts(draws: UniformStream, kind: Array) -> tuple[Array, Array]:
    """Lengths and widths [4, 2] and joints [4, 4] of the kinds that have parts."""
    share, thick = draws(PARTS, 2), draws()  # the limbs of one body are alike
    first = jnp.arange(PARTS) == 0

    def sizes(low: tuple[float, float], high: tuple[float, float]) -> Array:
        return share * (np.array(high) - np.array(low)) + np.array(low)

    limbs = jnp.where(first[:, None], sizes((1.5, 0.9), (2.0, 1.6)), sizes((0.9, 0.0), (1.5, 0.0)))
    limbs = limbs.at[1:, 1].set(0.3 + 0.3 * thick)
    chain = jnp.stack([sizes((0.8, 0), (1.2, 0))[:, 0], (0.5 + 0.4 * thick) * (1 - 0.15 * jnp.arange(PARTS))], -1)
    cluster = sizes((1.0, 0.8), (1.6, 1.3))
    fence = jnp.stack([jnp.full(PARTS, 9.0), jnp.full(PARTS, 0.25 + 0.45 * thick)], -1)
    index = jnp.clip(kind - Kind.LIMBS, 0, 3)
    place = TURN * (jnp.arange(PARTS) + 0.7 * draws(PARTS)) / (PARTS - (kind == Kind.LIMBS))
    rest = draws(PARTS, low=-1) * jnp.array([0.5, 0.7, np.pi, 0])[index]
    swing = jnp.where(first, 0, jnp.array([0.6, 0.45, 0.3, 0])[index])
    joints = jnp.stack([place, rest, swing, draws(PARTS, high=TURN)], -1)
    return jnp.stack([limbs, chain, cluster, fence])[index], joints


def pose(outline: Outline, time: Array, moving: float = 1.0) -> Pose:
    """The outline at a time, in frames; with `moving` 0 its parts are at rest."""
    angles, pivots, parts = _parts(outline, time, moving)
    kind = outline.kind
    points = jnp.where(kind == Kind.BLOB, _blob(outline, time, VERTICES), parts)
    points = jnp.where(kind == Kind.POLYGON, _polygon(outline, time), points)
    points = jnp.where(kind == Kind.RING, _ring(outline, time), points)
    amount, phase = outline.bend
    x, y = points[:, 0], points[:, 1]
    bent = x + amount * jnp.sin(outline.speed * time + phase) * (y * y - 0.3)
    return Pose(outline.scale * jnp.stack([bent, y], -1), angles, outline.scale * pivots)


def edges(kind: Array, vertices: Array) -> tuple[Array, Array]:
    """Where the edges [48, 2] begin and end."""
    index = np.arange(VERTICES)
    after = np.stack([index // size * size + (index + 1) % size for size in (SIDES, VERTICES // 2, VERTICES)])
    row = jnp.array([2, 2, 1, 0, 0, 0, 0])[kind]
    return vertices, vertices[jnp.asarray(after)[row]]


def _unit(angle: Array | np.ndarray) -> Array:
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)


def _blob(outline: Outline, time: Array, count: int) -> Array:
    angle = TURN * np.arange(count) / count
    amplitude, phase, speed = outline.waves.T
    radius = 1 + (amplitude * jnp.cos(HARMONICS * angle[:, None] + phase + speed * time)).sum(-1)
    return radius[:, None] * _unit(angle)


def _polygon(outline: Outline, time: Array) -> Array:
    count = outline.corner_count
    shift, radius, phase = outline.corners.T
    radius = radius * (1 + 0.12 * jnp.sin(outline.speed * time + phase))
    corners = radius[:, None] * _unit(TURN * (jnp.arange(8) + shift) / count)
    step = jnp.arange(VERTICES) * count
    corner, share = step // VERTICES, (step % VERTICES / VERTICES)[:, None]
    return (1 - share) * corners[corner] + share * corners[(corner + 1) % count]


def _ring(outline: Outline, time: Array) -> Array:
    outer = _blob(outline, time, VERTICES // 2)
    angle = TURN * jnp.arange(VERTICES // 2) / (VERTICES // 2)
    return jnp.concatenate([outer, outline.hole[0] * _unit(-angle) + outline.hole[1:]])


def _parts(outline: Outline, time: Array, moving: float) -> tuple[Array, Array, Array]:
    """Angles [4], pivots [4, 2] and vertices [48, 2] of the kinds that have parts."""
    place, rest, swing, phase = outline.joints.T
    length = outline.parts[:, 0]
    angle = rest + moving * swing * jnp.sin(outline.speed * time + phase)
    # A chain's parts hang on each other: what turns one turns all after it.
    chained = jnp.cumsum(angle)
    links = 0.85 * length[:, None] * _unit(chained)
    chain = jnp.concatenate([jnp.zeros((1, 2)), jnp.cumsum(links, 0)[:-1]])
    chain = chain - (chain + links / 2).mean(0)
    body = outline.parts[0] / 2 * 0.8 * _unit(place)
    limbs = body.at[0].set(0)
    cluster = 0.55 * _unit(place + 0.2 * moving * jnp.sin(outline.speed * time))
    fence = jnp.stack([1.1 * (jnp.arange(PARTS) - 1.5), jnp.zeros(PARTS)], -1)
    index = jnp.clip(outline.kind - Kind.LIMBS, 0, 3)
    outward = (place + angle).at[0].set(0)
    angles = jnp.stack([outward, chained, angle, jnp.full(PARTS, np.pi / 2)])[index]
    pivots = jnp.stack([limbs, chain, cluster, fence])[index]
    hangs = jnp.stack([jnp.arange(PARTS) > 0, jnp.ones(PARTS, bool), jnp.zeros(PARTS, bool), jnp.zeros(PARTS, bool)])
    forward = jnp.where(hangs[index], 0.42 * length, 0)
    circle = np.stack([np.cos(TURN * np.arange(SIDES) / SIDES), np.sin(TURN * np.arange(SIDES) / SIDES)], -1)
    power = jnp.where(outline.kind == Kind.FENCE, 0.2, 0.75)  # towards a box
    shape = jnp.sign(circle) * jnp.abs(circle) ** power
    points = shape * outline.parts[:, None] / 2 + jnp.stack([forward, jnp.zeros(PARTS)], -1)[:, None]
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    turned = jnp.stack([cos * points[..., 0] - sin * points[..., 1], sin * points[..., 0] + cos * points[..., 1]], -1)
    return angles, pivots, (turned + pivots[:, None]).reshape(VERTICES, 2)
