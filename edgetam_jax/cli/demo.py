"""`edgetam-jax demo`: tracks two objects through an occlusion in a synthetic clip, and scores the masks."""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from edgetam_jax.cli.options import make_parser, open_model
from edgetam_jax.cli.outputs import add_force_option
from edgetam_jax.cli.progress import Progress
from edgetam_jax.cli.track import output_spec, track_video, write_results
from edgetam_jax.data.simulated_user import click_on
from edgetam_jax.data.synthetic import ClipConfig, SyntheticClip
from edgetam_jax.errors import OutputError
from edgetam_jax.evaluation.baselines import repeat_mask
from edgetam_jax.evaluation.held_out import held_out_clip
from edgetam_jax.evaluation.summary import evaluate_track, summarize
from edgetam_jax.media.atomic import check_place, replacing
from edgetam_jax.media.outputs import FrameResult, check_free, color_ids
from edgetam_jax.media.palette import object_colors
from edgetam_jax.media.video import open_video
from edgetam_jax.media.visualize import contact_sheet, draw_prompts
from edgetam_jax.ops.boxes import boxes_around
from edgetam_jax.prompts import Prompt
from edgetam_jax.tracking.predictor import VideoPredictor

# Both objects are visible on the first frame, and later each is hidden for some frames. The clip was chosen because
# NANO tracks it well, and CAVEAT tells the user so.
CLIP = 132
CONFIG = ClipConfig(frames=36, height=256, width=256, objects=2, pace=0.8)
FPS = 12.0
PROMPT_KINDS = {1: "one click", 2: "one box"}  # by object id
SHEET_FRAMES = 12
CAVEAT = "this clip was chosen because NANO tracks it well; its mean J&F on a hundred others is 0.71 (docs/training.md)"
FILES = ("demo.mp4", "demo.gif", "demo.png")

NEXT = """\
next:
  your own video     edgetam-jax track VIDEO --point X,Y     (X,Y: pixels from the top left, on the first frame)
  your own photo     edgetam-jax segment PHOTO --point X,Y
  the released weights, for real use:
                     pip install 'edgetam-jax[hub]'
                     edgetam-jax track VIDEO --point X,Y --model yonigozlan/EdgeTAM-hf"""


def main(argv: Sequence[str] | None = None) -> None:
    _demo(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "demo",
        "Make a synthetic clip, track two objects in it, one from a click and one from a box, and score the masks "
        f"against the ground truth. Writes {', '.join(FILES)}.",
        "  edgetam-jax demo\n  edgetam-jax demo --out pictures --force",
    )
    parser.add_argument("-o", "--out", type=Path, default=Path("edgetam-demo"), help="output folder (edgetam-demo)")
    add_force_option(parser)
    return parser


def _demo(arguments: argparse.Namespace) -> None:
    folder, force = arguments.out, arguments.force
    outs = _output_paths(folder, force)
    predictor = VideoPredictor(open_model(arguments), non_overlap_masks=True)
    print("making a clip", flush=True)
    clip = held_out_clip(CLIP, CONFIG)
    prompts = make_prompts(clip)
    print("tracking two objects; the first run compiles the network, which takes a while", flush=True)
    results: list[FrameResult] = []
    with open_video(np.asarray(clip.frames)) as video:
        tracked = _collected(track_video(predictor, video, prompts), results)
        progress = write_results(tracked, outs[:2], output_spec(video, prompts, FPS), len(video), force)
    with replacing(outs[2], force) as partial:
        Image.fromarray(draw_sheet(results, prompts, np.asarray(clip.visible))).save(partial, "PNG")
    print(f"written: {outs[2]}\n\n{score_table(results, np.asarray(clip.masks))}\n{CAVEAT}")
    print(f"{frame_time(progress)}\n\n{NEXT}")


def _output_paths(folder: Path, force: bool) -> list[Path]:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; --out names a folder.")
    if not folder.exists():
        check_place(folder, force)
        folder.mkdir()
    outs = [folder / name for name in FILES]
    check_free(outs, force)
    return outs


def make_prompts(clip: SyntheticClip) -> list[Prompt]:
    """A click at the centre of the first object, and a box around the second, both on the first frame."""
    first = clip.masks[0]
    click = click_on(jax.random.key(0), first[0], "centre").point
    return [
        Prompt(points=np.asarray(click)[None], labels=[1], obj_id=1),
        Prompt(box=np.asarray(boxes_around(first[1])), obj_id=2),
    ]


def _collected(tracked: Iterable[FrameResult], results: list[FrameResult]) -> Iterator[FrameResult]:
    """Yields results, and appends each one to a list."""
    for result in tracked:
        results.append(result)
        yield result


def draw_sheet(results: Sequence[FrameResult], prompts: Sequence[Prompt], visible: np.ndarray) -> np.ndarray:
    """A contact sheet [H, W, 3] of frames across the clip, the first one with its prompts. `visible` is [T, O] bool."""
    frames = np.unique(np.linspace(0, len(results) - 1, SHEET_FRAMES).round().astype(int)).tolist()
    pictures = {frame: results[frame].picture for frame in frames} | {0: draw_prompted(results[0], prompts)}
    titles = [f"frame {frame}{_hidden_objects(visible[frame])}" for frame in frames]
    return contact_sheet(list(pictures.values()), titles, columns=4, width=1600)


def draw_prompted(result: FrameResult, prompts: Sequence[Prompt]) -> np.ndarray:
    """A frame [H, W, 3] with its masks and prompts."""
    picture = result.picture
    for prompt in prompts:
        color = object_colors(color_ids([prompt.obj_id or 0]))[0]
        picture = draw_prompts(picture, prompt.points, prompt.labels, prompt.box, color=color)
    return picture


def _hidden_objects(visible: np.ndarray) -> str:
    hidden = [str(row + 1) for row in np.flatnonzero(~visible)]
    return f": {' and '.join(hidden)} hidden" if hidden else ""


def score_table(results: Sequence[FrameResult], truth: np.ndarray) -> str:
    """J, F and J&F of each object, without the first and the last frame, as in DAVIS. `truth` is [T, O, H, W] bool."""
    frames = np.stack([result.pixels for result in results])
    masks = np.stack([result.masks for result in results])
    scores: Mapping[int, Any] = {
        obj_id: summarize([evaluate_track(masks[:, obj_id - 1], truth[:, obj_id - 1], 0)]).score
        for obj_id in PROMPT_KINDS
    }
    lines = ["scores against the ground truth (1 is perfect):", f"  {'object':20} {'J':>6} {'F':>6} {'J&F':>6}"]
    for obj_id, kind in PROMPT_KINDS.items():
        score = scores[obj_id]
        lines.append(f"  {f'{obj_id}, {kind}':20} {score.j.mean:6.3f} {score.f.mean:6.3f} {score.jf:6.3f}")
    lines.append(f"  {'both':20} {'':6} {'':6} {np.mean([score.jf for score in scores.values()]):6.3f}")
    still = summarize(
        [evaluate_track(repeat_mask(frames, truth[0, row]), truth[:, row], 0) for row in range(truth.shape[1])]
    )
    return "\n".join([*lines, f"  the first frame's true masks on every frame, for comparison: {still.score.jf:.3f}"])


def frame_time(progress: Progress) -> str:
    milliseconds = 1000 / progress.rate if progress.rate else 0.0
    return f"time: {milliseconds:.0f} ms a frame with two objects, drawing and writing included"
