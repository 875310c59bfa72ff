"""`edgetam-jax demo`: two objects through an occlusion, in a clip whose true masks are known."""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from edgetam_jax.cli import options
from edgetam_jax.cli.outputs import FrameResult, check_free, color_ids
from edgetam_jax.cli.progress import Progress
from edgetam_jax.cli.track import clip_of, follow, write
from edgetam_jax.data.simulated_user import click_on
from edgetam_jax.data.synthetic import ClipConfig, SyntheticClip
from edgetam_jax.errors import OutputError
from edgetam_jax.evaluation.baselines import repeat_mask
from edgetam_jax.evaluation.held_out import held_out_clip
from edgetam_jax.evaluation.summary import evaluate_track, summarize
from edgetam_jax.media.atomic import check_place, replacing
from edgetam_jax.media.palette import object_colors
from edgetam_jax.media.video import open_video
from edgetam_jax.media.visualize import contact_sheet, draw_prompts
from edgetam_jax.ops.boxes import boxes_around
from edgetam_jax.prompts import Prompt
from edgetam_jax.tracking.predictor import VideoPredictor

# Both objects are seen on the first frame, and later both are out of sight for some frames. It was chosen because NANO
# follows them well, which SUITED says.
CLIP = 132
CONFIG = ClipConfig(frames=36, height=256, width=256, objects=2, pace=0.8)
FPS = 12.0
WAYS = {1: "one click", 2: "one box"}
ON_SHEET = 12  # frames
SUITED = "the clip suits NANO, whose mean J&F over a hundred others is 0.71 (docs/training.md)"
FILES = ("demo.mp4", "demo.gif", "demo.png")

NEXT = """\
next:
  your own video     edgetam-jax track VIDEO --point X,Y     (X,Y: pixels from the top left, on the first frame)
  your own photo     edgetam-jax segment PHOTO --point X,Y
  for real use, the released weights:
                     pip install 'edgetam-jax[hub]'
                     edgetam-jax track VIDEO --point X,Y --model yonigozlan/EdgeTAM-hf"""


def main(argv: Sequence[str] | None = None) -> int:
    return options.run(_demo, _parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = options.make_parser(
        "demo",
        "Makes a clip whose true masks are known, follows two objects in it, one from a click and one from a box, and "
        f"says how well that went. Writes {', '.join(FILES)}.",
        "  edgetam-jax demo\n  edgetam-jax demo --out pictures --force",
    )
    parser.add_argument("-o", "--out", type=Path, default=Path("edgetam-demo"), help="folder (edgetam-demo)")
    options.add_force_option(parser)
    return parser


def _demo(arguments: argparse.Namespace) -> None:
    folder, force = arguments.out, arguments.force
    outs = _places(folder, force)
    predictor = VideoPredictor(options.open_model(arguments), non_overlap_masks=True)
    print("making a clip", flush=True)
    clip = held_out_clip(CLIP, CONFIG)
    said = prompts_for(clip)
    print("following two objects; the first run compiles the network, which takes a while", flush=True)
    seen: list[FrameResult] = []
    with open_video(np.asarray(clip.frames)) as video:
        frames = _noted(follow(predictor, video, said), seen)
        progress = write(frames, outs[:2], clip_of(video, said, FPS), len(video), force)
    with replacing(outs[2], force) as partial:
        Image.fromarray(sheet(seen, said, np.asarray(clip.visible))).save(partial, "PNG")
    print(f"written: {outs[2]}\n\n{report(seen, np.asarray(clip.masks))}\n{SUITED}\n{pace(progress)}\n\n{NEXT}")


def _places(folder: Path, force: bool) -> list[Path]:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; --out names a folder.")
    if not folder.exists():
        check_place(folder, force)
        folder.mkdir()
    outs = [folder / name for name in FILES]
    check_free(outs, force)
    return outs


def prompts_for(clip: SyntheticClip) -> list[Prompt]:
    """A click in the middle of the first object, and a box around the second one, both on the first frame."""
    first = clip.masks[0]
    click = click_on(jax.random.key(0), first[0], "centre").point
    return [
        Prompt(points=np.asarray(click)[None], labels=[1], obj_id=1),
        Prompt(box=np.asarray(boxes_around(first[1])), obj_id=2),
    ]


def _noted(frames: Iterable[FrameResult], seen: list[FrameResult]) -> Iterator[FrameResult]:
    for one in frames:
        seen.append(one)
        yield one


def sheet(seen: Sequence[FrameResult], said: Sequence[Prompt], visible: np.ndarray) -> np.ndarray:
    """Frames all along the clip, the first one with what was said."""
    shown = np.unique(np.linspace(0, len(seen) - 1, ON_SHEET).round().astype(int)).tolist()
    pictures = {frame: seen[frame].picture for frame in shown} | {0: prompted_picture(seen[0], said)}
    titles = [f"frame {frame}{_hidden(visible[frame])}" for frame in shown]
    return contact_sheet(list(pictures.values()), titles, columns=4, width=1600)


def prompted_picture(seen: FrameResult, said: Sequence[Prompt]) -> np.ndarray:
    """A frame with its masks, and what was said about it."""
    picture = seen.picture
    for prompt in said:
        color = object_colors(color_ids([prompt.obj_id or 0]))[0]
        picture = draw_prompts(picture, prompt.points, prompt.labels, prompt.box, color=color)
    return picture


def _hidden(visible: np.ndarray) -> str:
    hidden = [str(row + 1) for row in np.flatnonzero(~visible)]
    return f": {' and '.join(hidden)} out of sight" if hidden else ""


def report(seen: Sequence[FrameResult], truth: np.ndarray) -> str:
    """J, F and their mean for each object, as DAVIS counts: without the first frame and the last."""
    frames = np.stack([one.pixels for one in seen])
    found = np.stack([one.masks for one in seen])
    lines = ["how well, against the true masks (1 is perfect):", f"  {'object':20} {'J':>6} {'F':>6} {'J&F':>6}"]
    scores: Mapping[int, Any] = {
        o: summarize([evaluate_track(found[:, o - 1], truth[:, o - 1], 0)]).score for o in WAYS
    }
    for obj_id, way in WAYS.items():
        score = scores[obj_id]
        lines.append(f"  {f'{obj_id}, {way}':20} {score.j.mean:6.3f} {score.f.mean:6.3f} {score.jf:6.3f}")
    still = summarize([evaluate_track(repeat_mask(frames, truth[0, o - 1]), truth[:, o - 1], 0) for o in WAYS]).score.jf
    lines.append(f"  {'both':20} {'':6} {'':6} {np.mean([score.jf for score in scores.values()]):6.3f}")
    return "\n".join([*lines, f"  true masks of the first frame, left where they were: {still:.3f}"])


def pace(progress: Progress) -> str:
    taken = 1000 / progress.rate if progress.rate else 0.0
    return f"time: {taken:.0f} ms a frame with two objects, drawing and writing included"
