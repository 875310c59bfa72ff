"""`edgetam-jax batch VIDEOS OUT --model MODEL`: tracks a folder of videos, see `evaluation.batch`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from edgetam_jax.checkpoints.api import load
from edgetam_jax.cli.processes import add_process_options, join_processes
from edgetam_jax.evaluation import batch
from edgetam_jax.evaluation.provenance import claim_output_dir, model_provenance
from edgetam_jax.tracking.predictor import VideoPredictor


def main(argv: Sequence[str] | None = None) -> int:
    """Tracks the videos; returns 0 if all were tracked, 1 if some failed."""
    arguments = _parser().parse_args(argv)
    processes = join_processes(arguments)
    model = load(arguments.model)
    predictor = VideoPredictor(model, non_overlap_masks=True)
    names = batch.find_names(arguments.videos)
    claim_output_dir(arguments.out, names, model_provenance(model), arguments.model)
    failed = batch.run(predictor, arguments.videos, names, arguments.out, processes)
    return int(failed > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgetam-jax batch", description="Track a folder of videos, split over processes."
    )
    parser.add_argument("videos", type=Path, help="folder of videos and their prompts, NAME.mp4 or NAME/ and NAME.json")
    parser.add_argument("out", type=Path, help="folder for the masks")
    parser.add_argument("--model", required=True, help="a checkpoint of any kind")
    add_process_options(parser)
    return parser
