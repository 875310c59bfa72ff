"""`edgetam-jax track VIDEO --point X,Y`: follows objects through a video, and writes it with their masks."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgetam_jax.cli import options, prompts
from edgetam_jax.cli.interrupt import finish_first
from edgetam_jax.cli.outputs import SUFFIXES, Clip, FrameResult, check_free, writing
from edgetam_jax.cli.progress import Progress
from edgetam_jax.errors import ConfigError, FrameError
from edgetam_jax.media.video import Video, open_video
from edgetam_jax.media.video_writer import FrameTiming
from edgetam_jax.ops.rle import rle_decode, rle_encode
from edgetam_jax.prompts import Prompt
from edgetam_jax.tracking.predictor import VideoPredictor

FPS = 24.0  # of folders of frames

EXAMPLES = """\
  edgetam-jax track clip.mp4 --point 210,350
  edgetam-jax track clip.mp4 --point 1:210,350 --negative 1:250,300 --box 2:300,0,500,400 --out both.mp4
  edgetam-jax track frames/ --mask first.png --out masks/ --out masks.json
  edgetam-jax track clip.mp4 --point 210,350,60   (on frame 60; frames before it are tracked backward)"""


def main(argv: Sequence[str] | None = None) -> int:
    return options.run(_track, _parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = options.make_parser(
        "track",
        "Follow objects through a video. Click each once, or draw a box around it, on any frame; correct it on others.",
        EXAMPLES,
    )
    parser.add_argument(
        "video", type=Path, help="a video file, a GIF, or a folder of frames in the order of their names"
    )
    prompts.add_prompt_options(parser, frames=True)
    kinds = "; ".join(f"{suffix or 'no suffix'}: {what}" for suffix, what in SUFFIXES.items())
    parser.add_argument(
        "-o", "--out", type=Path, action="append", help=f"output, many times if you like (NAME-track.mp4). {kinds}"
    )
    parser.add_argument("--fps", type=float, help=f"frames a second, instead of the video's ({FPS:g} for a folder)")
    options.add_force_option(parser)
    return parser


def _track(arguments: argparse.Namespace) -> None:
    if arguments.fps is not None and not 1 <= arguments.fps <= 1000:
        raise ConfigError(f"--fps is {arguments.fps:g}; expected 1 to 1000 frames a second.")
    outs = arguments.out or [Path(f"{arguments.video.resolve().stem}-track.mp4")]
    options.check_outputs(outs, SUFFIXES)
    check_free(outs, arguments.force)
    with open_video(arguments.video) as video:
        said = prompts.gather(arguments)
        prompts.check(said, (video.height, video.width), len(video))
        predictor = VideoPredictor(options.open_model(arguments), non_overlap_masks=True)
        write(follow(predictor, video, said), outs, clip_of(video, said, arguments.fps), len(video), arguments.force)


def clip_of(video: Video, said: Sequence[Prompt], fps: float | None) -> Clip:
    pace = FrameTiming(fps) if fps else FrameTiming(video.fps or FPS, video.seconds)
    return Clip((video.height, video.width), pace, objects_of(said))


def objects_of(said: Sequence[Prompt]) -> list[int]:
    return list(dict.fromkeys(prompt.obj_id for prompt in said if prompt.obj_id is not None))


def write(frames: Iterator[FrameResult], outs: Sequence[Path], clip: Clip, total: int, force: bool) -> Progress:
    """Frame by frame. What is done is kept where the user stops it, and where a frame cannot be read."""
    progress, broken = Progress(total), None
    with finish_first() as interrupt, writing(outs, clip, force) as add:
        try:
            for seen in frames:
                add(seen)
                progress.add()
                if interrupt.asked:
                    break
        except FrameError as error:
            broken = error
        if not progress.done:
            raise broken or KeyboardInterrupt
    progress.close()
    print("\n".join(f"written: {out}" for out in outs))
    if broken is not None:
        raise FrameError(f"{broken} The {progress.done} frames before it are written.")
    if interrupt.asked:
        raise KeyboardInterrupt
    return progress


def follow(predictor: VideoPredictor, video: Video, said: Sequence[Prompt]) -> Iterator[FrameResult]:
    """Every frame of the video: those before the first prompt are tracked backward from it, first of all."""
    state = predictor.init_state(video, keep="nothing")
    for prompt in said:
        if prompt.mask is not None:
            predictor.add_new_mask(state, prompt.frame, prompt.obj_id or 0, prompt.mask)
        else:
            predictor.add_new_points_or_box(
                state, prompt.frame, prompt.obj_id or 0, prompt.points, prompt.labels, box=prompt.box
            )
    first, obj_ids = min(prompt.frame for prompt in said), state.obj_ids
    back = [
        [rle_encode(mask) for mask in logits[:, 0] > 0]
        for frame, _, logits in predictor.propagate_in_video(state, first, reverse=True)
        if frame < first
    ]
    for frame, (pixels, masks) in enumerate(zip(video.frames(0, first), reversed(back), strict=True)):
        yield FrameResult(frame, pixels, obj_ids, np.stack([rle_decode(mask) for mask in masks]))
    forward = predictor.propagate_in_video(state, first)
    for pixels, (frame, _, logits) in zip(video.frames(first), forward, strict=True):
        yield FrameResult(frame, pixels, obj_ids, logits[:, 0] > 0)
