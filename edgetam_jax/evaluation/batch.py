"""Tracks a folder of videos with prompts from files.

Beside each video (a file, or a folder of frames) lies a JSON file of the same name with its prompts:

    [{"obj_id": 1, "frame": 0, "points": [[210, 350]], "labels": [1]}, {"obj_id": 2, "box": [300, 0, 500, 400]}]

The masks of a video are written to a folder OUT/NAME of palette PNGs whose values are the object ids, one for each
frame from the first prompted one on. The folder appears when the video is finished; see `resumable`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgetam_jax.data.prompt_files import read_prompts
from edgetam_jax.errors import FrameError
from edgetam_jax.evaluation.resumable import run_resumable
from edgetam_jax.media.atomic import replacing
from edgetam_jax.media.palette import mask_to_palette
from edgetam_jax.media.video import open_video
from edgetam_jax.tracking.predictor import VideoPredictor


def run(
    predictor: VideoPredictor, videos: Path, names: Sequence[str], out: Path, processes: tuple[int, int] = (0, 1)
) -> int:
    """Tracks one process's videos of a folder; returns how many failed."""

    def process_video(name: str, folder: Path) -> int:
        prompts = read_prompts(videos / f"{name}.json")
        return track_video(predictor, find_video(videos, name), prompts, folder)

    return run_resumable(names, out, process_video, processes)


def find_names(folder: Path) -> list[str]:
    """The names of the videos that have a prompt file, sorted, so that all processes see the same order."""
    if not folder.is_dir():
        raise FrameError(f"{folder} is not a folder; expected one with videos and a JSON file of prompts for each.")
    if names := sorted(path.stem for path in folder.glob("*.json")):
        return names
    raise FrameError(f"{folder} holds no JSON file with prompts; see edgetam-jax batch --help.")


def find_video(folder: Path, name: str) -> Path:
    """The folder NAME, or the file NAME with any suffix."""

    def matches(path: Path) -> bool:
        return path.name == name if path.is_dir() else path.stem == name and path.suffix != ".json"

    videos = sorted(path for path in folder.iterdir() if matches(path))
    if len(videos) != 1:
        found = ", ".join(path.name for path in videos) or "none"
        raise FrameError(f"{folder / name}.json needs one video of the same name beside it; found {found}.")
    return videos[0]


def track_video(predictor: VideoPredictor, video: Path, prompts: list[dict[str, Any]], out: Path) -> int:
    """Tracks forward from the first prompt, writes the masks to the folder `out` and returns their number."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with open_video(video) as frames:
        state = predictor.init_state(frames, keep="nothing")
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
