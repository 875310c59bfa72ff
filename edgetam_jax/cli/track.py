"""`edgetam-jax track VIDEO --point X,Y`: tracks objects through a video and writes their masks."""

import argparse
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from edgetam_jax.cli.interrupt import deferred_interrupt
from edgetam_jax.cli.options import make_parser, open_model
from edgetam_jax.cli.outputs import add_force_option, check_suffixes
from edgetam_jax.cli.progress import Progress
from edgetam_jax.cli.prompts import add_prompt_options, build_prompts, check_prompts
from edgetam_jax.errors import ConfigError, FrameError
from edgetam_jax.media.outputs import (
    DEFAULT_FPS,
    SUFFIXES,
    FrameResult,
    OutputSpec,
    check_free,
    frame_timing,
    open_writers,
)
from edgetam_jax.media.video import Video, open_video
from edgetam_jax.ops.rle import rle_decode, rle_encode
from edgetam_jax.prompts import Prompt
from edgetam_jax.tracking.predictor import VideoPredictor

EXAMPLES = """\
  edgetam-jax track clip.mp4 --point 210,350
  edgetam-jax track clip.mp4 --point 1:210,350 --negative 1:250,300 --box 2:300,0,500,400 --out both.mp4
  edgetam-jax track frames/ --mask first.png --out masks/ --out masks.json
  edgetam-jax track clip.mp4 --point 210,350,60   (on frame 60; earlier frames are tracked backward)"""


def main(argv: Sequence[str] | None = None) -> None:
    _track(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "track",
        "Track objects through a video. Prompt each object on any frame; prompts on more frames correct it.",
        EXAMPLES,
    )
    parser.add_argument("video", type=Path, help="a video file, a GIF, or a folder of images, sorted by name")
    add_prompt_options(parser, frames=True)
    formats = "; ".join(f"{suffix or 'no suffix'}: {what}" for suffix, what in SUFFIXES.items())
    parser.add_argument(
        "-o", "--out", type=Path, action="append", help=f"output, may be repeated (NAME-track.mp4). {formats}"
    )
    parser.add_argument(
        "--fps", type=float, help=f"frame rate of the output (the video's; {DEFAULT_FPS:g} for folders)"
    )
    add_force_option(parser)
    return parser


def _track(arguments: argparse.Namespace) -> None:
    if arguments.fps is not None and not 1 <= arguments.fps <= 1000:
        raise ConfigError(f"--fps is {arguments.fps:g}; expected 1 to 1000 frames a second.")
    outs = arguments.out or [Path(f"{arguments.video.resolve().stem}-track.mp4")]
    check_suffixes(outs, SUFFIXES)
    check_free(outs, arguments.force)
    with open_video(arguments.video) as video:
        prompts = build_prompts(arguments)
        check_prompts(prompts, (video.height, video.width), len(video))
        predictor = VideoPredictor(open_model(arguments), non_overlap_masks=True)
        results = track_video(predictor, video, prompts)
        write_results(results, outs, output_spec(video, prompts, arguments.fps), len(video), arguments.force)


def output_spec(video: Video, prompts: Sequence[Prompt], fps: float | None) -> OutputSpec:
    obj_ids = list(dict.fromkeys(prompt.obj_id for prompt in prompts if prompt.obj_id is not None))
    return OutputSpec((video.height, video.width), frame_timing(video, fps), obj_ids)


def write_results(
    results: Iterable[FrameResult], outs: Sequence[Path], spec: OutputSpec, total: int, force: bool
) -> Progress:
    """Writes results frame by frame, and shows progress.

    After Ctrl-C, or where a frame cannot be read, the outputs hold the frames before it. The error is raised then.
    """
    progress, error = Progress(total), None
    with deferred_interrupt() as interrupt, open_writers(outs, spec, force) as add, contextlib.closing(progress):
        try:
            for result in results:
                add(result)
                progress.add()
                if interrupt.requested:
                    break
        except FrameError as frame_error:
            error = frame_error
        if not progress.done:
            raise error or KeyboardInterrupt
    progress.print_summary()
    print("\n".join(f"written: {out}" for out in outs))
    if error is not None:
        raise FrameError(f"{error} The {progress.done} frames before it are written.")
    if interrupt.requested:
        raise KeyboardInterrupt
    return progress


def track_video(predictor: VideoPredictor, video: Video, prompts: Sequence[Prompt]) -> Iterator[FrameResult]:
    """Tracks objects through a whole video, and yields its frames in order.

    Frames before the first prompted one are tracked backward from it, and their masks are kept as run-length encodings
    until all of them are known.

    Args:
        predictor: A predictor whose masks do not overlap, where outputs need that.
        video: The video.
        prompts: At least one; all with object ids.
    """
    state = predictor.init_state(video, keep="nothing")
    for prompt in prompts:
        if prompt.mask is not None:
            predictor.add_new_mask(state, prompt.frame, prompt.obj_id or 0, prompt.mask)
        else:
            predictor.add_new_points_or_box(
                state, prompt.frame, prompt.obj_id or 0, prompt.points, prompt.labels, box=prompt.box
            )
    first, obj_ids = min(prompt.frame for prompt in prompts), state.obj_ids
    backward = [
        [rle_encode(mask) for mask in logits[:, 0] > 0]
        for frame, _, logits in predictor.propagate_in_video(state, first, reverse=True)
        if frame < first
    ]
    for frame, (pixels, masks) in enumerate(zip(video.frames(0, first), reversed(backward), strict=True)):
        yield FrameResult(frame, pixels, obj_ids, np.stack([rle_decode(mask) for mask in masks]))
    forward = predictor.propagate_in_video(state, first)
    for pixels, (frame, _, logits) in zip(video.frames(first), forward, strict=True):
        yield FrameResult(frame, pixels, obj_ids, logits[:, 0] > 0)
