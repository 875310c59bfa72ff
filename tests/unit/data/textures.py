"""Small folders of pictures for a bank."""

from pathlib import Path

import numpy as np
from PIL import Image

GREY = 40  # of the first photograph


def make_folders(root: Path) -> dict[str, Path]:
    """Two photographs, two clips that get brighter, and four white cut-outs, two of which differ in the skin's tone."""
    folders = {kind: root / kind for kind in ("photographs", "clips", "cutouts")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    Image.new("RGB", (96, 64), (GREY,) * 3).save(folders["photographs"] / "0.png")
    Image.new("RGB", (48, 96), (2 * GREY,) * 3).save(folders["photographs"] / "1.png")
    for name, first, count in (("a", 0, 3), ("b", 100, 5)):
        (folders["clips"] / name).mkdir()
        for frame in range(count):
            Image.new("RGB", (80, 64), (first + 10 * frame,) * 3).save(folders["clips"] / name / f"{frame}.png")
    y, x = np.mgrid[:64, :64] - 31.5
    disk, wide = np.hypot(y, x) < 25, (abs(y) < 14) & (abs(x) < 28)
    square = (abs(y) < 20) & (abs(x) < 20)
    for name, mask in (("1f44b-1f3fb", disk), ("1f44b", disk), ("a", wide), ("b", square)):
        alpha = 255 * mask.astype(np.uint8)
        rgba = np.stack([np.where(mask, 250, 0).astype(np.uint8)] * 3 + [alpha], -1)
        Image.fromarray(rgba).save(folders["cutouts"] / f"{name}.png")
    return folders
