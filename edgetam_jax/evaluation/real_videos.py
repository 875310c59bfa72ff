"""Evaluation on annotated videos, as `held_out` does on synthetic clips.

Each object of a dataset is prompted once, by a click farthest from its border, by its box, or by its mask, on the first
annotated frame that shows it, and tracked forward by `VideoPredictor`. Masks are the network's logits above 0 at the
video's size. Scored are the annotated frames after the prompted one, without the last. The baselines are those of
`held_out`.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from edgetam_jax.data.datasets import Dataset, FirstMask, VideoEntry
from edgetam_jax.errors import FrameError
from edgetam_jax.evaluation.held_out import BASELINES, PROMPT_KINDS, PromptKind, prompt_fields
from edgetam_jax.evaluation.summary import TrackMetrics, evaluate_track, has_scored_frames
from edgetam_jax.evaluation.vos import prompt_masks
from edgetam_jax.media.video import open_video
from edgetam_jax.model import Model
from edgetam_jax.tracking.predictor import VideoPredictor
from edgetam_jax.types import NO_OBJECT


def evaluate_videos(model: Model, dataset: Dataset) -> Iterator[tuple[str, dict[str, list[TrackMetrics]]]]:
    """The name of each video, and the metrics of its objects by kind of prompt and by baseline.

    Raises:
        FrameError: Annotations do not fit their frames, or no object of a video can be scored.
    """
    predictor = VideoPredictor(model)
    for entry in dataset:
        yield entry.name, _evaluate_video(predictor, entry)


def _evaluate_video(predictor: VideoPredictor, entry: VideoEntry) -> dict[str, list[TrackMetrics]]:
    annotated, metrics = list(entry.files), {name: [] for name in (*PROMPT_KINDS, *BASELINES)}
    with open_video(entry.frames) as video:
        frames = np.stack(list(video.frames(0, len(entry.frames), 1)))
    for obj_id, first in prompt_masks(entry).items():
        truth = _truth(entry, obj_id, frames.shape[1:3])
        start = annotated.index(first.frame)
        if not has_scored_frames(start, len(annotated)):
            continue
        masks, present = _track(predictor, frames, first)
        for row, kind in enumerate(PROMPT_KINDS):
            metrics[kind].append(evaluate_track(masks[annotated, row], truth, start, present[annotated, row]))
        for name, method in BASELINES.items():
            tracked = method(frames[annotated[start:]], first.mask)
            metrics[name].append(evaluate_track(tracked, truth[start:], 0))
    if not metrics[PROMPT_KINDS[0]]:
        raise FrameError(f"{entry.name}: no object has annotated frames to score after its first; leave the video out.")
    return metrics


def _truth(entry: VideoEntry, obj_id: int, size: tuple[int, ...]) -> np.ndarray:
    """The masks of an object on all annotated frames; empty where it has none."""
    masks = entry.masks_of(obj_id)
    if wrong := {mask.shape for mask in masks.values()} - {size}:
        raise FrameError(f"{entry.name}: masks are {sorted(wrong)}, the frames {size} (height, width).")
    return np.stack([masks.get(frame, np.zeros(size, bool)) for frame in entry.files])


def _track(
    predictor: VideoPredictor, frames: np.ndarray, first: FirstMask, kinds: Sequence[PromptKind] = PROMPT_KINDS
) -> tuple[np.ndarray, np.ndarray]:
    """The masks [T, K, H, W] of an object by kind of prompt, and whether it is found [T, K]."""
    state, start = predictor.init_state(frames, keep="nothing"), first.frame
    for row, kind in enumerate(kinds, 1):
        add = predictor.add_new_mask if kind == "mask" else predictor.add_new_points_or_box
        add(state, start, row, **prompt_fields(kind, first.mask))
    masks = np.zeros((len(frames), len(kinds), *frames.shape[1:3]), bool)
    present = np.zeros(masks.shape[:2], bool)
    for frame, _, logits in predictor.propagate_in_video(state, start):
        masks[frame] = logits[:, 0] > 0
        present[frame] = (logits[:, 0] > NO_OBJECT / 2).any((1, 2))
    return masks, present
