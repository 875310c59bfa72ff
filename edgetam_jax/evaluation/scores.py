"""J&F of a folder of masks: `python -m edgetam_jax.evaluation.scores DATASET MASKS`.

DAVIS is scored as the official scorer of DAVIS 2017 does it (semi-supervised), other datasets as the one of SA-V does.
Both leave out the first and last annotated frame, and frames without annotation. They differ in which objects count:
with DAVIS those of the first annotation, on every frame; else those that the scored annotations show, each from the
frame on where it or a mask for it is first seen. Void pixels (255) belong to nobody.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgetam_jax.errors import EdgeTAMError, FrameError
from edgetam_jax.evaluation.datasets import ALL, VOID, Clip, Dataset, open_dataset, read_ids
from edgetam_jax.evaluation.measures import Statistics, boundary_accuracy, region_similarity, statistics


class ObjectScore(NamedTuple):
    """One object in one video."""

    video: str
    obj_id: int
    j: Statistics
    f: Statistics

    @property
    def jf(self) -> float:
        return (self.j.mean + self.f.mean) / 2


class Score(NamedTuple):
    """The means of several objects' statistics."""

    j: Statistics
    f: Statistics

    @property
    def jf(self) -> float:
        return (self.j.mean + self.f.mean) / 2


def average(objects: Iterable[ObjectScore]) -> Score:
    """Every object weighs the same, however many a video has."""
    each = list(objects)
    if not each:
        raise FrameError("no object was scored: the annotations that count show none.")
    j, f = (np.array([getattr(one, name) for one in each]) for name in "jf")
    return Score(Statistics(*map(float, j.mean(0))), Statistics(*map(float, f.mean(0))))


def by_video(objects: Iterable[ObjectScore]) -> dict[str, Score]:
    groups: dict[str, list[ObjectScore]] = defaultdict(list)
    for one in objects:
        groups[one.video].append(one)
    return {video: average(group) for video, group in groups.items()}


def score_dataset(dataset: Dataset, masks: Path) -> list[ObjectScore]:
    """All objects of all videos, whose masks are in MASKS/NAME as `evaluation.vos` writes them."""
    return [score for clip in dataset for score in score_clip(clip, masks / clip.name)]


def score_clip(clip: Clip, folder: Path) -> list[ObjectScore]:
    if folders := clip.folders():
        measured = {}
        for obj_id, name in folders.items():
            for values in measure(_pairs(clip, obj_id, folder / name), name=clip.name).values():
                measured[obj_id] = values
    else:
        objects = None if clip.late_objects else range(1, int(_true_ids(clip.files[0][ALL]).max()) + 1)
        measured = measure(_pairs(clip, ALL, folder), objects, clip.name)
    return [ObjectScore(clip.name, obj_id, statistics(j), statistics(f)) for obj_id, (j, f) in measured.items()]


def measure(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], objects: Iterable[int] | None = None, name: str = "the video"
) -> dict[int, np.ndarray]:
    """J and F [2, T] of each object on frames that are given one by one as images of ids [H, W], found and true.

    Without `objects`, they are those that the truth shows, each from the frame on where it or its mask is first seen.
    """
    fixed = None if objects is None else list(objects)
    values: dict[int, list[tuple[float, float]]] = {obj_id: [] for obj_id in fixed or ()}
    seen: set[int] = set()
    for found, truth in pairs:
        if found.shape != truth.shape:
            raise FrameError(f"{name}: a mask is {found.shape}, its annotation {truth.shape} (height, width).")
        here, there = _objects(found), _objects(truth)
        if fixed is not None and not here <= set(fixed):
            raise FrameError(f"{name}: the masks are of objects {sorted(here)}; expected none but {fixed}.")
        seen |= there
        for obj_id in here | there:
            values.setdefault(obj_id, [])
        for obj_id, rows in values.items():
            one, other = found == obj_id, truth == obj_id
            rows.append((float(region_similarity(one, other)), float(boundary_accuracy(one, other))))
    counted = sorted(seen) if fixed is None else fixed
    return {obj_id: np.array(values[obj_id]).reshape(-1, 2).T for obj_id in counted}


def table(objects: Sequence[ObjectScore]) -> str:
    """What the official scorers print: each object, each video, all."""
    rows = [("all objects", average(objects))]
    for video, score in by_video(objects).items():
        rows.append((video, score))
        rows += [(f"  {one.obj_id}", Score(one.j, one.f)) for one in objects if one.video == video]
    width = max(len(name) for name, _ in rows)
    head = ["J&F", "J", "recall", "decay", "F", "recall", "decay"]
    lines = [" " * width + "".join(f"{name:>8}" for name in head)]
    lines += [f"{name:{width}}" + "".join(f"{x:8.3f}" for x in (s.jf, *s.j, *s.f)) for name, s in rows]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """0: scored; 2: it could not be."""
    parser = argparse.ArgumentParser(
        prog="python -m edgetam_jax.evaluation.scores", description="Score the masks that were found for a dataset."
    )
    parser.add_argument("dataset", type=Path, help="a folder as DAVIS, MOSE, YouTube-VOS or SA-V lay it out")
    parser.add_argument("masks", type=Path, help="what python -m edgetam_jax.evaluation.vos wrote")
    parser.add_argument("--split", help="which part of the dataset; by default the one for validation")
    arguments = parser.parse_args(argv)
    try:
        print(table(score_dataset(open_dataset(arguments.dataset, arguments.split), arguments.masks)))
    except EdgeTAMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _pairs(clip: Clip, obj_id: int, folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images of ids of the frames that count, found and true. A file about one object has it as 1."""
    paths = [files[obj_id] for files in clip.files.values() if obj_id in files]
    if len(paths) < 3:
        raise FrameError(f"{clip.name}: {len(paths)} frames are annotated, and the first and last do not count.")
    for path in paths[1:-1]:
        found = folder / path.name
        if not found.exists():
            raise FrameError(f"{found} is missing; every annotated frame needs a mask.")
        if obj_id == ALL:
            yield read_ids(found), _true_ids(path)
        else:
            yield np.minimum(read_ids(found), 1), np.minimum(read_ids(path), 1)


def _true_ids(path: Path) -> np.ndarray:
    ids = read_ids(path)
    return np.where(ids == VOID, 0, ids)


def _objects(ids: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.bincount(ids.ravel())).tolist()) - {0}


if __name__ == "__main__":
    sys.exit(main())
