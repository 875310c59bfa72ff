"""Evaluation on synthetic clips that no training has seen.

Each object is prompted once, by a click farthest from its border, by its box, or by its mask, on the first frame that
shows enough of it (see `least_pixels`); an object that no frame shows enough of is left out. All objects of a clip are
tracked together by `edgetam_jax.track`, as users would, which also tracks an object backward from its prompt. Masks are
the network's logits above 0, at the frame's size. They are compared with two baselines that track the true mask without
a network.

On the prompted frames, a simulated user also clicks several times where the mask is most wrong: see
`protocols.after_clicks`.
"""

import dataclasses
import datetime
import math
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int
from numpy.typing import ArrayLike

from edgetam_jax.data.simulated_user import click_on
from edgetam_jax.data.synthetic import ClipConfig, SyntheticClip, make_clip
from edgetam_jax.errors import ConfigError
from edgetam_jax.evaluation.baselines import SEARCH, match_box, repeat_mask
from edgetam_jax.evaluation.protocols import CLICKS, after_clicks
from edgetam_jax.evaluation.provenance import fingerprint
from edgetam_jax.evaluation.summary import Summary, TrackMetrics, collect, evaluate_track, has_scored_frames
from edgetam_jax.model import Model
from edgetam_jax.ops.boxes import boxes_around
from edgetam_jax.prompts import Prompts
from edgetam_jax.tracking.predictor import VideoPredictor
from edgetam_jax.tracking.scan import track
from edgetam_jax.tracking.state import Tracks
from edgetam_jax.types import Label

# The seed of all held-out clips. Training folds its seed twice into a key, so no recipe draws the same clips.
HELD_OUT = 271_828_182

PromptKind = Literal["click", "box", "mask"]
PROMPT_KINDS: tuple[PromptKind, ...] = get_args(PromptKind)
LABELS: dict[PromptKind, tuple[Label, ...]] = {
    "click": (Label.POSITIVE, Label.NOT_A_POINT, Label.ABSENT, Label.ABSENT),
    "box": (Label.BOX_START, Label.BOX_END, Label.NOT_A_POINT, Label.ABSENT),
    "mask": (Label.NOT_A_POINT, Label.ABSENT, Label.ABSENT, Label.ABSENT),
}
BASELINES = {"held still": repeat_mask, "box's best match": match_box}
TARGETS = {"click": 0.80, "box": 0.88, "mask": 0.88}  # the J&F that the small network should reach
ABSENT_TARGET = 0.90  # the share of frames without an object on which its score should be below 0


class ClipResult(NamedTuple):
    """The objects of one clip."""

    tracked: Mapping[str, list[TrackMetrics]]  # by kind of prompt, and by baseline
    click_ious: list[list[float]]  # [O][CLICKS] on each object's prompted frame


def held_out_clip(number: int, config: ClipConfig) -> SyntheticClip:
    return make_clip(jax.random.fold_in(jax.random.key(HELD_OUT), number), config)


def evaluate_clips(model: Model, config: ClipConfig, count: int) -> Iterator[ClipResult]:
    """Evaluates one clip after the other, with baselines and clicks."""
    predictor = VideoPredictor(model)
    for number in range(count):
        clip = held_out_clip(number, config)
        frames, masks = np.asarray(clip.frames), np.asarray(clip.masks)
        click_ious = [after_clicks(predictor, frames[start], masks[start, o]) for o, start in _prompted_objects(clip)]
        yield ClipResult(track_objects(model, clip) | track_without_network(clip), click_ious)


def evaluate(
    model: Model, clips: Iterable[SyntheticClip], kinds: Sequence[PromptKind] = PROMPT_KINDS
) -> dict[str, Summary]:
    """The metrics for each kind of prompt. Clips of one size share one compiled program."""
    return collect(track_objects(model, clip, kinds) for clip in clips)


def baselines(clips: Iterable[SyntheticClip]) -> dict[str, Summary]:
    """The metrics of tracking without a network."""
    return collect(map(track_without_network, clips))


def mean_click_ious(clips: Iterable[ClipResult]) -> list[float]:
    """The IoU on prompted frames after each click, a mean over objects."""
    ious = [iou for clip in clips for per_click in clip.click_ious for iou in per_click]
    return np.reshape(ious, (-1, CLICKS)).mean(0).tolist()


def track_objects(
    model: Model, clip: SyntheticClip, kinds: Sequence[PromptKind] = PROMPT_KINDS
) -> dict[str, list[TrackMetrics]]:
    """The metrics of a clip's prompted objects, by kind of prompt."""
    unknown = sorted(set(kinds) - set(PROMPT_KINDS))
    if unknown or not kinds:
        raise ConfigError(f"kinds are {list(kinds)}; expected some of {list(PROMPT_KINDS)}.")
    tracks = track(clip.frames, first_prompts(clip.masks, tuple(kinds)), model)
    masks, present, truth = map(np.asarray, (_masks_at(tracks, clip.masks.shape[2:]), tracks.scores > 0, clip.masks))
    prompted = _prompted_objects(clip)
    return {
        kind: [evaluate_track(masks[:, row + o], truth[:, o], start, present[:, row + o]) for o, start in prompted]
        for kind, row in zip(kinds, range(0, masks.shape[1], truth.shape[1]), strict=True)
    }


def track_without_network(clip: SyntheticClip) -> dict[str, list[TrackMetrics]]:
    """The metrics of the same objects, by baseline."""
    frames, truth = np.asarray(clip.frames), np.asarray(clip.masks)
    prompted = _prompted_objects(clip)
    return {
        name: [evaluate_track(method(frames[start:], truth[start, o]), truth[start:, o], 0) for o, start in prompted]
        for name, method in BASELINES.items()
    }


def _prompted_objects(clip: SyntheticClip) -> list[tuple[int, int]]:
    """The objects that are prompted early enough to be scored, and their prompted frames."""
    starts = np.asarray(first_shown(clip.masks)).tolist()
    return [(o, start) for o, start in enumerate(starts) if has_scored_frames(start, len(clip.masks))]


def least_pixels(height: int, width: int) -> int:
    """How many pixels of an object its prompted frame must show: about a thousandth, 64 of 256 x 256."""
    return math.ceil(height * width / 1024)


@jax.jit
def first_shown(masks: Bool[Array, "t o h w"]) -> Int[Array, "o"]:
    """The frame on which each object is prompted; -1 if none shows enough of it."""
    shown = masks.sum((-2, -1)) >= least_pixels(*masks.shape[2:])
    return jnp.where(shown.any(0), jnp.argmax(shown, 0), -1)


@partial(jax.jit, static_argnums=1)
def first_prompts(masks: Bool[Array, "t o h w"], kinds: tuple[PromptKind, ...] = PROMPT_KINDS) -> Prompts:
    """A prompt of each kind for each object: rows [K * O], one kind after the other."""
    count = masks.shape[1]
    first = first_shown(masks)
    first_masks = masks[jnp.maximum(first, 0), jnp.arange(count)]  # [O, H, W]
    clicks = jax.vmap(lambda mask: click_on(jax.random.key(0), mask, "centre").point)(first_masks)
    none = jnp.zeros((count, len(LABELS["mask"]), 2))
    points = {
        "click": none.at[:, 0].set(clicks),
        "box": none.at[:, :2].set(boxes_around(first_masks).reshape(count, 2, 2)),
        "mask": none,
    }
    is_mask = jnp.repeat(jnp.array([kind == "mask" for kind in kinds]), count)
    return Prompts(
        obj_ids=jnp.arange(len(is_mask), dtype=jnp.int32),
        frames=jnp.tile(jnp.maximum(first, 0), len(kinds))[:, None],
        valid=jnp.tile(first >= 0, len(kinds))[:, None],
        points=jnp.concatenate([points[kind] for kind in kinds])[:, None],
        labels=jnp.repeat(jnp.array([LABELS[kind] for kind in kinds], jnp.int32), count, 0)[:, None],
        masks=(jnp.tile(first_masks, (len(kinds), 1, 1)) & is_mask[:, None, None])[:, None],
        is_mask=is_mask[:, None],
    )


def prompt_fields(kind: PromptKind, mask: ArrayLike) -> dict[str, Any]:
    """The fields of a `Prompt` for one object: a click farthest from its border, its box, or its mask [H, W]."""
    if kind == "mask":
        return {"mask": np.asarray(mask)}
    if kind == "box":
        return {"box": np.asarray(boxes_around(jnp.asarray(mask)))}
    return {"points": np.asarray(click_on(jax.random.key(0), jnp.asarray(mask), "centre").point)[None], "labels": [1]}


_masks_at = jax.jit(Tracks.masks, static_argnums=1)


def compare_to_targets(results: Mapping[str, Summary]) -> list[str]:
    """A line for each target: the value that was reached, and the difference."""
    reached = [(f"{kind}: J&F", results[kind].score.jf, target) for kind, target in TARGETS.items()]
    reached += [(f"{kind}: score on absent frames", _absent(results[kind]), ABSENT_TARGET) for kind in TARGETS]
    return [f"{metric} {value:.3f}, target {target:.2f}: {value - target:+.3f}" for metric, value, target in reached]


def _absent(result: Summary) -> float:
    return math.nan if result.absent is None else result.absent.value


def describe(name: str, model: Model, config: ClipConfig, count: int) -> dict[str, Any]:
    """What is needed to repeat an evaluation, for its report."""
    return {
        "date": datetime.date.today().isoformat(),
        "model": name,
        "fingerprint": fingerprint(model),
        "network": model.config.to_dict(),
        "clips": {"seed": HELD_OUT, "count": count, **dataclasses.asdict(config)},
        "least_pixels": least_pixels(config.height, config.width),
        "search": SEARCH,
        "bars": {**TARGETS, "absent": ABSENT_TARGET},
        "versions": {name: version(name) for name in ("edgetam-jax", "jax", "numpy")},
        "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
    }
