"""Draws docs/pictures/demo.gif, the prompts and masks of `edgetam-jax demo`: python tools/draw_demo.py [MODEL]"""

import sys
from pathlib import Path

import numpy as np

from edgetam_jax.checkpoints.api import EMBEDDED, load
from edgetam_jax.cli.demo import CLIP, CONFIG, FPS, draw_prompted, make_prompts
from edgetam_jax.cli.options import keep_compiled
from edgetam_jax.cli.track import track_video
from edgetam_jax.evaluation.held_out import held_out_clip
from edgetam_jax.media.atomic import replacing
from edgetam_jax.media.video import open_video
from edgetam_jax.media.video_writer import FrameTiming, GifWriter
from edgetam_jax.tracking.predictor import VideoPredictor

OUT = Path(__file__).parents[1] / "docs" / "pictures" / "demo.gif"
PAUSE = 1.5  # seconds for which the first frame, with its prompts, is shown


def main() -> None:
    keep_compiled()
    predictor = VideoPredictor(load(sys.argv[1] if len(sys.argv) > 1 else EMBEDDED), non_overlap_masks=True)
    clip = held_out_clip(CLIP, CONFIG)
    prompts = make_prompts(clip)
    with open_video(np.asarray(clip.frames)) as video:
        results = list(track_video(predictor, video, prompts))
    pictures = [draw_prompted(results[0], prompts), *(result.picture for result in results[1:])]
    seconds = [0.0, *(PAUSE + frame / FPS for frame in range(len(results) - 1))]
    with replacing(OUT, force=True) as partial:
        writer = GifWriter(partial, pictures[0].shape[:2], FrameTiming(FPS, seconds))
        for picture in pictures:
            writer.add(picture)
        writer.finish()
    print(f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
