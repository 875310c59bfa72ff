"""Semi-supervised segmentation of a dataset: `edgetam-jax vos DATASET OUT --model MODEL`.

Each object is given by its true mask on the first frame that shows it, and tracked from there on. Masks are the
network's, without cleaning, cut at 0; where objects are annotated in one image, every pixel goes to one of them. A
given mask is remembered with the soft border that it has at the network's size. So SAM 2 and EdgeTAM are evaluated.

Each video becomes a folder OUT/NAME of palette PNGs in the dataset's own layout, as official scorers and
`edgetam-jax scores DATASET OUT` take them. A video's folder appears when it is finished; those
that exist are skipped. So a run can be killed and started again, and split over processes and machines. What another
network made is refused: see `reports.claim`.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgetam_jax.checkpoints.api import load
from edgetam_jax.data.datasets import NO_WHITE, Clip, Dataset, Shown, open_dataset
from edgetam_jax.errors import EdgeTAMError, FrameError
from edgetam_jax.evaluation.batch import add_process_arguments, join_processes, work_through
from edgetam_jax.evaluation.provenance import claim_output_dir, model_provenance
from edgetam_jax.media.atomic import replacing
from edgetam_jax.media.palette import mask_to_palette
from edgetam_jax.media.video import open_video
from edgetam_jax.model import Model
from edgetam_jax.tracking.predictor import VideoPredictor
from edgetam_jax.tracking.session import Session


def main(argv: Sequence[str] | None = None) -> int:
    """0: all videos done; 1: some could not be tracked, and the others are done; 2: nothing could be started."""
    arguments = _parser().parse_args(argv)
    try:
        processes = join_processes(arguments)
        dataset = open_dataset(arguments.dataset, arguments.split)
        model = load(arguments.model)
        predictor = make_predictor(model, dataset)
        claim_output_dir(
            arguments.out, dataset.names, model_provenance(model) | {"dataset": dataset.kind}, arguments.model
        )
    except EdgeTAMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(run(predictor, dataset, arguments.out, processes) > 0)


def make_predictor(model: Model, dataset: Dataset) -> VideoPredictor:
    return VideoPredictor(model, non_overlap_masks=dataset.kind != "sa-v", soft_memory=True)


def run(predictor: VideoPredictor, dataset: Dataset, out: Path, processes: tuple[int, int] = (0, 1)) -> int:
    """Segments one process's share of a dataset into `out`; returns how many videos failed."""

    def work(name: str, folder: Path) -> int:
        return segment_clip(predictor, dataset.clip(name), folder)

    return work_through(dataset.names, out, work, processes)


def segment_clip(predictor: VideoPredictor, clip: Clip, out: Path) -> int:
    """Writes the masks of one video and returns the number of its frames. Masks are empty before their object comes."""
    shown, folders = given_masks(clip), clip.folders()
    out.parent.mkdir(parents=True, exist_ok=True)
    with open_video(clip.frames) as video, replacing(out, force=False) as partial:
        state = predictor.init_state(video, keep="nothing")
        for frame in range(min(one.frame for one in shown.values())):
            _write(partial, clip.frames[frame].stem, folders, [], np.zeros((0, *state.size), bool))
        for frame, obj_ids, logits in _tracked(predictor, state, shown):
            _write(partial, clip.frames[frame].stem, folders, obj_ids, logits[:, 0] > 0)
    return len(clip.frames)


def given_masks(clip: Clip) -> dict[int, Shown]:
    """By object."""
    if shown := clip.first_masks():
        return shown
    raise FrameError(f"{clip.name}: its annotations show no object, so there is nothing to track. {NO_WHITE}")


def _tracked(
    predictor: VideoPredictor, state: Session, shown: Mapping[int, Shown]
) -> Iterator[tuple[int, list[int], np.ndarray]]:
    """From one frame where objects come to the next, so that nobody is sought before coming."""
    starts = sorted({one.frame for one in shown.values()})
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        for obj_id, one in shown.items():
            if one.frame == start:
                predictor.add_new_mask(state, start, obj_id, one.mask)
        yield from predictor.propagate_in_video(state, start, None if following is None else following - start - 1)


def _write(out: Path, name: str, folders: Mapping[int, str], obj_ids: Sequence[int], masks: np.ndarray) -> None:
    """One image of all objects' ids, or one an object, as the dataset has them."""
    if not folders:
        out.mkdir(exist_ok=True)
        mask_to_palette(masks, obj_ids).save(out / f"{name}.png")
    by_object = dict(zip(obj_ids, masks, strict=True))
    for obj_id, folder in folders.items():
        (out / folder).mkdir(parents=True, exist_ok=True)
        mask = by_object.get(obj_id, np.zeros(masks.shape[1:], bool))
        mask_to_palette(mask).save(out / folder / f"{name}.png")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgetam-jax vos",
        description="Track every object of a dataset from its first true mask, and write masks as scorers take them.",
    )
    parser.add_argument("dataset", type=Path, help="a folder as DAVIS, MOSE, YouTube-VOS or SA-V lay it out")
    parser.add_argument("out", type=Path, help="folder for the masks")
    parser.add_argument("--model", required=True, help="a checkpoint of any kind")
    parser.add_argument("--split", help="which part of the dataset; by default the one for validation")
    add_process_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
