"""Simulated users, who prompt objects with known masks and correct predictions by clicks, as in SAM 2's training.

    plan = make_plan(key, masks, user)                   # masks [T, O, H, W]: first prompts, and frames to correct
    click = correction(key, truth, logits > 0, user)     # a click that corrects a mask [H, W]
    points, labels = add_click(points, labels, click)

All functions are pure JAX with fixed shapes, and work under `jit` and `vmap`. Points are (x, y) in pixels.
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
    """How a simulated user prompts. The defaults are those of SAM 2's training.

    Attributes:
        points: The share of objects prompted by points or boxes; the others are prompted by masks.
        boxes: The share of boxes among these.
        first_frames: The largest number of prompted frames of an object.
        corrected_frames: The largest number of corrected frames, which include the prompted ones.
        corrections: Clicks on each corrected frame.
        from_truth: The share of corrections that are clicks on the object, whatever the prediction.
        aim: Where in a region to click: at a random pixel, or farthest from the border.
        least_pixels: How many pixels of an object a frame must show to be prompted, unless no frame shows as many.
        box_noise: The largest error of each side of a box, as a share of the box's size.
        box_noise_limit: The largest error of each side of a box, in pixels.
    """

    points: float = 0.5
    boxes: float = 0.5
    first_frames: int = 2
    corrected_frames: int = 2
    corrections: int = 7
    from_truth: float = 0.1
    aim: Aim = "uniform"
    least_pixels: int = 1
    box_noise: float = 0.1
    box_noise_limit: float = 20.0

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
    def capacity(self) -> int:
        """The padded number of points: a box, all corrections, and the point that ends the list."""
        return bucket(2 + self.corrections + 1)


class Click(NamedTuple):
    point: Array  # [2] (x, y)
    label: Array  # [] int32, see Label; ABSENT if there is no pixel to click on


class Plan(NamedTuple):
    """What a user does for O objects in T frames."""

    prompts: Prompts  # O objects on up to K frames, K = first_frames; none is valid for objects that no frame shows
    corrected: Array  # [T, O] bool: frames on which predictions are corrected


def make_plan(key: Array, masks: Bool[Array, "t o h w"], user: User = User()) -> Plan:
    """Draws the prompts of each object, and the frames that are corrected.

    An object is prompted on the first frame that shows it, and on other such frames at random. In a clip of one frame,
    objects are not prompted by masks, which would leave nothing to predict. Masks or points, and boxes or clicks, are
    drawn for each object; SAM 2 draws the former for each batch, and the latter for each frame.

    Args:
        key: A random key.
        masks: [T, O, H, W] the true masks.
        user: How prompts are drawn.
    """
    length, count = masks.shape[:2]
    if length == 1:
        user = dataclasses.replace(user, points=1.0)

    def plan_object(numbers: Array, masks: Array) -> tuple[Prompts, Array]:
        stream = UniformStream(numbers)
        is_mask = ~stream.bernoulli(user.points)
        area = masks.sum((-2, -1))
        shown = (area > 0) & (area >= jnp.minimum(user.least_pixels, area.max()))
        frames, valid, corrected = _choose_frames(stream, shown, user)
        chosen = masks[frames]
        points, labels = jax.vmap(lambda u, mask: _first_points(UniformStream(u), mask, user))(
            stream(len(frames), 6), chosen
        )
        by_points = valid & ~is_mask
        prompts = Prompts(
            obj_ids=jnp.zeros((), jnp.int32),
            frames=frames,
            valid=valid,
            points=jnp.where(by_points[:, None, None], points, 0),
            labels=jnp.where(by_points[:, None], labels, Label.ABSENT),
            masks=chosen & (valid & is_mask)[:, None, None] if user.points < 1 else chosen[:, :0, :0],
            is_mask=valid & is_mask,
        )
        return prompts, corrected & ~is_mask

    numbers = jax.random.uniform(key, (count, 3 + 2 * length + 6 * user.first_frames))
    prompts, corrected = jax.vmap(plan_object)(numbers, jnp.moveaxis(masks, 1, 0))
    return Plan(prompts._replace(obj_ids=jnp.arange(count, dtype=jnp.int32)), corrected.T)


def _choose_frames(stream: UniformStream, shown: Array, user: User) -> tuple[Array, Array, Array]:
    """Prompted frames [K] and which of them are valid [K]; which frames of all are corrected [T]."""
    length, max_frames = len(shown), user.first_frames
    index = jnp.arange(length)
    # The first frame that shows the object, then other such frames in random order, then the rest.
    order = jnp.where(shown, stream(length), 2).at[jnp.argmax(shown)].set(-1)
    ranked = jnp.argsort(order)
    count = jnp.minimum(stream.integer(1, max_frames), shown.sum())
    prompted = jnp.zeros(length, bool).at[ranked].set(index < count)
    valid = jnp.arange(max_frames) < count
    frames = jnp.where(valid, jnp.pad(ranked, (0, max(0, max_frames - length)))[:max_frames], 0)
    # The prompted frames are corrected first, then any others.
    others = jnp.where(prompted, -1, stream(length))
    corrected = (
        jnp.zeros(length, bool).at[jnp.argsort(others)].set(index < stream.integer(count, user.corrected_frames))
    )
    return frames, valid, corrected & shown.any()


def _first_points(stream: UniformStream, mask: Array, user: User) -> tuple[Array, Array]:
    """Points [P, 2] and labels [P] of a first prompt, a click or a box. Uses 6 numbers."""
    is_box = stream.bernoulli(user.boxes)
    click, corners = _click_on(stream(), mask, user.aim), _box_with_errors(stream(2, 2, low=-1), mask, user)
    first = jnp.where(is_box, corners, jnp.stack([click.point, jnp.zeros(2)]))
    boxed = jnp.array([Label.BOX_START, Label.BOX_END, Label.NOT_A_POINT])
    clicked = jnp.stack([click.label, Label.NOT_A_POINT, Label.ABSENT])
    points = jnp.zeros((user.capacity, 2)).at[:2].set(first)
    labels = jnp.full(user.capacity, Label.ABSENT, jnp.int32).at[:3].set(jnp.where(is_box, boxed, clicked))
    return points, labels


def noisy_box(key: Array, mask: Bool[Array, "h w"], user: User = User()) -> Float[Array, "2 2"]:
    """The corners (x, y) of the box around a mask [H, W], with random errors: [2, 2]."""
    return _box_with_errors(jax.random.uniform(key, (2, 2), minval=-1), mask, user)


def _box_with_errors(errors: Array, mask: Array, user: User) -> Array:
    box = boxes_around(mask).astype(jnp.float32).reshape(2, 2)
    box = box + errors * jnp.minimum(user.box_noise * (box[1:] - box[:1]), user.box_noise_limit)
    return jnp.clip(box, 0, jnp.array([[mask.shape[1] - 1, mask.shape[0] - 1]], jnp.float32))


def correction(
    key: Array,
    truth: Bool[Array, "h w"],
    predicted: Bool[Array, "h w"],
    user: User = User(),
) -> Click:
    """A click that corrects a mask: positive where the mask misses the object, negative where it exceeds it.

    If the mask is right, the click is negative and off the object. A share of clicks ignores the mask.

    Args:
        key: A random key.
        truth: [H, W] the true mask.
        predicted: [H, W] the mask to correct.
        user: How clicks are drawn.
    """
    ignore, number = jax.random.uniform(key, (2,))
    predicted = predicted & (ignore >= user.from_truth)
    missing, excess = truth & ~predicted, predicted & ~truth
    excess = jnp.where((truth == predicted).all(), ~truth, excess)
    if user.aim == "uniform":
        click = _click_on(number, missing | excess, user.aim)
        x, y = click.point.astype(jnp.int32)
        positive = jnp.asarray(truth)[y, x]
    else:
        distances = jnp.stack([border_distance(excess), border_distance(missing)])
        positive = distances[1].max() > distances[0].max()
        click = _farthest(distances[positive.astype(jnp.int32)])
    label = jnp.where(click.label == Label.ABSENT, Label.ABSENT, positive.astype(jnp.int32))
    return Click(click.point, label)


def click_on(key: Array, region: Bool[Array, "h w"], aim: Aim = "uniform") -> Click:
    """A positive click in a region [H, W]; its label is ABSENT if the region is empty."""
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


def _farthest(distance: Array) -> Click:
    y, x = jnp.divmod(jnp.argmax(distance), distance.shape[1])
    return _click(x, y, distance.max() > 0)


def _click(x: Array, y: Array, exists: Array) -> Click:
    point = jnp.where(exists, jnp.stack([x, y]), 0).astype(jnp.float32)
    return Click(point, jnp.where(exists, Label.POSITIVE, Label.ABSENT).astype(jnp.int32))


def border_distance(region: Bool[Array, "h w"]) -> Int[Array, "h w"]:
    """The squared distance of each pixel to the nearest one outside of the region, or outside of the frame.

    It is exact: distances along columns come first, then the minimum over columns at growing horizontal distance.
    """
    height, width = region.shape
    row, column = jnp.arange(height)[:, None], jnp.arange(width)[None]
    above = lax.cummax(jnp.where(region, -1, row), axis=0)
    below = lax.cummin(jnp.where(region, height, row), axis=0, reverse=True)
    vertical = jnp.minimum(row - above, below - row) ** 2
    horizontal = jnp.minimum(column + 1, width - column) ** 2
    far = (height + width) ** 2
    padded = jnp.pad(vertical, ((0, 0), (width, width)), constant_values=far)

    def update(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        offset, best = carry
        sides = [lax.dynamic_slice_in_dim(padded, width + side * offset, width, 1) for side in (-1, 1)]
        return offset + 1, jnp.minimum(best, jnp.minimum(*sides) + offset**2)

    def can_improve(carry: tuple[Array, Array]) -> Array:
        offset, best = carry
        return offset**2 < best.max()

    return lax.while_loop(can_improve, update, (jnp.ones((), jnp.int32), jnp.minimum(vertical, horizontal)))[1]


def add_click(
    points: Float[Array, "p 2"], labels: Int[Array, "p"], click: Click
) -> tuple[Float[Array, "p 2"], Int[Array, "p"]]:
    """Appends a click to a list of points that ends with NOT_A_POINT. A full list is returned unchanged."""
    end = jnp.argmax(labels == Label.NOT_A_POINT)
    fits = (click.label != Label.ABSENT) & (end + 1 < len(labels)) & (labels[end] == Label.NOT_A_POINT)
    appended = points.at[end].set(click.point), labels.at[end].set(click.label).at[end + 1].set(Label.NOT_A_POINT)
    return jnp.where(fits, appended[0], points), jnp.where(fits, appended[1], labels)
