"""Videos as folders of JPEG files, which both networks read."""

from pathlib import Path

import numpy as np
from PIL import Image

from edgetam_jax.media.video import open_video


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Structure at all scales, the large ones strongest, as photographs have it."""
    total, weight, side = np.zeros((height, width, 3)), 1.0, 3
    while side <= max(height, width):
        octave = rng.normal(size=(3, side, side)).astype(np.float32)
        resized = [Image.fromarray(x).resize((width, height), Image.Resampling.BICUBIC) for x in octave]
        total += weight * np.stack([np.asarray(x) for x in resized], -1)
        side, weight = 2 * side, 0.6 * weight
    return total / total.std()


def write_video(folder: Path, count: int, height: int, width: int) -> np.ndarray:
    """The camera pans while two textured disks cross; returns what the JPEG files hold."""
    rng = np.random.default_rng(0)
    ground = noise(rng, 2 * height, 2 * width)
    things = [0.7 * noise(rng, height, width) + 1.5 * rng.normal(size=3) for _ in range(2)]
    y, x = np.mgrid[:height, :width]
    folder.mkdir()
    for t in range(count):
        top, left = t * height // 160, t * width // 100
        frame = ground[top : top + height, left : left + width].copy()
        for thing, (cx, cy, radius) in zip(
            things, ((0.3 + 0.02 * t, 0.4, 0.2), (0.7 - 0.01 * t, 0.6, 0.15)), strict=True
        ):
            disk = (x / width - cx) ** 2 + (y / width - cy * height / width) ** 2 < radius**2
            frame[disk] = np.roll(thing, int(cx * width), 1)[disk]
        pixels = np.clip(128 + 48 * frame, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{t:05d}.jpg", quality=95)
    return read_back(folder)


def write_real_video(folder: Path, clip: Path, count: int, height: int, width: int) -> np.ndarray:
    """The middle of a clip's first frames."""
    folder.mkdir()
    with open_video(clip) as video:
        top, left = (video.height - height) // 2, (video.width - width) // 2
        for t, frame in enumerate(video.frames(stop=count)):
            pixels = frame[top : top + height, left : left + width]
            Image.fromarray(pixels).save(folder / f"{t:05d}.jpg", quality=95)
    return read_back(folder)


def read_back(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
