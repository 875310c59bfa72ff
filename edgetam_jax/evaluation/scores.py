"""J&F of a folder of masks against a dataset's annotations.

DAVIS is scored as by the official scorer of DAVIS 2017 (semi-supervised), other datasets as by that of SA-V. Both leave
out the first and last annotated frame, and frames without annotation. They differ in which objects count: for DAVIS,
those of the first annotation, on every scored frame; otherwise those that the scored annotations show, each from the
first frame on which its annotation or its predicted mask is not empty. Void pixels (255) belong to no object.

YouTube-VOS is recognised by its meta.json. There each object counts on the frames after the one whose mask prompts it,
and J and F are reported apart for categories that its training part shows and for others, as by its server. How that
server counts frames is not published, so that its numbers may differ a little from these.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgetam_jax.data.categories import Categories, categories_of
from edgetam_jax.data.datasets import Dataset, VideoEntry, read_ids
from edgetam_jax.errors import FrameError
from edgetam_jax.evaluation.measures import Statistics, boundary_accuracy, region_similarity, statistics
from edgetam_jax.types import ALL_OBJECTS, VOID


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
    """YouTube-VOS's scores of objects whose categories the training part shows, and of the others."""

    seen: Score
    unseen: Score

    @property
    def overall(self) -> float:
        return (self.seen.jf + self.unseen.jf) / 2


def average(objects: Iterable[ObjectScore]) -> Score:
    """Means over objects, each with the same weight however many its video has."""
    each = list(objects)
    if not each:
        raise FrameError("no object was scored: the annotations that count show none.")
    j, f = (np.array([getattr(one, name) for one in each]) for name in "jf")
    return Score(Statistics(*map(float, j.mean(0))), Statistics(*map(float, f.mean(0))))


def by_video(objects: Iterable[ObjectScore]) -> dict[str, Score]:
    """Means over the objects of each video."""
    groups: dict[str, list[ObjectScore]] = defaultdict(list)
    for one in objects:
        groups[one.video].append(one)
    return {video: average(group) for video, group in groups.items()}


def by_category(objects: Iterable[ObjectScore], categories: Categories, seen: Set[str]) -> SeenUnseen:
    """Means over the objects of seen categories, and over those of unseen ones."""
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
    """The scores of all objects of all videos, whose masks are in MASKS/NAME as `evaluation.vos` writes them."""
    score = score_video if categories_of(dataset) is None else score_after_prompt
    return [one for video in dataset for one in score(video, masks / video.name)]


def score_after_prompt(video: VideoEntry, folder: Path) -> list[ObjectScore]:
    """As YouTube-VOS: each object on the frames after the one whose mask prompts it, if there are any."""
    frames, prompts = list(video.files)[1:-1], video.first_masks()
    scores = []
    for obj_id, values in measure(_id_pairs(video, ALL_OBJECTS, folder), prompts, video.name).items():
        j, f = values[:, [frame > prompts[obj_id].frame for frame in frames]]
        if len(j):
            scores.append(ObjectScore(video.name, obj_id, statistics(j), statistics(f)))
    return scores


def score_video(video: VideoEntry, folder: Path) -> list[ObjectScore]:
    """As DAVIS and SA-V."""
    if folders := video.object_folders():
        measured = {}
        for obj_id, name in folders.items():
            for values in measure(_id_pairs(video, obj_id, folder / name), name=video.name).values():
                measured[obj_id] = values
    else:
        objects = None if video.late_objects else range(1, int(_true_ids(video.files[0][ALL_OBJECTS]).max()) + 1)
        measured = measure(_id_pairs(video, ALL_OBJECTS, folder), objects, video.name)
    return [ObjectScore(video.name, obj_id, statistics(j), statistics(f)) for obj_id, (j, f) in measured.items()]


def measure(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], objects: Iterable[int] | None = None, name: str = "the video"
) -> dict[int, np.ndarray]:
    """J and F [2, T] of each object.

    Args:
        pairs: Images of object ids [H, W] of one frame after the other, predicted and true.
        objects: The objects that count, on all frames. By default those that any true image shows, each from the first
            frame on which its predicted or true mask is not empty.
        name: The video's, for error messages.
    """
    fixed = None if objects is None else list(objects)
    values: dict[int, list[tuple[float, float]]] = {obj_id: [] for obj_id in fixed or ()}
    annotated: set[int] = set()
    for predicted, truth in pairs:
        if predicted.shape != truth.shape:
            raise FrameError(f"{name}: a mask is {predicted.shape}, its annotation {truth.shape} (height, width).")
        predicted_objects, true_objects = _objects(predicted), _objects(truth)
        if fixed is not None and not predicted_objects <= set(fixed):
            raise FrameError(
                f"{name}: the masks are of objects {sorted(predicted_objects)}; expected none but {fixed}."
            )
        annotated |= true_objects
        for obj_id in predicted_objects | true_objects:
            values.setdefault(obj_id, [])
        for obj_id, rows in values.items():
            mask, true_mask = predicted == obj_id, truth == obj_id
            rows.append((float(region_similarity(mask, true_mask)), float(boundary_accuracy(mask, true_mask))))
    return {
        obj_id: np.array(values[obj_id]).reshape(-1, 2).T for obj_id in (sorted(annotated) if fixed is None else fixed)
    }


def table(objects: Sequence[ObjectScore]) -> str:
    """The table that the official scorers print: all objects, then each video and its objects."""
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
    """A line with YouTube-VOS's four numbers and their mean."""
    named = {"seen": split.seen, "unseen": split.unseen}
    four = [
        f"{measure} {name} {getattr(score, measure.lower()).mean:.3f}"
        for name, score in named.items()
        for measure in "JF"
    ]
    return ", ".join([*four, f"overall {split.overall:.3f}"])


def scored_files(video: VideoEntry, obj_id: int) -> list[Path]:
    """The annotations of an object, or of ALL_OBJECTS, that masks are compared with."""
    paths = [files[obj_id] for files in video.files.values() if obj_id in files]
    if len(paths) < 3:
        raise FrameError(f"{video.name}: {len(paths)} frames are annotated, and the first and last do not count.")
    return paths[1:-1]


def _id_pairs(video: VideoEntry, obj_id: int, folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Predicted and true images of object ids, of the scored frames. In a file about one object, its id is 1."""
    for path in scored_files(video, obj_id):
        predicted = folder / path.name
        if not predicted.exists():
            raise FrameError(f"{predicted} is missing; every annotated frame needs a mask.")
        if obj_id == ALL_OBJECTS:
            yield read_ids(predicted), _true_ids(path)
        else:
            yield np.minimum(read_ids(predicted), 1), np.minimum(read_ids(path), 1)


def _true_ids(path: Path) -> np.ndarray:
    ids = read_ids(path)
    return np.where(ids == VOID, 0, ids)


def _objects(ids: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.bincount(ids.ravel())).tolist()) - {0}
