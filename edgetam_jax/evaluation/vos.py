"""Semi-supervised segmentation of a dataset.

Each object is prompted by its true mask on the first frame that shows it, and tracked from there on. Masks are the
network's logits above 0, without cleaning; where objects are annotated in one image, every pixel goes to at most one of
them. The mask of a prompt enters memory with the soft border that it has at the network's size. This is how SAM 2 and
EdgeTAM are evaluated.

The masks of a video are written to a folder OUT/NAME of palette PNGs in the dataset's own layout, as official scorers
and `scores` read them. The folder appears when the video is finished; see `resumable`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgetam_jax.data.datasets import BINARY_MASK_HINT, Dataset, FirstMask, VideoEntry
from edgetam_jax.errors import FrameError
from edgetam_jax.evaluation.resumable import run_resumable
from edgetam_jax.media.atomic import replacing
from edgetam_jax.media.palette import mask_to_palette
from edgetam_jax.media.video import open_video
from edgetam_jax.model import Model
from edgetam_jax.tracking.predictor import VideoPredictor
from edgetam_jax.tracking.session import Session


def make_predictor(model: Model, dataset: Dataset) -> VideoPredictor:
    return VideoPredictor(model, non_overlap_masks=dataset.layout != "sa-v", soft_memory=True)


def run(predictor: VideoPredictor, dataset: Dataset, out: Path, processes: tuple[int, int] = (0, 1)) -> int:
    """Segments one process's videos of a dataset into `out`; returns how many failed."""

    def process_video(name: str, folder: Path) -> int:
        return segment_video(predictor, dataset.video(name), folder)

    return run_resumable(dataset.names, out, process_video, processes)


def segment_video(predictor: VideoPredictor, entry: VideoEntry, out: Path) -> int:
    """Writes the masks of a video and returns the number of its frames.

    The masks of frames before an object's first are empty.
    """
    prompts, folders = prompt_masks(entry), entry.object_folders()
    out.parent.mkdir(parents=True, exist_ok=True)
    with open_video(entry.frames) as video, replacing(out, force=False) as partial:
        state = predictor.init_state(video, keep="nothing")
        for frame in range(min(one.frame for one in prompts.values())):
            _write(partial, entry.frames[frame].stem, folders, [], np.zeros((0, *state.size), bool))
        for frame, obj_ids, logits in _tracked(predictor, state, prompts):
            _write(partial, entry.frames[frame].stem, folders, obj_ids, logits[:, 0] > 0)
    return len(entry.frames)


def prompt_masks(entry: VideoEntry) -> dict[int, FirstMask]:
    """The mask that prompts each object; raises if there is no object."""
    if masks := entry.first_masks():
        return masks
    raise FrameError(f"{entry.name}: its annotations show no object, so there is nothing to track. {BINARY_MASK_HINT}")


def _tracked(
    predictor: VideoPredictor, state: Session, prompts: Mapping[int, FirstMask]
) -> Iterator[tuple[int, list[int], np.ndarray]]:
    """Tracks up to each frame with new objects before they are added, so that no object is tracked too early."""
    starts = sorted({one.frame for one in prompts.values()})
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        for obj_id, one in prompts.items():
            if one.frame == start:
                predictor.add_new_mask(state, start, obj_id, one.mask)
        yield from predictor.propagate_in_video(state, start, None if following is None else following - start - 1)


def _write(out: Path, name: str, folders: Mapping[int, str], obj_ids: Sequence[int], masks: np.ndarray) -> None:
    """Writes one image of all objects' ids, or one for each object, as the dataset has them."""
    if not folders:
        out.mkdir(exist_ok=True)
        mask_to_palette(masks, obj_ids).save(out / f"{name}.png")
    by_object = dict(zip(obj_ids, masks, strict=True))
    for obj_id, folder in folders.items():
        (out / folder).mkdir(parents=True, exist_ok=True)
        mask = by_object.get(obj_id, np.zeros(masks.shape[1:], bool))
        mask_to_palette(mask).save(out / folder / f"{name}.png")
