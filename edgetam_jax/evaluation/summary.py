"""Metrics of tracked objects whose true masks are known on every frame, and their means.

The scored frames are those of DAVIS: the ones after the prompted frame, without the last. A mean over objects gives
each object the same weight; a mean over frames gives each frame the same. On frames that do not show an object, its
mask should be empty, and its score below 0.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edgetam_jax.evaluation.measures import boundary_accuracy, region_similarity, statistics
from edgetam_jax.evaluation.scores import ObjectScore, Score, average

DISTANCES = ((1, 7), (8, 15), (16, 23))  # ranges of frames after the prompted one, both ends included


class TrackMetrics(NamedTuple):
    """One object, on the T scored frames."""

    j: np.ndarray  # [T]
    f: np.ndarray  # [T]
    distance: np.ndarray  # [T] from the prompted frame
    visible: np.ndarray  # [T] bool: the frame shows the object
    returned: np.ndarray  # [T] bool: the frame shows the object again, after frames that did not
    present: np.ndarray | None  # [T] bool: the object's score is above 0; None without scores
    first: float  # J on the prompted frame


class FrameMean(NamedTuple):
    """A mean over frames, and their number; NaN if there are none."""

    value: float
    frames: int


class Summary(NamedTuple):
    """The metrics of many objects, tracked in one way."""

    objects: int
    score: Score  # means over objects
    by_distance: dict[str, FrameMean]  # J&F of frames at each range of DISTANCES from the prompted one
    returned: FrameMean  # J&F of frames that show an object again, after frames that did not
    absent: FrameMean | None  # the share of frames without an object on which its score is below 0
    present: FrameMean | None  # the share of frames with an object on which its score is above 0
    first: float  # J on the prompted frames, a mean over objects


def has_scored_frames(start: int, length: int) -> bool:
    """Whether a video of `length` frames has frames to score after the prompted one; False if `start` is negative."""
    return 0 <= start < length - 2


def evaluate_track(masks: np.ndarray, truth: np.ndarray, start: int, present: np.ndarray | None = None) -> TrackMetrics:
    """The metrics of one object.

    Args:
        masks: [T, H, W] predicted masks of all frames.
        truth: [T, H, W] true masks of all frames.
        start: The prompted frame.
        present: [T] bool, whether the object's score is above 0.
    """
    scored = slice(start + 1, len(truth) - 1)
    visible = np.any(truth, (1, 2))
    was_absent = np.logical_or.accumulate(~visible[start:])[1:-1]
    return TrackMetrics(
        j=region_similarity(masks[scored], truth[scored]),
        f=boundary_accuracy(masks[scored], truth[scored]),
        distance=np.arange(1, len(truth) - 1 - start),
        visible=visible[scored],
        returned=was_absent & visible[scored],
        present=None if present is None else present[scored],
        first=float(region_similarity(masks[start], truth[start])),
    )


def collect(clips: Iterable[Mapping[str, Sequence[TrackMetrics]]]) -> dict[str, Summary]:
    """Summarizes the objects of all clips, by the method that tracked them."""
    by_method: dict[str, list[TrackMetrics]] = {}
    for clip in clips:
        for method, objects in clip.items():
            by_method.setdefault(method, []).extend(objects)
    return {method: summarize(objects) for method, objects in by_method.items()}


def summarize(objects: Sequence[TrackMetrics]) -> Summary:
    """Means over objects, and over groups of their frames."""
    score = average(ObjectScore("", i, statistics(one.j), statistics(one.f)) for i, one in enumerate(objects))
    j, f, distance, visible, returned = (
        np.concatenate([getattr(one, name) for one in objects]) for name in TrackMetrics._fields[:5]
    )
    presences = [one.present for one in objects if one.present is not None]
    present = np.concatenate(presences) if presences else None
    jf = (j + f) / 2
    return Summary(
        objects=len(objects),
        score=score,
        by_distance={f"{a}-{b}": _mean(jf[(distance >= a) & (distance <= b)]) for a, b in DISTANCES},
        returned=_mean(jf[returned]),
        absent=None if present is None else _mean(~present[~visible]),
        present=None if present is None else _mean(present[visible]),
        first=float(np.mean([one.first for one in objects])),
    )


def table(summaries: Mapping[str, Summary]) -> str:
    """A line for each method. A dash stands for a mean over no frames, and for metrics of scores without scores."""
    head = ["objects", "J&F", "J", "F", "decay", "first"]
    head += [*(f"{a}-{b}" for a, b in DISTANCES), "back", "absent", "present"]
    width = max(map(len, summaries))
    lines = [" " * width + "".join(f"{name:>9}" for name in head)]
    for method, one in summaries.items():
        score, decay = one.score, (one.score.j.decay + one.score.f.decay) / 2
        values = [score.jf, score.j.mean, score.f.mean, decay, one.first]
        means = [*one.by_distance.values(), one.returned, one.absent, one.present]
        values += [math.nan if mean is None else mean.value for mean in means]
        cells = "".join("        -" if math.isnan(x) else f"{x:9.3f}" for x in values)
        lines.append(f"{method:{width}}{one.objects:9}{cells}")
    return "\n".join(lines)


def _mean(values: np.ndarray) -> FrameMean:
    return FrameMean(float(values.mean()) if values.size else math.nan, values.size)
