"""How well a network in training tracks in videos of a dataset: what `vos` writes and `scores` says, in one."""

import dataclasses
import tempfile
from pathlib import Path

import jax

from edgetam_jax.data.datasets import ALL, Dataset, open_dataset, read_ids
from edgetam_jax.errors import FrameError
from edgetam_jax.evaluation.scores import Score, average, counted, score_dataset
from edgetam_jax.evaluation.vos import given_masks, make_predictor, segment_clip
from edgetam_jax.media.video import open_video
from edgetam_jax.model import Model


def open_validation(path: str, split: str | None, videos: int) -> Dataset:
    """The first videos of a dataset. All annotations are read: what could not be tracked or scored is refused here."""
    dataset = open_dataset(path, split)
    dataset = dataclasses.replace(dataset, names=dataset.names[:videos])
    for clip in dataset:
        with open_video(clip.frames) as video:
            size = video.height, video.width
        for obj_id, one in given_masks(clip).items():
            if one.mask.shape != size:
                raise FrameError(
                    f"{clip.name}: the mask of object {obj_id} is {one.mask.shape}, the video {size} (height, width)."
                )
        for obj_id in clip.folders() or [ALL]:
            for file in counted(clip, obj_id):
                if (shape := read_ids(file).shape) != size:
                    raise FrameError(f"{file} is {shape}, the video {size} (height, width); both must have one size.")
    return dataset


def validate(model: Model, dataset: Dataset) -> Score:
    """Means over the objects of all videos."""
    predictor = make_predictor(jax.device_put(model), dataset)
    with tempfile.TemporaryDirectory(prefix="edgetam-jax-") as name:
        masks = Path(name)
        for clip in dataset:
            segment_clip(predictor, clip, masks / clip.name)
        return average(score_dataset(dataset, masks))
