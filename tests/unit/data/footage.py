"""Small datasets to train on, in all layouts: things of one colour each that move over a background of another."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from edgetam_jax.ops.rle import rle_compress, rle_encode
from tests.unit.evaluation.folders import save_ids

HEIGHT, WIDTH = 48, 64
COLORS = np.array(
    [[20, 40, 60], [220, 30, 30], [30, 220, 30], [30, 30, 220]], np.uint8
)  # the background's is the first


def masks_at(frame: int, objects: int = 2) -> np.ndarray:
    """[O, H, W]: boxes one below the other that go to the right, each at its own pace."""
    masks = np.zeros((objects, HEIGHT, WIDTH), bool)
    for i in range(objects):
        left = 4 + 2 * frame * (i + 1) // 2
        masks[i, 4 + 14 * i : 14 + 14 * i, left : left + 16] = True
    return masks


def ids_at(frame: int, objects: int = 2) -> np.ndarray:
    return np.max(masks_at(frame, objects) * np.arange(1, objects + 1)[:, None, None], 0, initial=0).astype(np.uint8)


def frame_at(frame: int, objects: int = 2) -> np.ndarray:
    return COLORS[ids_at(frame, objects)]


def save_png_frames(folder: Path, numbers: Sequence[int], objects: int = 2) -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        Image.fromarray(frame_at(number, objects)).save(folder / f"{number:05d}.png")


def make_videos(root: Path, lengths: dict[str, int], split: str = "train", objects: int = 2) -> Path:
    """As MOSE and YouTube-VOS. PNG frames keep colours as they are."""
    for name, length in lengths.items():
        save_png_frames(root / split / "JPEGImages" / name, range(length), objects)
        for frame in range(length):
            save_ids(root / split / "Annotations" / name / f"{frame:05d}.png", ids_at(frame, objects))
    return root


def save_mp4(path: Path, count: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = HEIGHT, WIDTH, "yuv420p", 4_000_000
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_at(number), format="rgb24")))
        container.mux(stream.encode())


def save_masklets(path: Path, rows: Sequence[Sequence[np.ndarray | None]]) -> None:
    rles = [[None if mask is None else rle_compress(rle_encode(mask)) for mask in row] for row in rows]
    path.write_text(json.dumps({"video_id": path.stem, "masklet": rles}))


def make_sav_training(root: Path, name: str, count: int, as_file: bool) -> Path:
    """Object 0 by people, object 1 by a machine; every fourth frame is annotated."""
    root.mkdir(parents=True, exist_ok=True)
    for number, kind in enumerate(("manual", "auto")):
        save_masklets(root / f"{name}_{kind}.json", [[masks_at(4 * k)[number]] for k in range((count + 3) // 4)])
    if as_file:
        save_mp4(root / f"{name}.mp4", count)
    else:
        save_png_frames(root / name, range(0, count, 4))
    return root


def box_polygon(mask: np.ndarray) -> list[float]:
    rows, columns = np.nonzero(mask)
    x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return [float(n) for n in (x0, y0, x1, y0, x1, y1, x0, y1)]


def make_coco(root: Path, images: int, split: str = "train2017") -> Path:
    """Object 0 as a polygon, 1 as run-lengths; besides, a crowd, something empty, and an image without objects."""
    (root / "annotations").mkdir(parents=True)
    (root / split).mkdir()
    annotations: list[dict[str, Any]] = []
    for image in range(images):
        Image.fromarray(frame_at(image)).save(root / split / f"{image:03d}.png")
        first, second = masks_at(image)
        annotations += [
            {"image_id": image, "iscrowd": 0, "segmentation": [box_polygon(first)]},
            {"image_id": image, "iscrowd": 0, "segmentation": rle_encode(second)},
            {"image_id": image, "iscrowd": 1, "segmentation": rle_encode(first | second)},
            {"image_id": image, "iscrowd": 0, "segmentation": [[1.0, 1.0, 5.0, 5.0]]},
        ]
    entries = [
        {"id": i, "file_name": f"{i:03d}.png", "height": HEIGHT, "width": WIDTH, "license": 1}
        for i in range(images + 1)
    ]
    content = {"images": entries, "annotations": annotations}
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def make_sa1b(root: Path, images: int) -> Path:
    root.mkdir(parents=True)
    for image in range(images):
        Image.fromarray(frame_at(image)).save(root / f"sa_{image}.png")
        found = [{"segmentation": rle_compress(rle_encode(mask)), "area": int(mask.sum())} for mask in masks_at(image)]
        content = {"image": {"height": HEIGHT, "width": WIDTH}, "annotations": found}
        (root / f"sa_{image}.json").write_text(json.dumps(content))
    return root
