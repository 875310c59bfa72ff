"""`edgetam-jax batch VIDEOS OUT --model MODEL`: tracks a folder of videos, see `evaluation.batch`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from edgetam_jax.checkpoints.api import load
from edgetam_jax.cli.options import run
from edgetam_jax.cli.processes import add_process_options, join_processes
from edgetam_jax.evaluation import batch
from edgetam_jax.evaluation.provenance import claim_output_dir, model_provenance
from edgetam_jax.tracking.predictor import VideoPredictor


def main(argv: Sequence[str] | None = None) -> int:
    """0: all videos done; 1: some could not be tracked, and the others are done; 2: nothing could be started."""
    failed = 0

    def track_videos(arguments: argparse.Namespace) -> None:
        nonlocal failed
        processes = join_processes(arguments)
        model = load(arguments.model)
        predictor = VideoPredictor(model, non_overlap_masks=True)
        names = batch.find_names(arguments.videos)
        claim_output_dir(arguments.out, names, model_provenance(model), arguments.model)
        failed = batch.run(predictor, arguments.videos, names, arguments.out, processes)

    return run(track_videos, _parser().parse_args(argv)) or int(failed > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgetam-jax batch", description="Track a folder of videos, split over processes."
    )
    parser.add_argument("videos", type=Path, help="folder of videos and their prompts, NAME.mp4 or NAME/ and NAME.json")
    parser.add_argument("out", type=Path, help="folder for the masks")
    parser.add_argument("--model", required=True, help="a checkpoint of any kind")
    add_process_options(parser)
    return parser
