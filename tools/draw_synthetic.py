"""Draws docs/pictures/synthetic.jpg: synthetic clips with their ground truth."""

from pathlib import Path

import jax
import numpy as np
from PIL import Image

from edgetam_jax.data.synthetic import ClipConfig, make_clip
from edgetam_jax.media.visualize import contact_sheet, overlay

OUT = Path(__file__).parents[1] / "docs" / "pictures" / "synthetic.jpg"
CLIPS, EVERY = 4, 4


def main() -> None:
    config = ClipConfig(frames=24)
    tiles, titles = [], []
    for number in range(CLIPS):
        clip = jax.tree.map(np.asarray, make_clip(jax.random.key(100 + number), config))
        for frame in range(0, config.frames, EVERY):
            tiles.append(overlay(clip.frames[frame], clip.masks[frame], alpha=0.35))
            titles.append(f"clip {number + 1}, frame {frame}")
    sheet = contact_sheet(tiles, titles, columns=config.frames // EVERY, width=1200)
    Image.fromarray(sheet).save(OUT, quality=85)


if __name__ == "__main__":
    main()
