"""Small datasets in the layouts of the benchmarks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from edgetam_jax.media.palette import davis_palette

HEIGHT, WIDTH = 12, 16


def square(x: int, y: int, side: int = 4) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def ids_of(masks: Mapping[int, np.ndarray]) -> np.ndarray:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for obj_id, mask in masks.items():
        ids[mask] = obj_id
    return ids


def save_ids(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids.astype(np.uint8))
    image.putpalette(davis_palette().tobytes())
    image.save(path)


def save_frames(folder: Path, count: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    folder.mkdir(parents=True)
    for frame in range(count):
        Image.new("RGB", size[::-1], (frame, 0, 0)).save(folder / f"{frame:05d}.jpg")


def make_davis(root: Path, videos: Mapping[str, Sequence[np.ndarray]], split: str = "val") -> Path:
    for name, annotations in videos.items():
        save_frames(root / "JPEGImages" / "480p" / name, len(annotations))
        for frame, ids in enumerate(annotations):
            save_ids(root / "Annotations" / "480p" / name / f"{frame:05d}.png", ids)
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / f"{split}.txt").write_text("".join(f"{name}\n" for name in videos))
    return root


def make_mose(root: Path, name: str, count: int, annotations: Mapping[int, np.ndarray]) -> Path:
    """Also YouTube-VOS."""
    save_frames(root / "valid" / "JPEGImages" / name, count)
    for frame, ids in annotations.items():
        save_ids(root / "valid" / "Annotations" / name / f"{frame:05d}.png", ids)
    return root


def make_sav(root: Path, name: str, count: int, objects: Mapping[str, Mapping[int, np.ndarray]]) -> Path:
    save_frames(root / "JPEGImages_24fps" / name, count)
    for obj, masks in objects.items():
        for frame, mask in masks.items():
            save_ids(root / "Annotations_6fps" / name / obj / f"{frame:05d}.png", mask * 255)
    (root / "sav_val.txt").write_text(f"{name}\n")
    return root
