"""`edgetam-jax held-out MODEL --out FILE.json`: J&F on synthetic clips, see `evaluation.held_out`."""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from edgetam_jax.checkpoints.api import load
from edgetam_jax.data.synthetic import ClipConfig
from edgetam_jax.errors import ConfigError
from edgetam_jax.evaluation import held_out
from edgetam_jax.evaluation.held_out import ClipResult
from edgetam_jax.evaluation.protocols import CLICKS
from edgetam_jax.evaluation.reports import write_report
from edgetam_jax.evaluation.summary import collect, table
from edgetam_jax.media.atomic import check_place


def main(argv: Sequence[str] | None = None) -> None:
    _evaluate(_parser().parse_args(argv))


def _evaluate(arguments: argparse.Namespace) -> None:
    if arguments.clips < 1 or arguments.frames < 3:
        raise ConfigError(
            f"{arguments.clips} clips of {arguments.frames} frames; expected at least 1 of at least 3: "
            "the first and the last frame do not count."
        )
    size, objects = arguments.size, arguments.objects
    config = ClipConfig(frames=arguments.frames, height=size, width=size, objects=objects)
    check_place(arguments.out, force=True)
    model = load(arguments.model)
    model.check_for_video()
    start = time.perf_counter()
    document = held_out.describe(arguments.model, model, config, arguments.clips)
    clips = list(_with_progress(held_out.evaluate_clips(model, config, arguments.clips), arguments.clips))
    summaries, ious = collect(clip.tracked for clip in clips), held_out.mean_click_ious(clips)
    results = {method: {"jf": one.score.jf, **one._asdict()} for method, one in summaries.items()}
    document |= {"seconds": round(time.perf_counter() - start, 1), "results": results, "after_clicks": ious}
    write_report(arguments.out, document, force=True)
    print(table(summaries))
    print("\n".join(held_out.compare_to_targets(summaries)))
    print(f"IoU on prompted frames after 1 to {CLICKS} clicks: {', '.join(f'{iou:.3f}' for iou in ious)}")


def _with_progress(clips: Iterable[ClipResult], count: int) -> Iterator[ClipResult]:
    start = time.perf_counter()
    for number, clip in enumerate(clips, 1):
        yield clip
        end = "\n" if number == count else ""
        print(f"\rclip {number}/{count}, {time.perf_counter() - start:.0f} s", end=end, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgetam-jax held-out",
        description="Track objects in synthetic clips that no training has seen, and compare with tracking without a "
        "network.",
    )
    parser.add_argument("model", help="a checkpoint of any kind")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    parser.add_argument("--clips", type=int, default=100, help="how many (100)")
    parser.add_argument("--frames", type=int, default=24, help="of each (24)")
    parser.add_argument("--size", type=int, default=256, help="their sides in pixels (256)")
    parser.add_argument("--objects", type=int, default=3, help="that are tracked in each (3)")
    return parser
