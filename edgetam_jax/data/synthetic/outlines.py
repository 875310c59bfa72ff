"""Outlines of things, as polygons that deform: blobs, straight polygons, rings, bodies with limbs, chains, clusters.

An outline of any kind has 48 vertices: in one contour, in two of which the second is a hole (RING), or in four parts
that may overlap (LIMBS and the following kinds).
"""

import enum
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from edgetam_jax.data.uniform_stream import UniformStream

NUM_PARTS, PART_VERTICES = 4, 12
VERTICES = NUM_PARTS * PART_VERTICES
TWO_PI = 2 * np.pi
HARMONICS = np.arange(2, 6)
CORNERS = (3, 4, 6, 8)  # how many a polygon can have; all divide VERTICES


class ShapeKind(enum.IntEnum):
    BLOB = 0
    POLYGON = 1
    RING = 2
    LIMBS = 3
    CHAIN = 4
    CLUSTER = 5
    FENCE = 6


class Outline(NamedTuple):
    """The shape of a thing, at rest about as large as the unit disk, and how it deforms."""

    kind: Array  # [] int32
    waves: Array  # [4, 3] of the radius, for HARMONICS: amplitude, phase, speed
    corners: Array  # [8, 3] angle's shift, radius, phase
    corner_count: Array  # [] int32
    hole: Array  # [3] size, x, y
    parts: Array  # [4, 2] length and width
    joints: Array  # [4, 4] direction from the body, angle at rest, amplitude and phase of the swing
    bend: Array  # [2] amplitude, phase
    speed: Array  # [] of all oscillations, radians per frame
    scale: Array  # []


class Pose(NamedTuple):
    """An outline at one time."""

    vertices: Array  # [48, 2]
    angles: Array  # [4] the rotation of each part
    pivots: Array  # [4, 2] the point about which each part rotates


def sample_outline(stream: UniformStream, kind: Array) -> Outline:
    """Uses 65 numbers of the stream."""
    waves = jnp.stack([stream(4, high=0.5) / HARMONICS, stream(4, high=TWO_PI), stream(4, low=-0.2, high=0.2)], -1)
    corners = jnp.stack([stream(8, low=-0.28, high=0.28), stream(8, low=0.7, high=1.2), stream(8, high=TWO_PI)], -1)
    count = stream.choice(CORNERS)
    star = stream.bernoulli(0.4) & (count >= 6)
    parts, joints = _sample_parts(stream, kind)
    outline = Outline(
        kind=kind,
        waves=waves,
        corners=corners.at[1::2, 1].multiply(jnp.where(star, 0.5, 1.0)),
        corner_count=count,
        hole=jnp.concatenate([stream(1, low=0.45, high=0.65), stream(2, low=-0.2, high=0.2)]),
        parts=parts,
        joints=joints,
        bend=jnp.where(kind == ShapeKind.FENCE, 0, stream(2, high=np.array([0.3, TWO_PI]))),
        speed=TWO_PI / stream(low=14, high=40),
        scale=jnp.ones(()),
    )
    start, end = edges(kind, pose(outline, jnp.zeros(())).vertices)
    area = (start[:, 0] * end[:, 1] - start[:, 1] * end[:, 0]).sum() / 2
    overlap = jnp.where(kind == ShapeKind.CLUSTER, 0.65, 0.9)
    return outline._replace(scale=1 / jnp.sqrt(overlap * area / np.pi))


def _sample_parts(stream: UniformStream, kind: Array) -> tuple[Array, Array]:
    """Lengths and widths [4, 2] and joints [4, 4] of the kinds that have parts."""
    share, thick = stream(NUM_PARTS, 2), stream()  # all limbs of a body are equally thick
    first = jnp.arange(NUM_PARTS) == 0

    def sizes(low: tuple[float, float], high: tuple[float, float]) -> Array:
        return share * (np.array(high) - np.array(low)) + np.array(low)

    limbs = jnp.where(first[:, None], sizes((1.5, 0.9), (2.0, 1.6)), sizes((0.9, 0.0), (1.5, 0.0)))
    limbs = limbs.at[1:, 1].set(0.3 + 0.3 * thick)
    chain = jnp.stack([sizes((0.8, 0), (1.2, 0))[:, 0], (0.5 + 0.4 * thick) * (1 - 0.15 * jnp.arange(NUM_PARTS))], -1)
    cluster = sizes((1.0, 0.8), (1.6, 1.3))
    fence = jnp.stack([jnp.full(NUM_PARTS, 9.0), jnp.full(NUM_PARTS, 0.25 + 0.45 * thick)], -1)
    index = jnp.clip(kind - ShapeKind.LIMBS, 0, 3)
    place = TWO_PI * (jnp.arange(NUM_PARTS) + 0.7 * stream(NUM_PARTS)) / (NUM_PARTS - (kind == ShapeKind.LIMBS))
    rest = stream(NUM_PARTS, low=-1) * jnp.array([0.5, 0.7, np.pi, 0])[index]
    swing = jnp.where(first, 0, jnp.array([0.6, 0.45, 0.3, 0])[index])
    joints = jnp.stack([place, rest, swing, stream(NUM_PARTS, high=TWO_PI)], -1)
    return jnp.stack([limbs, chain, cluster, fence])[index], joints


def pose(outline: Outline, time: Array, swing_scale: float = 1.0) -> Pose:
    """The outline at a time, in frames; with `swing_scale` 0 its parts are at rest."""
    angles, pivots, parts = _parts(outline, time, swing_scale)
    kind = outline.kind
    points = jnp.where(kind == ShapeKind.BLOB, _blob(outline, time, VERTICES), parts)
    points = jnp.where(kind == ShapeKind.POLYGON, _polygon(outline, time), points)
    points = jnp.where(kind == ShapeKind.RING, _ring(outline, time), points)
    amount, phase = outline.bend
    x, y = points[:, 0], points[:, 1]
    bent = x + amount * jnp.sin(outline.speed * time + phase) * (y * y - 0.3)
    return Pose(outline.scale * jnp.stack([bent, y], -1), angles, outline.scale * pivots)


def edges(kind: Array, vertices: Array) -> tuple[Array, Array]:
    """The first and the last vertex of each edge: two of [48, 2]."""
    index = np.arange(VERTICES)
    contours = PART_VERTICES, VERTICES // 2, VERTICES  # vertices of one contour, of each row of `following`
    following = np.stack([index // size * size + (index + 1) % size for size in contours])
    row = jnp.array([2, 2, 1, 0, 0, 0, 0])[kind]
    return vertices, vertices[jnp.asarray(following)[row]]


def _unit_vector(angle: Array | np.ndarray) -> Array:
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)


def _blob(outline: Outline, time: Array, count: int) -> Array:
    angle = TWO_PI * np.arange(count) / count
    amplitude, phase, speed = outline.waves.T
    radius = 1 + (amplitude * jnp.cos(HARMONICS * angle[:, None] + phase + speed * time)).sum(-1)
    return radius[:, None] * _unit_vector(angle)


def _polygon(outline: Outline, time: Array) -> Array:
    count = outline.corner_count
    shift, radius, phase = outline.corners.T
    radius = radius * (1 + 0.12 * jnp.sin(outline.speed * time + phase))
    corners = radius[:, None] * _unit_vector(TWO_PI * (jnp.arange(8) + shift) / count)
    step = jnp.arange(VERTICES) * count
    corner, share = step // VERTICES, (step % VERTICES / VERTICES)[:, None]
    return (1 - share) * corners[corner] + share * corners[(corner + 1) % count]


def _ring(outline: Outline, time: Array) -> Array:
    outer = _blob(outline, time, VERTICES // 2)
    angle = TWO_PI * jnp.arange(VERTICES // 2) / (VERTICES // 2)
    return jnp.concatenate([outer, outline.hole[0] * _unit_vector(-angle) + outline.hole[1:]])


def _parts(outline: Outline, time: Array, swing_scale: float) -> tuple[Array, Array, Array]:
    """Angles [4], pivots [4, 2] and vertices [48, 2] of the kinds that have parts."""
    place, rest, swing, phase = outline.joints.T
    length = outline.parts[:, 0]
    angle = rest + swing_scale * swing * jnp.sin(outline.speed * time + phase)
    # Each part of a chain is attached to the one before, and rotates with it.
    chained = jnp.cumsum(angle)
    links = 0.85 * length[:, None] * _unit_vector(chained)
    chain = jnp.concatenate([jnp.zeros((1, 2)), jnp.cumsum(links, 0)[:-1]])
    chain = chain - (chain + links / 2).mean(0)
    body = outline.parts[0] / 2 * 0.8 * _unit_vector(place)
    limbs = body.at[0].set(0)
    cluster = 0.55 * _unit_vector(place + 0.2 * swing_scale * jnp.sin(outline.speed * time))
    fence = jnp.stack([1.1 * (jnp.arange(NUM_PARTS) - 1.5), jnp.zeros(NUM_PARTS)], -1)
    index = jnp.clip(outline.kind - ShapeKind.LIMBS, 0, 3)
    outward = (place + angle).at[0].set(0)
    angles = jnp.stack([outward, chained, angle, jnp.full(NUM_PARTS, np.pi / 2)])[index]
    pivots = jnp.stack([limbs, chain, cluster, fence])[index]
    all_parts, no_parts = jnp.ones(NUM_PARTS, bool), jnp.zeros(NUM_PARTS, bool)
    attached_at_end = jnp.stack([jnp.arange(NUM_PARTS) > 0, all_parts, no_parts, no_parts])
    forward = jnp.where(attached_at_end[index], 0.42 * length, 0)
    around = TWO_PI * np.arange(PART_VERTICES) / PART_VERTICES
    circle = np.stack([np.cos(around), np.sin(around)], -1)
    power = jnp.where(outline.kind == ShapeKind.FENCE, 0.2, 0.75)  # the smaller, the more like a box
    shape = jnp.sign(circle) * jnp.abs(circle) ** power
    points = shape * outline.parts[:, None] / 2 + jnp.stack([forward, jnp.zeros(NUM_PARTS)], -1)[:, None]
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    turned = jnp.stack([cos * points[..., 0] - sin * points[..., 1], sin * points[..., 0] + cos * points[..., 1]], -1)
    return angles, pivots, (turned + pivots[:, None]).reshape(VERTICES, 2)
