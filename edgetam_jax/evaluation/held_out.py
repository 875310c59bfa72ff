"""How well a network tracks in synthetic clips that it cannot have seen.

    edgetam-jax held-out MODEL --clips 100 --out results.json

Each object is prompted once, by a click farthest from its border, by its box, or by its mask, on the first frame that
shows enough of it (see `least_pixels`); one that never shows as much is left out. All objects of a clip are tracked
together by `edgetam_jax.track`, as users would, so that one that comes late is sought on earlier frames too. Masks are
the network's, cut at 0 at the frame's size. Beside it stand two ways of tracking without a network, from the true mask.

On the prompted frames a user also clicks again where the mask is most wrong: see `protocols.after_clicks`.
"""

import argparse
import dataclasses
import datetime
import math
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from edgetam_jax.checkpoints.api import load
from edgetam_jax.data.simulated_user import click_on
from edgetam_jax.data.synthetic import Clip, ClipConfig, make_clip
from edgetam_jax.errors import ConfigError, EdgeTAMError
from edgetam_jax.evaluation.baselines import SEARCH, follow_box, hold_still
from edgetam_jax.evaluation.protocols import CLICKS, after_clicks
from edgetam_jax.evaluation.provenance import fingerprint, write_report
from edgetam_jax.evaluation.summary import Result, TrackMetrics, collect, counts, evaluate_track, table
from edgetam_jax.media.atomic import check_place
from edgetam_jax.model import Model
from edgetam_jax.ops.boxes import boxes_around
from edgetam_jax.prompts import Prompts
from edgetam_jax.tracking.predictor import VideoPredictor
from edgetam_jax.tracking.scan import track
from edgetam_jax.tracking.state import Tracks
from edgetam_jax.types import Label

HELD_OUT = 271_828_182  # the seed of all held-out clips; training folds its own twice, so no recipe draws these

Kind = Literal["click", "box", "mask"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LABELS: dict[Kind, tuple[Label, ...]] = {
    "click": (Label.POSITIVE, Label.NOT_A_POINT, Label.ABSENT, Label.ABSENT),
    "box": (Label.BOX_START, Label.BOX_END, Label.NOT_A_POINT, Label.ABSENT),
    "mask": (Label.NOT_A_POINT, Label.ABSENT, Label.ABSENT, Label.ABSENT),
}
BASELINES = {"held still": hold_still, "box's best match": follow_box}
TARGETS = {"click": 0.80, "box": 0.88, "mask": 0.88}  # J&F that the small network is to reach,
ABSENT_TARGET = 0.90  # and the share of frames without an object on which its score says so


def held_out_clip(number: int, config: ClipConfig) -> Clip:
    return make_clip(jax.random.fold_in(jax.random.key(HELD_OUT), number), config)


def evaluate(model: Model, clips: Iterable[Clip], kinds: Sequence[Kind] = KINDS) -> dict[str, Result]:
    """The result of each kind of prompt. Clips of one size share one compiled program."""
    return collect(track_objects(model, clip, kinds) for clip in clips)


def baselines(clips: Iterable[Clip]) -> dict[str, Result]:
    return collect(map(track_without_network, clips))


def track_objects(model: Model, clip: Clip, kinds: Sequence[Kind] = KINDS) -> dict[str, list[TrackMetrics]]:
    """The objects of a clip that are prompted, by the kind of prompt."""
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown or not kinds:
        raise ConfigError(f"kinds are {list(kinds)}; expected some of {list(KINDS)}.")
    tracks = track(clip.frames, first_prompts(clip.masks, tuple(kinds)), model)
    masks, present, truth = map(np.asarray, (_cut(tracks, clip.masks.shape[2:]), tracks.scores > 0, clip.masks))
    asked = _asked(clip)
    return {
        kind: [evaluate_track(masks[:, row + o], truth[:, o], start, present[:, row + o]) for o, start in asked]
        for kind, row in zip(kinds, range(0, masks.shape[1], truth.shape[1]), strict=True)
    }


def track_without_network(clip: Clip) -> dict[str, list[TrackMetrics]]:
    """The same objects, by the baseline."""
    frames, truth = np.asarray(clip.frames), np.asarray(clip.masks)
    return {
        way: [evaluate_track(follow(frames[start:], truth[start, o]), truth[start:, o], 0) for o, start in _asked(clip)]
        for way, follow in BASELINES.items()
    }


def _asked(clip: Clip) -> list[tuple[int, int]]:
    """The objects that are prompted in time, and the frames on which they are."""
    starts = np.asarray(first_shown(clip.masks)).tolist()
    return [(o, start) for o, start in enumerate(starts) if counts(start, len(clip.masks))]


def least_pixels(height: int, width: int) -> int:
    """That a frame must show of an object for it to be prompted there: about a thousandth, 64 of 256 x 256."""
    return math.ceil(height * width / 1024)


@jax.jit
def first_shown(masks: Bool[Array, "t o h w"]) -> Int[Array, "o"]:
    """The frame on which each object is prompted; -1 if none shows enough of it."""
    shown = masks.sum((-2, -1)) >= least_pixels(*masks.shape[2:])
    return jnp.where(shown.any(0), jnp.argmax(shown, 0), -1)


@partial(jax.jit, static_argnums=1)
def first_prompts(masks: Bool[Array, "t o h w"], kinds: tuple[Kind, ...] = KINDS) -> Prompts:
    """A prompt of each kind for each object: rows [K * O], one kind after the other."""
    count = masks.shape[1]
    first = first_shown(masks)
    seen = masks[jnp.maximum(first, 0), jnp.arange(count)]  # [O, H, W]
    clicks = jax.vmap(lambda mask: click_on(jax.random.key(0), mask, "centre").point)(seen)
    none = jnp.zeros((count, len(LABELS["mask"]), 2))
    points = {
        "click": none.at[:, 0].set(clicks),
        "box": none.at[:, :2].set(boxes_around(seen).reshape(count, 2, 2)),
        "mask": none,
    }
    is_mask = jnp.repeat(jnp.array([kind == "mask" for kind in kinds]), count)
    return Prompts(
        obj_ids=jnp.arange(len(is_mask), dtype=jnp.int32),
        frames=jnp.tile(jnp.maximum(first, 0), len(kinds))[:, None],
        valid=jnp.tile(first >= 0, len(kinds))[:, None],
        points=jnp.concatenate([points[kind] for kind in kinds])[:, None],
        labels=jnp.repeat(jnp.array([LABELS[kind] for kind in kinds], jnp.int32), count, 0)[:, None],
        masks=(jnp.tile(seen, (len(kinds), 1, 1)) & is_mask[:, None, None])[:, None],
        is_mask=is_mask[:, None],
    )


_cut = jax.jit(Tracks.masks, static_argnums=1)


def main(argv: Sequence[str] | None = None) -> int:
    """0: evaluated; 2: it could not be."""
    arguments = _parser().parse_args(argv)
    begin = time.perf_counter()
    try:
        if arguments.clips < 1 or arguments.frames < 3:
            raise ConfigError(
                f"{arguments.clips} clips of {arguments.frames} frames; expected at least 1 of at least 3: "
                "the first and the last frame do not count."
            )
        size, objects = arguments.size, arguments.objects
        config = ClipConfig(frames=arguments.frames, height=size, width=size, objects=objects)
        check_place(arguments.out, force=True)
        model = load(arguments.model)
        model.check_for_video()
        document = describe(arguments.model, model, config, arguments.clips)
        followed, clicked = zip(*_every_clip(model, config, arguments.clips), strict=True)
        results = collect(followed)
        ious = np.reshape([one for some in clicked for one in some], (-1, CLICKS)).mean(0).tolist()
        found = {way: {"jf": result.score.jf, **result._asdict()} for way, result in results.items()}
        document |= {"seconds": round(time.perf_counter() - begin, 1), "results": found, "after_clicks": ious}
        write_report(arguments.out, document, force=True)
    except EdgeTAMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(results))
    print("\n".join(compare_to_targets(results)))
    print(f"IoU on prompted frames after 1 to {CLICKS} clicks: {', '.join(f'{iou:.3f}' for iou in ious)}")
    return 0


def _every_clip(
    model: Model, config: ClipConfig, count: int
) -> Iterator[tuple[Mapping[str, list[TrackMetrics]], list[list[float]]]]:
    """How objects were followed, and how good the mask of each is after each click on its first frame."""
    begin, predictor = time.perf_counter(), VideoPredictor(model)
    for number in range(count):
        clip = held_out_clip(number, config)
        frames, masks = np.asarray(clip.frames), np.asarray(clip.masks)
        clicked = [after_clicks(predictor, frames[start], masks[start, o]) for o, start in _asked(clip)]
        yield track_objects(model, clip) | track_without_network(clip), clicked
        end = "\n" if number + 1 == count else ""
        taken = time.perf_counter() - begin
        print(f"\rclip {number + 1}/{count}, {taken:.0f} s", end=end, file=sys.stderr, flush=True)


def compare_to_targets(results: Mapping[str, Result]) -> list[str]:
    """Each bar, and by how much it is reached or missed."""
    reached = [(f"{kind}: J&F", results[kind].score.jf, bar) for kind, bar in TARGETS.items()]
    reached += [(f"{kind}: score on absent frames", _absent(results[kind]), ABSENT_TARGET) for kind in TARGETS]
    return [f"{what} {value:.3f}, bar {bar:.2f}: {value - bar:+.3f}" for what, value, bar in reached]


def _absent(result: Result) -> float:
    return math.nan if result.absent is None else result.absent.value


def describe(name: str, model: Model, config: ClipConfig, count: int) -> dict[str, Any]:
    """All that it takes to do the same again."""
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgetam-jax held-out",
        description="Track objects in synthetic clips that no training has seen, and compare with tracking without a "
        "network.",
    )
    parser.add_argument("model", help="a checkpoint of any kind")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    parser.add_argument("--clips", type=int, default=100, help="how many (100)")
    parser.add_argument("--frames", type=int, default=24, help="of each (24)")
    parser.add_argument("--size", type=int, default=256, help="their sides in pixels (256)")
    parser.add_argument("--objects", type=int, default=3, help="that are tracked in each (3)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
