"""`edgetam-jax held-out MODEL --out FILE.json`: J&F on synthetic clips and on annotated videos.

See `evaluation.held_out` and `evaluation.real_videos`.
"""

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from edgetam_jax.checkpoints.api import load
from edgetam_jax.data.datasets import Dataset, open_dataset
from edgetam_jax.data.synthetic import ClipConfig
from edgetam_jax.errors import ConfigError
from edgetam_jax.evaluation import held_out
from edgetam_jax.evaluation.held_out import ClipResult
from edgetam_jax.evaluation.protocols import CLICKS
from edgetam_jax.evaluation.real_videos import evaluate_videos
from edgetam_jax.evaluation.reports import write_report
from edgetam_jax.evaluation.summary import Summary, collect, table
from edgetam_jax.media.atomic import check_place
from edgetam_jax.model import Model

Result = TypeVar("Result")


def main(argv: Sequence[str] | None = None) -> None:
    _evaluate(_parser().parse_args(argv))


def _evaluate(arguments: argparse.Namespace) -> None:
    least = 0 if arguments.videos else 1
    if arguments.clips < least or arguments.frames < 3:
        raise ConfigError(
            f"{arguments.clips} clips of {arguments.frames} frames; expected at least {least} of at least 3: "
            "the first and the last frame do not count."
        )
    datasets = {folder: open_dataset(folder, arguments.split) for folder in arguments.videos}
    size, objects = arguments.size, arguments.objects
    config = ClipConfig(frames=arguments.frames, height=size, width=size, objects=objects)
    check_place(arguments.out, force=True)
    model = load(arguments.model)
    model.check_for_video()
    start = time.perf_counter()
    document = held_out.describe(arguments.model, model, config, arguments.clips)
    if arguments.clips:
        document |= _on_clips(held_out.evaluate_clips(model, config, arguments.clips), arguments.clips)
        document["seconds"] = round(time.perf_counter() - start, 1)
    document["videos"] = {folder.name: _on_videos(folder.name, model, one) for folder, one in datasets.items()}
    write_report(arguments.out, document, force=True)


def _on_clips(results: Iterable[ClipResult], count: int) -> dict[str, Any]:
    """Results on synthetic clips, which are also printed."""
    clips = list(_with_progress(results, count, "clip"))
    summaries, ious = collect(clip.tracked for clip in clips), held_out.mean_click_ious(clips)
    print(table(summaries))
    print("\n".join(held_out.compare_to_targets(summaries)))
    print(f"IoU on prompted frames after 1 to {CLICKS} clicks: {', '.join(f'{iou:.3f}' for iou in ious)}")
    return {"results": _by_method(summaries), "after_clicks": ious}


def _on_videos(name: str, model: Model, dataset: Dataset) -> dict[str, Any]:
    """Results on a dataset, which are also printed."""
    videos = dict(_with_progress(evaluate_videos(model, dataset), len(dataset), "video"))
    summaries = collect(videos.values())
    print(f"\n{name}")
    print(table(summaries))
    each = {
        video: {method: one.score.jf for method, one in collect([objects]).items()} for video, objects in videos.items()
    }
    return {"results": _by_method(summaries), "jf_of_videos": each}


def _by_method(summaries: Mapping[str, Summary]) -> dict[str, Any]:
    return {method: {"jf": one.score.jf, **one._asdict()} for method, one in summaries.items()}


def _with_progress(results: Iterable[Result], count: int, what: str) -> Iterable[Result]:
    return tqdm(results, total=count, desc=f"{what}s", unit=what)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgetam-jax held-out",
        description="Track objects in synthetic clips that no training has seen, and in annotated videos if some are "
        "given, and compare with tracking without a network.",
    )
    parser.add_argument("model", help="a checkpoint of any kind")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    parser.add_argument("--clips", type=int, default=100, help="number of clips (100); 0 for none, with --videos")
    parser.add_argument("--frames", type=int, default=24, help="frames per clip (24)")
    parser.add_argument("--size", type=int, default=256, help="side of the frames in pixels (256)")
    parser.add_argument("--objects", type=int, default=3, help="objects per clip (3)")
    parser.add_argument(
        "--videos",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="annotated videos, laid out as DAVIS, MOSE, YouTube-VOS or SA-V; may be repeated",
    )
    parser.add_argument("--split", help="a split of these; by default the one for validation")
    return parser
