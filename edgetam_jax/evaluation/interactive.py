"""Segmentation of a dataset by a simulated user who clicks.

What the user does, offline and online, is described in `protocols`. Every object is segmented by itself.

The results of a video are written to FOLDER/NAME.json when it is finished; see `resumable`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgetam_jax.data.datasets import BINARY_MASK_HINT, Dataset, VideoEntry
from edgetam_jax.errors import ConfigError, FrameError
from edgetam_jax.evaluation.protocols import CLICKS, FRAMES, MIN_IOU, PassResult, offline, online
from edgetam_jax.evaluation.provenance import read_matching
from edgetam_jax.evaluation.reports import write_report
from edgetam_jax.evaluation.resumable import run_resumable
from edgetam_jax.media.video import open_video
from edgetam_jax.tracking.predictor import VideoPredictor

ENDING = ".json"


@dataclasses.dataclass(frozen=True)
class InteractiveConfig:
    """The network, and what the user does. Results of different ones are not mixed in one folder."""

    weights: str  # their fingerprint
    network: Mapping[str, Any]  # its configuration
    mode: Literal["offline", "online"] = "offline"
    frames: int = FRAMES
    clicks: int = CLICKS
    good: float = MIN_IOU  # online only

    def __post_init__(self) -> None:
        if min(self.frames, self.clicks) < 1:
            raise ConfigError(f"{self.clicks} clicks on {self.frames} frames; expected at least 1 of each.")
        if not 0 <= self.good <= 1:
            raise ConfigError(f"good is {self.good}; expected an IoU, 0 to 1.")


def segment_video(
    predictor: VideoPredictor, entry: VideoEntry, config: InteractiveConfig
) -> dict[int, list[PassResult]]:
    """The results for each object of a video: of all passes offline, of the only one online."""
    results = {}
    with open_video(entry.frames) as video:
        for obj_id in entry.first_masks():
            truth = entry.masks_of(obj_id)
            if len(truth) < 2:
                raise FrameError(
                    f"{entry.name}: object {obj_id} is annotated on one frame only; expected at least two, "
                    "for scoring needs one more than the first."
                )
            limits = config.frames, config.clicks
            if config.mode == "offline":
                results[obj_id] = offline(predictor, video, truth, *limits)
            else:
                results[obj_id] = [online(predictor, video, truth, *limits, config.good)]
    if not results:
        raise FrameError(
            f"{entry.name}: its annotations show no object, so there is nothing to click on. {BINARY_MASK_HINT}"
        )
    return results


def run(
    predictor: VideoPredictor,
    dataset: Dataset,
    folder: Path,
    config: InteractiveConfig,
    processes: tuple[int, int] = (0, 1),
) -> int:
    """Segments one process's videos of a dataset, and writes a file for each; returns how many failed."""

    def process_video(name: str, path: Path) -> int:
        entry = dataset.video(name.removesuffix(ENDING))
        results = segment_video(predictor, entry, config)
        folder.mkdir(exist_ok=True)
        objects = {i: [{**one._asdict(), "jf": one.jf} for one in passes] for i, passes in results.items()}
        write_report(path, {"settings": dataclasses.asdict(config), "objects": objects})
        return len(entry.frames)

    return run_resumable([name + ENDING for name in dataset.names], folder, process_video, processes)


def read_parts(folder: Path, names: Sequence[str], config: InteractiveConfig) -> dict[str, dict[str, Any]]:
    """The objects of those videos that are finished; raises if they were made with another config."""
    parts = {name: read_matching(folder / (name + ENDING), dataclasses.asdict(config), "objects") for name in names}
    return {name: objects for name, objects in parts.items() if objects is not None}


def summarize(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over objects: J&F after each pass, and the number of corrected frames.

    Where an object's masks became right in an earlier pass, that pass's J&F stands for the later ones.
    """
    objects = [passes for objects in parts.values() for passes in objects.values()]
    most = max(map(len, objects))
    jf = [[one["jf"] for one in passes] for passes in objects]
    return {
        "objects": len(objects),
        "jf": np.mean([each + each[-1:] * (most - len(each)) for each in jf], 0).tolist(),
        "corrected": float(np.mean([len(passes[-1]["clicked"]) for passes in objects])),
    }
