"""Draws docs/pictures/synthetic.jpg: synthetic clips with their ground truth; with a bank, real_layers.jpg."""

import sys
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from edgetam_jax.data.bank import read_bank
from edgetam_jax.data.synthetic import ClipConfig, make_clip
from edgetam_jax.media.visualize import contact_sheet, overlay

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
CLIPS, EVERY = 4, 4


def main() -> None:
    config = ClipConfig(frames=24)
    bank = read_bank(sys.argv[1]).textures if sys.argv[1:] else None
    tiles, titles = [], []
    for number in range(CLIPS):
        clip = jax.tree.map(np.asarray, make_clip(jax.random.key(100 + number), config, bank))
        for frame in range(0, config.frames, EVERY):
            tiles.append(overlay(clip.frames[frame], clip.masks[frame], alpha=0.35))
            titles.append(f"clip {number + 1}, frame {frame}")
    sheet = contact_sheet(tiles, titles, columns=config.frames // EVERY, width=1200)
    Image.fromarray(sheet).save(PICTURES / ("real_layers.jpg" if bank else "synthetic.jpg"), quality=85)


if __name__ == "__main__":
    main()
