"""J&F of a folder of masks: `edgetam-jax scores DATASET MASKS`.

DAVIS is scored as the official scorer of DAVIS 2017 does it (semi-supervised), other datasets as the one of SA-V does.
Both leave out the first and last annotated frame, and frames without annotation. They differ in which objects count:
with DAVIS those of the first annotation, on every frame; else those that the scored annotations show, each from the
frame on where it or a mask for it is first seen. Void pixels (255) belong to nobody.

YouTube-VOS is known by its meta.json. There each object counts on the frames after the one that gives its mask, and
J and F are reported apart for categories that its training part shows and for others, as its server does. How that
server counts frames is not published, so that its numbers may differ a little from these.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgetam_jax.data.categories import Categories, categories_of, seen_categories
from edgetam_jax.data.datasets import ALL, VOID, Clip, Dataset, open_dataset, read_ids
from edgetam_jax.errors import EdgeTAMError, FrameError
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


class SeenUnseen(NamedTuple):
    """YouTube-VOS's four numbers: the J and F of objects whose categories training showed, and of the others."""

    seen: Score
    unseen: Score

    @property
    def overall(self) -> float:
        return (self.seen.jf + self.unseen.jf) / 2


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


def by_category(objects: Iterable[ObjectScore], categories: Categories, seen: Set[str]) -> SeenUnseen:
    """Every object weighs the same among the seen, and among the unseen."""
    parts: dict[bool, list[ObjectScore]] = {True: [], False: []}
    for one in objects:
        category = categories.get(one.video, {}).get(one.obj_id)
        if category is None:
            raise FrameError(f"{one.video}: meta.json does not say what object {one.obj_id} is.")
        parts[category in seen].append(one)
    for is_seen, part in parts.items():
        if not part:
            raise FrameError(f"no object is of a category that training {'showed' if is_seen else 'did not show'}.")
    return SeenUnseen(average(parts[True]), average(parts[False]))


def score_dataset(dataset: Dataset, masks: Path) -> list[ObjectScore]:
    """All objects of all videos, whose masks are in MASKS/NAME as `evaluation.vos` writes them."""
    score = score_clip if categories_of(dataset) is None else score_after_given
    return [one for clip in dataset for one in score(clip, masks / clip.name)]


def score_after_given(clip: Clip, folder: Path) -> list[ObjectScore]:
    """As YouTube-VOS: each object on the frames after the one that gives its mask, if there are any."""
    frames, shown = list(clip.files)[1:-1], clip.first_masks()
    scores = []
    for obj_id, values in measure(_pairs(clip, ALL, folder), shown, clip.name).items():
        j, f = values[:, [frame > shown[obj_id].frame for frame in frames]]
        if len(j):
            scores.append(ObjectScore(clip.name, obj_id, statistics(j), statistics(f)))
    return scores


def score_clip(clip: Clip, folder: Path) -> list[ObjectScore]:
    """As DAVIS and SA-V."""
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


def seen_unseen(split: SeenUnseen) -> str:
    """YouTube-VOS's four numbers, and their mean."""
    named = {"seen": split.seen, "unseen": split.unseen}
    four = [
        f"{measure} {name} {getattr(score, measure.lower()).mean:.3f}"
        for name, score in named.items()
        for measure in "JF"
    ]
    return ", ".join([*four, f"overall {split.overall:.3f}"])


def main(argv: Sequence[str] | None = None) -> int:
    """0: scored; 2: it could not be."""
    parser = argparse.ArgumentParser(
        prog="edgetam-jax scores", description="Score the masks that were found for a dataset."
    )
    parser.add_argument("dataset", type=Path, help="a folder as DAVIS, MOSE, YouTube-VOS or SA-V lay it out")
    parser.add_argument("masks", type=Path, help="what edgetam-jax vos wrote")
    parser.add_argument("--split", help="which part of the dataset; by default the one for validation")
    parser.add_argument("--seen", type=Path, metavar="META", help="meta.json of YouTube-VOS's training part")
    arguments = parser.parse_args(argv)
    try:
        dataset = open_dataset(arguments.dataset, arguments.split)
        categories = categories_of(dataset)
        if categories is None and arguments.seen is not None:
            raise FrameError(f"{dataset.images.parent} has no meta.json, which would say what its objects are.")
        seen = None if categories is None else seen_categories(dataset, arguments.seen)
        objects = score_dataset(dataset, arguments.masks)
        print(table(objects))
        if categories is not None and seen is not None:
            print(seen_unseen(by_category(objects, categories, seen)))
        elif categories is not None:
            print("For seen and unseen categories, give --seen the meta.json of the training part.", file=sys.stderr)
    except EdgeTAMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _pairs(clip: Clip, obj_id: int, folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images of ids of the frames that count, found and true. A file about one object has it as 1."""
    for path in counted(clip, obj_id):
        found = folder / path.name
        if not found.exists():
            raise FrameError(f"{found} is missing; every annotated frame needs a mask.")
        if obj_id == ALL:
            yield read_ids(found), _true_ids(path)
        else:
            yield np.minimum(read_ids(found), 1), np.minimum(read_ids(path), 1)


def counted(clip: Clip, obj_id: int) -> list[Path]:
    """The annotations of an object, or of ALL, that are compared with masks."""
    paths = [files[obj_id] for files in clip.files.values() if obj_id in files]
    if len(paths) < 3:
        raise FrameError(f"{clip.name}: {len(paths)} frames are annotated, and the first and last do not count.")
    return paths[1:-1]


def _true_ids(path: Path) -> np.ndarray:
    ids = read_ids(path)
    return np.where(ids == VOID, 0, ids)


def _objects(ids: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.bincount(ids.ravel())).tolist()) - {0}


if __name__ == "__main__":
    sys.exit(main())
