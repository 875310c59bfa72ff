"""`edgetam-jax interactive DATASET --model MODEL --out FILE.json`: a simulated user, see `evaluation.interactive`."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgetam_jax.checkpoints.api import load
from edgetam_jax.cli.processes import add_process_options, join_processes
from edgetam_jax.data.datasets import open_dataset
from edgetam_jax.errors import ConfigError
from edgetam_jax.evaluation import interactive
from edgetam_jax.evaluation.interactive import ENDING, InteractiveConfig
from edgetam_jax.evaluation.protocols import CLICKS, FRAMES, MIN_IOU
from edgetam_jax.evaluation.provenance import model_provenance
from edgetam_jax.evaluation.reports import write_report
from edgetam_jax.media.atomic import check_place
from edgetam_jax.tracking.predictor import VideoPredictor


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates a dataset; returns 0 if all videos were evaluated, 1 if some failed."""
    return int(_segment_dataset(_parser().parse_args(argv)) > 0)


def _segment_dataset(arguments: argparse.Namespace) -> int:
    """Segments this process's videos, and writes the report if no video is missing; returns how many failed."""
    out, folder = arguments.out, arguments.out.with_suffix("")
    processes = join_processes(arguments)
    mode = "online" if arguments.online else "offline"
    if out.suffix != ENDING:
        raise ConfigError(f"--out is {out}; expected a file whose name ends in {ENDING}.")
    check_place(out, force=True)
    dataset = open_dataset(arguments.dataset, arguments.split)
    model = load(arguments.model)
    config = InteractiveConfig(
        **model_provenance(model), mode=mode, frames=arguments.frames, clicks=arguments.clicks, good=arguments.good
    )
    interactive.read_parts(folder, dataset.names, config)
    failed = interactive.run(VideoPredictor(model), dataset, folder, config, processes)
    parts = interactive.read_parts(folder, dataset.names, config)
    if len(parts) == len(dataset):
        summary = interactive.summarize(parts)
        document = {"model": arguments.model, "settings": dataclasses.asdict(config), **summary, "videos": parts}
        write_report(out, document, force=True)
        jf = ", ".join(f"{x:.3f}" for x in summary["jf"])
        print(f"{summary['objects']} objects, {summary['corrected']:.2f} frames corrected of each: J&F {jf}")
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgetam-jax interactive",
        description="Segment every object of a dataset as a user would who clicks where the masks are most wrong.",
    )
    parser.add_argument("dataset", type=Path, help="a folder as DAVIS, MOSE, YouTube-VOS or SA-V lay it out")
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON file for the results; videos go to a folder beside it"
    )
    parser.add_argument("--model", required=True, help="a checkpoint of any kind")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--offline", action="store_true", help="several passes, the worst frame is corrected (default)")
    mode.add_argument("--online", action="store_true", help="one pass, stopped at bad frames to correct them")
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"that are corrected at most ({FRAMES})")
    parser.add_argument("--clicks", type=int, default=CLICKS, help=f"on each of them ({CLICKS})")
    parser.add_argument(
        "--good", type=float, default=MIN_IOU, help=f"IoU below which an online run is stopped ({MIN_IOU})"
    )
    parser.add_argument("--split", help="which part of the dataset; by default the one for validation")
    add_process_options(parser)
    return parser
