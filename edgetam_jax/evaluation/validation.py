"""Validation in training: the J&F of videos of a dataset, by `vos` and `scores`."""

import dataclasses
import tempfile
from pathlib import Path

import jax

from edgetam_jax.data.datasets import Dataset, open_dataset, read_ids
from edgetam_jax.errors import FrameError
from edgetam_jax.evaluation.scores import Score, average, score_dataset, scored_files
from edgetam_jax.evaluation.vos import make_predictor, prompt_masks, segment_video
from edgetam_jax.media.video import open_video
from edgetam_jax.model import Model
from edgetam_jax.types import ALL_OBJECTS


def open_validation(path: str, split: str | None, videos: int) -> Dataset:
    """The first videos of a dataset. All annotations are read, so that errors in them are found before training."""
    dataset = open_dataset(path, split)
    dataset = dataclasses.replace(dataset, names=dataset.names[:videos])
    for entry in dataset:
        with open_video(entry.frames) as video:
            size = video.height, video.width
        for obj_id, one in prompt_masks(entry).items():
            if one.mask.shape != size:
                raise FrameError(
                    f"{entry.name}: the mask of object {obj_id} is {one.mask.shape}, the video {size} (height, width)."
                )
        for obj_id in entry.object_folders() or [ALL_OBJECTS]:
            for file in scored_files(entry, obj_id):
                if (shape := read_ids(file).shape) != size:
                    raise FrameError(f"{file} is {shape}, the video {size} (height, width); both must have one size.")
    return dataset


def validate(model: Model, dataset: Dataset) -> Score:
    """The mean J&F of the objects of all videos."""
    predictor = make_predictor(jax.device_put(model), dataset)
    with tempfile.TemporaryDirectory(prefix="edgetam-jax-") as name:
        masks = Path(name)
        for entry in dataset:
            segment_video(predictor, entry, masks / entry.name)
        return average(score_dataset(dataset, masks))
