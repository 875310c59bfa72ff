"""Draws docs/pictures/demo.gif, what `edgetam-jax demo` is told and what it finds: python tools/draw_demo.py [MODEL]"""

import sys
from pathlib import Path

import numpy as np

from edgetam_jax.checkpoints.api import EMBEDDED, load
from edgetam_jax.cli.demo import CLIP, CONFIG, FPS, prompted_picture, prompts_for
from edgetam_jax.cli.options import keep_compiled
from edgetam_jax.cli.track import follow
from edgetam_jax.evaluation.held_out import held_out_clip
from edgetam_jax.media.atomic import replacing
from edgetam_jax.media.video import open_video
from edgetam_jax.media.video_writer import FrameTiming, GifWriter
from edgetam_jax.tracking.predictor import VideoPredictor

OUT = Path(__file__).parents[1] / "docs" / "pictures" / "demo.gif"
PAUSE = 1.5  # seconds during which the first frame, with what is said about it, stays


def main() -> None:
    keep_compiled()
    predictor = VideoPredictor(load(sys.argv[1] if len(sys.argv) > 1 else EMBEDDED), non_overlap_masks=True)
    clip = held_out_clip(CLIP, CONFIG)
    said = prompts_for(clip)
    with open_video(np.asarray(clip.frames)) as video:
        seen = list(follow(predictor, video, said))
    pictures = [prompted_picture(seen[0], said), *(one.picture for one in seen[1:])]
    seconds = [0.0, *(PAUSE + frame / FPS for frame in range(len(seen) - 1))]
    with replacing(OUT, force=True) as partial:
        writer = GifWriter(partial, pictures[0].shape[:2], FrameTiming(FPS, seconds))
        for picture in pictures:
            writer.add(picture)
        writer.finish()
    print(f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
