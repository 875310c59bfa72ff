"""What became of objects whose truth is known on every frame, and of all of them together.

What counts is what DAVIS counts: the frames after the prompted one, without the last. A mean over objects weighs each
the same; one over frames weighs each object by its frames. On frames that do not show an object, its mask should be
empty, and its score below 0.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edgetam_jax.evaluation.measures import boundary_accuracy, region_similarity, statistics
from edgetam_jax.evaluation.scores import ObjectScore, Score, average

DISTANCES = ((1, 7), (8, 15), (16, 23))  # frames from the prompted one, both ends included


class TrackMetrics(NamedTuple):
    """One object, on the frames that count."""

    j: np.ndarray  # [T]
    f: np.ndarray  # [T]
    distance: np.ndarray  # [T] from the prompted frame
    visible: np.ndarray  # [T] bool: the frame shows it
    returned: np.ndarray  # [T] bool: it does again, after others did not
    present: np.ndarray | None  # [T] bool: so says its score, if there is one
    first: float  # J on the prompted frame


class Share(NamedTuple):
    """A mean over frames, and how many these are; NaN for none."""

    value: float
    frames: int


class Result(NamedTuple):
    """How well one way of tracking does."""

    objects: int
    score: Score  # means over objects
    by_distance: dict[str, Share]  # J&F of frames near the prompted one, and far
    returned: Share  # J&F of frames that show an object again, after others did not
    absent: Share | None  # the share of frames without an object on which its score says so
    present: Share | None  # the share of frames with it on which its score says so
    first: float  # J on the prompted frames, a mean over objects


def counts(start: int, length: int) -> bool:
    """Is there a frame to score after the one where an object is prompted? That is below 0 if it never was."""
    return 0 <= start < length - 2


def evaluate_track(found: np.ndarray, truth: np.ndarray, start: int, present: np.ndarray | None = None) -> TrackMetrics:
    """One object's masks [T, H, W] on all frames, and what its score says [T]; it was prompted on frame `start`."""
    counted = slice(start + 1, len(truth) - 1)
    visible = np.any(truth, (1, 2))
    gone = np.logical_or.accumulate(~visible[start:])[1:-1]
    return TrackMetrics(
        j=region_similarity(found[counted], truth[counted]),
        f=boundary_accuracy(found[counted], truth[counted]),
        distance=np.arange(1, len(truth) - 1 - start),
        visible=visible[counted],
        returned=gone & visible[counted],
        present=None if present is None else present[counted],
        first=float(region_similarity(found[start], truth[start])),
    )


def collect(clips: Iterable[Mapping[str, Sequence[TrackMetrics]]]) -> dict[str, Result]:
    """From the objects of each clip, by the way in which they were tracked, to the results of all."""
    ways: dict[str, list[TrackMetrics]] = {}
    for clip in clips:
        for way, objects in clip.items():
            ways.setdefault(way, []).extend(objects)
    return {way: summarize(objects) for way, objects in ways.items()}


def summarize(objects: Sequence[TrackMetrics]) -> Result:
    score = average(ObjectScore("", i, statistics(one.j), statistics(one.f)) for i, one in enumerate(objects))
    j, f, distance, visible, returned = (
        np.concatenate([getattr(one, name) for one in objects]) for name in TrackMetrics._fields[:5]
    )
    said = [one.present for one in objects if one.present is not None]
    present = np.concatenate(said) if said else None
    jf = (j + f) / 2
    return Result(
        objects=len(objects),
        score=score,
        by_distance={f"{a}-{b}": _share(jf[(distance >= a) & (distance <= b)]) for a, b in DISTANCES},
        returned=_share(jf[returned]),
        absent=None if present is None else _share(~present[~visible]),
        present=None if present is None else _share(present[visible]),
        first=float(np.mean([one.first for one in objects])),
    )


def table(results: Mapping[str, Result]) -> str:
    """A line for each way of tracking. Where there is no frame, or no score, stands a dash."""
    head = ["objects", "J&F", "J", "F", "decay", "first"]
    head += [*(f"{a}-{b}" for a, b in DISTANCES), "back", "absent", "present"]
    width = max(map(len, results))
    lines = [" " * width + "".join(f"{name:>9}" for name in head)]
    for way, one in results.items():
        score, decay = one.score, (one.score.j.decay + one.score.f.decay) / 2
        values = [score.jf, score.j.mean, score.f.mean, decay, one.first]
        shares = [*one.by_distance.values(), one.returned, one.absent, one.present]
        values += [math.nan if share is None else share.value for share in shares]
        cells = "".join("        -" if math.isnan(x) else f"{x:9.3f}" for x in values)
        lines.append(f"{way:{width}}{one.objects:9}{cells}")
    return "\n".join(lines)


def _share(values: np.ndarray) -> Share:
    return Share(float(values.mean()) if values.size else math.nan, values.size)
