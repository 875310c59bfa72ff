"""Simulated users: who prompt objects they know, look at the answers, and click where these are wrong. SAM 2's recipe.

    plan = make_plan(key, masks, user)                   # masks [T, O, H, W]: the first prompts, and what to correct
    click = correction(key, truth, answer > 0, user)     # one more click, on [H, W]
    points, labels = add_click(points, labels, click)

All is pure JAX of fixed shapes, and works under `jit` and `vmap`. Points are (x, y) of pixels.
"""

import dataclasses
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from edgetam_jax.data.uniform_stream import UniformStream, to_int
from edgetam_jax.errors import ConfigError
from edgetam_jax.ops.boxes import boxes_around
from edgetam_jax.prompts import Prompts, bucket
from edgetam_jax.types import Label

Aim = Literal["uniform", "centre"]


@dataclasses.dataclass(frozen=True)
class User:
    """How a simulated user prompts. The defaults are those of SAM 2's training."""

    points: float = 0.5  # share of objects prompted by points or boxes; the others by masks
    boxes: float = 0.5  # share of boxes among these
    first_frames: int = 2  # up to so many frames of an object are prompted
    corrected_frames: int = 2  # up to so many frames get corrections, the prompted ones among them
    corrections: int = 7  # clicks on each of these
    from_truth: float = 0.1  # share of corrections that are just clicks on the object
    aim: Aim = "uniform"  # where in a region a click goes: anywhere, or farthest from the border
    least_pixels: int = 1  # that an object must show on a frame to be prompted there, unless it never shows as many
    box_noise: float = 0.1  # each side of a box is off by up to this share of its size,
    box_noise_limit: float = 20.0  # and up to so many pixels

    def __post_init__(self) -> None:
        for name in ("points", "boxes", "from_truth", "box_noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a share, 0 to 1.")
        if self.aim not in get_args(Aim):
            raise ConfigError(f"aim is {self.aim!r}; expected one of {get_args(Aim)}.")
        if not 1 <= self.first_frames <= self.corrected_frames:
            raise ConfigError(
                f"first_frames is {self.first_frames} and corrected_frames {self.corrected_frames}; "
                "expected at least 1, and at least as many corrected ones: prompted frames are corrected first."
            )
        if min(self.corrections, self.least_pixels) < 0 or not self.box_noise_limit >= 0:
            raise ConfigError(
                f"corrections is {self.corrections}, least_pixels {self.least_pixels} and box_noise_limit "
                f"{self.box_noise_limit}; expected 0 or more."
            )

    @property
    def room(self) -> int:
        """Places for a box, all corrections, and the token that closes the list."""
        return bucket(2 + self.corrections + 1)


class Click(NamedTuple):
    point: Array  # [2] (x, y)
    label: Array  # [] int32, see Label; ABSENT if there is nothing to click on


class Plan(NamedTuple):
    """What a user is going to do about O objects in T frames."""

    prompts: Prompts  # O objects on up to K frames, K = first_frames; those never seen have no valid one
    corrected: Array  # [T, O] bool: frames on which answers are corrected


def make_plan(key: Array, masks: Bool[Array, "t o h w"], user: User = User()) -> Plan:
    """Draws what each object is prompted by, and on which frames.

    For each object by itself: in SAM 2, mask or points is drawn once a batch, and box or click once a frame.

    The first frame that shows it, and possibly others that do. Of a single frame nobody gives a mask: a model that
    gets it has nothing left to do.
    """
    length, count = masks.shape[:2]
    if length == 1:
        user = dataclasses.replace(user, points=1.0)

    def one(numbers: Array, masks: Array) -> tuple[Prompts, Array]:
        draws = UniformStream(numbers)
        is_mask = ~draws.chance(user.points)
        area = masks.sum((-2, -1))
        shown = (area > 0) & (area >= jnp.minimum(user.least_pixels, area.max()))
        frames, valid, corrected = _choose_frames(draws, shown, user)
        chosen = masks[frames]
        points, labels = jax.vmap(lambda u, mask: _first_points(UniformStream(u), mask, user))(
            draws(len(frames), 6), chosen
        )
        said = valid & ~is_mask
        prompts = Prompts(
            obj_ids=jnp.zeros((), jnp.int32),
            frames=frames,
            valid=valid,
            points=jnp.where(said[:, None, None], points, 0),
            labels=jnp.where(said[:, None], labels, Label.ABSENT),
            masks=chosen & (valid & is_mask)[:, None, None] if user.points < 1 else chosen[:, :0, :0],
            is_mask=valid & is_mask,
        )
        return prompts, corrected & ~is_mask

    numbers = jax.random.uniform(key, (count, 3 + 2 * length + 6 * user.first_frames))
    prompts, corrected = jax.vmap(one)(numbers, jnp.moveaxis(masks, 1, 0))
    return Plan(prompts._replace(obj_ids=jnp.arange(count, dtype=jnp.int32)), corrected.T)


def _choose_frames(draws: UniformStream, shown: Array, user: User) -> tuple[Array, Array, Array]:
    """Prompted frames [K] and which of them are valid [K]; which frames of all are corrected [T]."""
    length, places = len(shown), user.first_frames
    index = jnp.arange(length)
    # The first frame that shows the object, then others that do in random order, then the rest.
    order = jnp.where(shown, draws(length), 2).at[jnp.argmax(shown)].set(-1)
    ranked = jnp.argsort(order)
    count = jnp.minimum(draws.integer(1, places), shown.sum())
    prompted = jnp.zeros(length, bool).at[ranked].set(index < count)
    valid = jnp.arange(places) < count
    frames = jnp.where(valid, jnp.pad(ranked, (0, max(0, places - length)))[:places], 0)
    # Corrections go to the prompted frames and then to any others.
    others = jnp.where(prompted, -1, draws(length))
    corrected = jnp.zeros(length, bool).at[jnp.argsort(others)].set(index < draws.integer(count, user.corrected_frames))
    return frames, valid, corrected & shown.any()


def _first_points(draws: UniformStream, mask: Array, user: User) -> tuple[Array, Array]:
    """Points [P, 2] and labels [P] of a first prompt, a click or a box. Takes 6 numbers."""
    is_box = draws.chance(user.boxes)
    click, corners = _click_on(draws(), mask, user.aim), _box_near(draws(2, 2, low=-1), mask, user)
    first = jnp.where(is_box, corners, jnp.stack([click.point, jnp.zeros(2)]))
    boxed = jnp.array([Label.BOX_START, Label.BOX_END, Label.NOT_A_POINT])
    clicked = jnp.stack([click.label, Label.NOT_A_POINT, Label.ABSENT])
    points = jnp.zeros((user.room, 2)).at[:2].set(first)
    labels = jnp.full(user.room, Label.ABSENT, jnp.int32).at[:3].set(jnp.where(is_box, boxed, clicked))
    return points, labels


def noisy_box(key: Array, mask: Bool[Array, "h w"], user: User = User()) -> Float[Array, "2 2"]:
    """The corners of a box around a mask, off a little."""
    return _box_near(jax.random.uniform(key, (2, 2), minval=-1), mask, user)


def _box_near(off: Array, mask: Array, user: User) -> Array:
    box = boxes_around(mask).astype(jnp.float32).reshape(2, 2)
    box = box + off * jnp.minimum(user.box_noise * (box[1] - box[0]), user.box_noise_limit)
    return jnp.clip(box, 0, jnp.array([mask.shape[1] - 1, mask.shape[0] - 1], jnp.float32))


def correction(
    key: Array,
    truth: Bool[Array, "h w"],
    answer: Bool[Array, "h w"],
    user: User = User(),
) -> Click:
    """The next click on an answer: positive on what it lacks, negative on what it has too much.

    Negative and off the object if it is right everywhere. A share of clicks ignores the answer.
    """
    blind, number = jax.random.uniform(key, (2,))
    answer = answer & (blind >= user.from_truth)
    lacking, surplus = truth & ~answer, answer & ~truth
    surplus = jnp.where((truth == answer).all(), ~truth, surplus)
    if user.aim == "uniform":
        click = _click_on(number, lacking | surplus, user.aim)
        x, y = click.point.astype(jnp.int32)
        positive = jnp.asarray(truth)[y, x]
    else:
        depths = jnp.stack([border_distance(surplus), border_distance(lacking)])
        positive = depths[1].max() > depths[0].max()
        click = _farthest(depths[positive.astype(jnp.int32)])
    label = jnp.where(click.label == Label.ABSENT, Label.ABSENT, positive.astype(jnp.int32))
    return Click(click.point, label)


def click_on(key: Array, region: Bool[Array, "h w"], aim: Aim = "uniform") -> Click:
    """A positive click in a region; ABSENT if it is empty."""
    return _click_on(jax.random.uniform(key), region, aim)


def _click_on(number: Array, region: Array, aim: Aim) -> Click:
    if aim == "centre":
        return _farthest(border_distance(region))
    region = jnp.asarray(region)
    rows = jnp.cumsum(region.sum(-1))
    rank = to_int(number, 0, jnp.maximum(rows[-1] - 1, 0))  # of the chosen pixel among the region's
    y = jnp.argmax(rows > rank)
    x = jnp.argmax(jnp.cumsum(region[y]) > rank - rows[y] + region[y].sum())
    return _click(x, y, rows[-1] > 0)


def _farthest(depth: Array) -> Click:
    y, x = jnp.divmod(jnp.argmax(depth), depth.shape[1])
    return _click(x, y, depth.max() > 0)


def _click(x: Array, y: Array, exists: Array) -> Click:
    point = jnp.where(exists, jnp.stack([x, y]), 0).astype(jnp.float32)
    return Click(point, jnp.where(exists, Label.POSITIVE, Label.ABSENT).astype(jnp.int32))


def border_distance(region: Bool[Array, "h w"]) -> Int[Array, "h w"]:
    """The square of each pixel's distance to the nearest one outside of the region, of which the frame is surrounded.

    Exact: first along columns, then over pairs of columns as far apart as it takes.
    """
    height, width = region.shape
    row, column = jnp.arange(height)[:, None], jnp.arange(width)
    above = lax.cummax(jnp.where(region, -1, row), axis=0)
    below = lax.cummin(jnp.where(region, height, row), axis=0, reverse=True)
    upright = jnp.minimum(row - above, below - row) ** 2
    sideways = jnp.minimum(column + 1, width - column) ** 2
    far = (height + width) ** 2
    padded = jnp.pad(upright, ((0, 0), (width, width)), constant_values=far)

    def nearer(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        apart, best = carry
        sides = [lax.dynamic_slice_in_dim(padded, width + side * apart, width, 1) for side in (-1, 1)]
        return apart + 1, jnp.minimum(best, jnp.minimum(*sides) + apart**2)

    def farther(carry: tuple[Array, Array]) -> Array:
        apart, best = carry
        return apart**2 < best.max()

    return lax.while_loop(farther, nearer, (jnp.ones((), jnp.int32), jnp.minimum(upright, sideways)))[1]


def add_click(
    points: Float[Array, "p 2"], labels: Int[Array, "p"], click: Click
) -> tuple[Float[Array, "p 2"], Int[Array, "p"]]:
    """A list of points that the token NOT_A_POINT closes, longer by a click. One that is full stays as it is."""
    end = jnp.argmax(labels == Label.NOT_A_POINT)
    fits = (click.label != Label.ABSENT) & (end + 1 < len(labels)) & (labels[end] == Label.NOT_A_POINT)
    longer = points.at[end].set(click.point), labels.at[end].set(click.label).at[end + 1].set(Label.NOT_A_POINT)
    return jnp.where(fits, longer[0], points), jnp.where(fits, longer[1], labels)
