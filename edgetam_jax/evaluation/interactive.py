"""Segmentation of a dataset by a user who clicks: `edgetam-jax interactive DATASET --model MODEL`.

    edgetam-jax interactive DAVIS/ --model MODEL --out results.json --online

What the user does, offline and online, is said in `protocols`. Every object is segmented by itself.

What became of a video is written to results/NAME.json when it is finished, and results.json when none is missing.
Videos that are there are skipped. So a run can be killed and started again, and split over processes and machines.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgetam_jax.checkpoints.api import load
from edgetam_jax.data.datasets import NO_WHITE, Clip, Dataset, open_dataset
from edgetam_jax.errors import ConfigError, EdgeTAMError, FrameError
from edgetam_jax.evaluation.batch import add_process_arguments, join_processes, work_through
from edgetam_jax.evaluation.protocols import CLICKS, FRAMES, GOOD, Outcome, offline, online
from edgetam_jax.evaluation.provenance import model_provenance, read_alike, write_report
from edgetam_jax.media.atomic import check_place
from edgetam_jax.media.video import open_video
from edgetam_jax.tracking.predictor import VideoPredictor

ENDING = ".json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Who is asked, and what the user does."""

    weights: str  # their fingerprint
    network: Mapping[str, Any]  # its configuration
    mode: Literal["offline", "online"] = "offline"
    frames: int = FRAMES
    clicks: int = CLICKS
    good: float = GOOD  # online only

    def __post_init__(self) -> None:
        if min(self.frames, self.clicks) < 1:
            raise ConfigError(f"{self.clicks} clicks on {self.frames} frames; expected at least 1 of each.")
        if not 0 <= self.good <= 1:
            raise ConfigError(f"good is {self.good}; expected an IoU, 0 to 1.")


def play(predictor: VideoPredictor, clip: Clip, settings: Settings) -> dict[int, list[Outcome]]:
    """The outcomes for each object of a video: of all passes offline, of the one online."""
    outcomes = {}
    with open_video(clip.frames) as video:
        for obj_id in clip.first_masks():
            truth = clip.masks_of(obj_id)
            if len(truth) < 2:
                raise FrameError(f"{clip.name}: object {obj_id} is annotated on one frame only; nobody could judge it.")
            limits = settings.frames, settings.clicks
            if settings.mode == "offline":
                outcomes[obj_id] = offline(predictor, video, truth, *limits)
            else:
                outcomes[obj_id] = [online(predictor, video, truth, *limits, settings.good)]
    if not outcomes:
        raise FrameError(f"{clip.name}: its annotations show no object, so there is nothing to click on. {NO_WHITE}")
    return outcomes


def run(
    predictor: VideoPredictor, dataset: Dataset, folder: Path, settings: Settings, processes: tuple[int, int] = (0, 1)
) -> int:
    """Plays one process's share of a dataset, a file for each video; returns how many videos failed."""

    def work(name: str, path: Path) -> int:
        clip = dataset.clip(name.removesuffix(ENDING))
        outcomes = play(predictor, clip, settings)
        folder.mkdir(exist_ok=True)
        objects = {i: [{**one._asdict(), "jf": one.jf} for one in found] for i, found in outcomes.items()}
        write_report(path, {"settings": dataclasses.asdict(settings), "objects": objects})
        return len(clip.frames)

    return work_through([name + ENDING for name in dataset.names], folder, work, processes)


def read_parts(folder: Path, names: Sequence[str], settings: Settings) -> dict[str, dict[str, Any]]:
    """What became of the objects of those videos that are finished, if it was done in the same way."""
    found = {name: read_alike(folder / (name + ENDING), dataclasses.asdict(settings), "objects") for name in names}
    return {name: objects for name, objects in found.items() if objects is not None}


def summarize(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over objects: J&F after each pass, where those that were right earlier keep it, and of corrected frames."""
    objects = [outcomes for objects in parts.values() for outcomes in objects.values()]
    passes = max(map(len, objects))
    jf = [[one["jf"] for one in outcomes] for outcomes in objects]
    return {
        "objects": len(objects),
        "jf": np.mean([each + each[-1:] * (passes - len(each)) for each in jf], 0).tolist(),
        "corrected": float(np.mean([len(outcomes[-1]["clicked"]) for outcomes in objects])),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """0: all videos done; 1: some could not be, and the others are; 2: nothing could be started."""
    arguments = _parser().parse_args(argv)
    out, folder = arguments.out, arguments.out.with_suffix("")
    try:
        processes = join_processes(arguments)
        mode = "online" if arguments.online else "offline"
        if out.suffix != ENDING:
            raise ConfigError(f"--out is {out}; expected a file whose name ends in {ENDING}.")
        check_place(out, force=True)
        dataset = open_dataset(arguments.dataset, arguments.split)
        model = load(arguments.model)
        settings = Settings(
            **model_provenance(model), mode=mode, frames=arguments.frames, clicks=arguments.clicks, good=arguments.good
        )
        read_parts(folder, dataset.names, settings)
        failed = run(VideoPredictor(model), dataset, folder, settings, processes)
        parts = read_parts(folder, dataset.names, settings)
        if len(parts) == len(dataset):
            summary = summarize(parts)
            document = {"model": arguments.model, "settings": dataclasses.asdict(settings), **summary, "videos": parts}
            write_report(out, document, force=True)
            jf = ", ".join(f"{x:.3f}" for x in summary["jf"])
            print(f"{summary['objects']} objects, {summary['corrected']:.2f} frames corrected of each: J&F {jf}")
    except EdgeTAMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(failed > 0)


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
    parser.add_argument("--good", type=float, default=GOOD, help=f"IoU below which an online run is stopped ({GOOD})")
    parser.add_argument("--split", help="which part of the dataset; by default the one for validation")
    add_process_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
