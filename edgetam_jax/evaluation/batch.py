"""Tracks a folder of videos, split over processes and machines: `edgetam-jax batch VIDEOS OUT --model MODEL`.

Beside each video (a file, or a folder of frames) lies a JSON file of the same name with its prompts:

    [{"obj_id": 1, "frame": 0, "points": [[210, 350]], "labels": [1]}, {"obj_id": 2, "box": [300, 0, 500, 400]}]

Each video becomes a folder OUT/NAME of palette PNGs whose values are the object ids, one for each frame from the first
prompted one on. A video's folder appears when it is finished; those that exist are skipped. So a run can be killed and
started again at any time, and a process that dies takes only its current video with it. What another network made is
refused: see `reports.claim`.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from edgetam_jax.checkpoints.api import load
from edgetam_jax.errors import EdgeTAMError, FrameError, PromptError
from edgetam_jax.evaluation.provenance import claim_output_dir, model_provenance
from edgetam_jax.media.atomic import replacing
from edgetam_jax.media.palette import mask_to_palette
from edgetam_jax.media.video import open_video
from edgetam_jax.tracking.predictor import VideoPredictor
from edgetam_jax.types import LARGEST_ID


def main(argv: Sequence[str] | None = None) -> int:
    """0: all videos done; 1: some could not be tracked, and the others are done; 2: nothing could be started."""
    arguments = _parser().parse_args(argv)
    try:
        processes = join_processes(arguments)
        model = load(arguments.model)
        predictor = VideoPredictor(model, non_overlap_masks=True)
        names = find_names(arguments.videos)
        claim_output_dir(arguments.out, names, model_provenance(model), arguments.model)
    except EdgeTAMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    def work(name: str, out: Path) -> int:
        prompts = read_prompts(arguments.videos / f"{name}.json")
        return track_video(predictor, find_video(arguments.videos, name), prompts, out)

    return int(work_through(names, arguments.out, work, processes) > 0)


def work_through(
    names: Sequence[str], out: Path, work: Callable[[str, Path], int], processes: tuple[int, int] = (0, 1)
) -> int:
    """The share of one of several processes (which, of how many), every n-th video; returns how many failed.

    `work` makes the folder or file that it is given, for one video, and returns the number of its frames. Where that is
    there already, the video was done before.
    """
    rank, count = processes
    share = names[rank::count]
    failed = 0
    for number, name in enumerate(share, 1):
        label = f"[process {rank + 1}/{count}, video {number}/{len(share)}] {name}"
        if (out / name).exists():
            print(f"{label}: done before", flush=True)
            continue
        begin = time.perf_counter()
        try:
            frames = work(name, out / name)
        except EdgeTAMError as error:
            failed += 1
            print(f"{label}: failed: {error}", file=sys.stderr, flush=True)
            continue
        print(f"{label}: {frames} frames, {frames / (time.perf_counter() - begin):.1f} a second", flush=True)
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgetam-jax batch", description="Track a folder of videos, split over processes."
    )
    parser.add_argument("videos", type=Path, help="folder of videos and their prompts, NAME.mp4 or NAME/ and NAME.json")
    parser.add_argument("out", type=Path, help="folder for the masks")
    parser.add_argument("--model", required=True, help="a checkpoint of any kind")
    add_process_arguments(parser)
    return parser


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=int, help="over how many processes the videos are split")
    parser.add_argument("--process", type=int, help="which one this is, from 0")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, to begin together")


def join_processes(arguments: argparse.Namespace) -> tuple[int, int]:
    """Which process this is, and how many there are."""
    rank, count = arguments.process, arguments.processes
    if (rank is None) != (count is None) or (arguments.coordinator and rank is None):
        raise EdgeTAMError("--process and --processes go together, and with --coordinator; one of them is missing.")
    if rank is None:
        return 0, 1
    if not 0 <= rank < count:
        raise EdgeTAMError(f"--process is {rank}; expected 0 to {count - 1}, for there are {count}.")
    if arguments.coordinator:
        jax.distributed.initialize(arguments.coordinator, count, rank)
        rank, count = jax.process_index(), jax.process_count()
        # All have begun. From here on they share nothing, and one that dies must not end the others.
        jax.distributed.shutdown()
    return rank, count


def find_names(folder: Path) -> list[str]:
    """Of the videos that have a prompt file, in the same order everywhere."""
    if not folder.is_dir():
        raise FrameError(f"{folder} is not a folder; expected one with videos and a JSON file of prompts for each.")
    if names := sorted(path.stem for path in folder.glob("*.json")):
        return names
    raise FrameError(f"{folder} holds no JSON file with prompts; see edgetam-jax batch --help.")


def find_video(folder: Path, name: str) -> Path:
    """The folder NAME, or the file NAME with any suffix."""

    def fits(path: Path) -> bool:
        return path.name == name if path.is_dir() else path.stem == name and path.suffix != ".json"

    videos = sorted(path for path in folder.iterdir() if fits(path))
    if len(videos) != 1:
        found = ", ".join(path.name for path in videos) or "none"
        raise FrameError(f"{folder / name}.json needs one video of the same name beside it; found {found}.")
    return videos[0]


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """The entries of a prompt file; what is in them is checked when they are used."""
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PromptError(f"{path} cannot be read as JSON: {error}.") from error
    known = {"obj_id", "frame", "points", "labels", "box"}
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise PromptError(f"{path} must hold a list of prompts, each an object with {sorted(known)}.")
    for index, entry in enumerate(entries):
        if unknown := sorted(set(entry) - known):
            raise PromptError(f"{path}, prompt {index}: unknown keys {unknown}; known are {sorted(known)}.")
        obj_id = entry.get("obj_id")
        if not isinstance(obj_id, int) or not 0 < obj_id <= LARGEST_ID:
            raise PromptError(f"{path}, prompt {index}: obj_id is {obj_id!r}; expected 1 to {LARGEST_ID}.")
    places = [(entry["obj_id"], entry.get("frame", 0)) for entry in entries]
    if twice := sorted({place for place in places if places.count(place) > 1}, key=str):
        raise PromptError(f"{path}: two prompts for one object and frame, {twice}; put all into one.")
    return entries


def track_video(predictor: VideoPredictor, video: Path, prompts: list[dict[str, Any]], out: Path) -> int:
    """Tracks forward from the first prompt, writes the masks and returns their number."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with open_video(video) as source:
        state = predictor.init_state(source, keep="nothing")
        for prompt in prompts:
            predictor.add_new_points_or_box(
                state,
                prompt.get("frame", 0),
                prompt["obj_id"],
                prompt.get("points"),
                prompt.get("labels"),
                box=prompt.get("box"),
            )
        with replacing(out, force=False) as partial:
            partial.mkdir()
            written = 0
            for frame, obj_ids, logits in predictor.propagate_in_video(state):
                image = mask_to_palette(logits > 0, obj_ids)
                image.save(partial / f"{frame:05d}.png")
                written += 1
    return written


if __name__ == "__main__":
    sys.exit(main())
