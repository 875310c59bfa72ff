"""Tracks a folder of videos, split over processes and machines: `python -m edgetam_jax.batch VIDEOS OUT --model MODEL`.

Beside each video (a file, or a folder of frames) lies a JSON file of the same name with its prompts:

    [{"obj_id": 1, "frame": 0, "points": [[210, 350]], "labels": [1]}, {"obj_id": 2, "box": [300, 0, 500, 400]}]

Each video becomes a folder OUT/NAME of palette PNGs, one a frame, whose values are the object ids. A video's folder
appears when it is finished; those that exist are skipped. So a run can be killed and started again at any time.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from edgetam_jax.checkpoint import load
from edgetam_jax.errors import EdgeTAMError, FrameError, PromptError
from edgetam_jax.files import replacing
from edgetam_jax.io import open_video
from edgetam_jax.video import VideoPredictor

LARGEST_ID = 255  # of a palette image


def main(argv: Sequence[str] | None = None) -> int:
    """0: all videos done; 1: some could not be tracked, and the others are done; 2: nothing could be started."""
    arguments = _parser().parse_args(argv)
    if arguments.coordinator:
        jax.distributed.initialize(arguments.coordinator, arguments.processes, arguments.process)
    rank, count = jax.process_index(), jax.process_count()
    try:
        predictor = VideoPredictor(load(arguments.model), non_overlap_masks=True)
        videos = find_videos(arguments.videos)[rank::count]
    except EdgeTAMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = 0
    for number, (video, prompts) in enumerate(videos, 1):
        out = arguments.out / prompts.stem
        label = f"[process {rank + 1}/{count}, video {number}/{len(videos)}] {prompts.stem}"
        if out.exists():
            print(f"{label}: done before", flush=True)
            continue
        begin = time.perf_counter()
        try:
            frames = track_video(predictor, video, read_prompts(prompts), out)
        except EdgeTAMError as error:
            failed += 1
            print(f"{label}: failed: {error}", file=sys.stderr, flush=True)
            continue
        print(f"{label}: {frames} frames, {frames / (time.perf_counter() - begin):.1f} a second", flush=True)
    return int(failed > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edgetam_jax.batch", description="Track a folder of videos, split over processes."
    )
    parser.add_argument("videos", type=Path, help="folder of videos and their prompts, NAME.mp4 or NAME/ and NAME.json")
    parser.add_argument("out", type=Path, help="folder for the masks")
    parser.add_argument("--model", required=True, help="a checkpoint of any kind")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, where there are several")
    parser.add_argument("--processes", type=int, help="how many there are")
    parser.add_argument("--process", type=int, help="which one this is, from 0")
    return parser


def find_videos(folder: Path) -> list[tuple[Path, Path]]:
    """Videos with their prompt files, in the same order everywhere."""
    if not folder.is_dir():
        raise FrameError(f"{folder} is not a folder; expected one with videos and a JSON file of prompts for each.")
    pairs = []
    for prompts in sorted(folder.glob("*.json")):
        videos = sorted(
            path for path in folder.glob(f"{prompts.stem}*") if path.stem == prompts.stem and path != prompts
        )
        if len(videos) != 1:
            raise FrameError(f"{prompts} needs one video of the same name beside it; found {len(videos)}.")
        pairs.append((videos[0], prompts))
    if not pairs:
        raise FrameError(f"{folder} holds no JSON file with prompts; see python -m edgetam_jax.batch --help.")
    return pairs


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
                labels = np.zeros(state.size, np.uint8)
                for obj_id, mask in zip(obj_ids, logits[:, 0] > 0, strict=True):
                    labels[mask] = obj_id
                image = Image.fromarray(labels, mode="P")
                image.putpalette(palette())
                image.save(partial / f"{frame:05d}.png")
                written += 1
    return written


def palette() -> list[int]:
    """256 colours that differ most where the ids are small: the ids' bits, dealt out to red, green and blue."""
    colours = []
    for index in range(256):
        bits = [(index >> (3 * level + channel)) & 1 for channel in range(3) for level in range(3)]
        colours += [sum(bit << (7 - level) for level, bit in enumerate(bits[3 * c : 3 * c + 3])) for c in range(3)]
    return colours


if __name__ == "__main__":
    sys.exit(main())
