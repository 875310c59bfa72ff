"""Cuts things out of photographs that each show one thing on a floor or a hanger, by GrabCut.

    python recipes/nano/cut_out.py PHOTOGRAPHS OUT    # needs opencv-python-headless

Two cuts are made of each photograph, which differ in the margin that surely is background. It is used where both agree,
and where the thing is large, in one piece and away from most of the photograph's border; the others are left out.
OUT/cutouts holds PNG with alpha, under the names of the photographs, and OUT is a dataset in COCO's layout, with the
photographs and the masks of the things.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from edgetam_jax.ops.rle import rle_encode

MARGINS = (0.02, 0.07)  # shares of width and height
ROUNDS = 5  # of GrabCut
AGREE = 0.93  # the IoU of the two cuts
SHARE = (0.08, 0.65)  # of the photograph that is the thing
AT_BORDER = 0.06  # the largest share of the photograph's border that the thing may touch
SOLID = 0.7  # the smallest share of its convex hull that it fills
MIN_PIECE = 0.9  # the smallest share of the cut that is in one piece
SOFTEN = 0.8  # pixels, the deviation of the blur of its edge


def main() -> None:
    source, out = map(Path, sys.argv[1:])
    (out / "cutouts").mkdir(parents=True, exist_ok=True)
    paths = sorted(source.glob("*.jpg"))
    if not paths:
        sys.exit(f"{source} holds no photographs; expected *.jpg.")
    for path in paths:
        image = np.asarray(Image.open(path).convert("RGB"))
        mask = cut_out(image)
        if mask is not None:
            alpha = cv2.GaussianBlur(255 * mask.astype(np.uint8), (0, 0), SOFTEN)
            alpha[cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0] = 255
            Image.fromarray(np.dstack([image, alpha])).save(out / "cutouts" / f"{path.stem}.png")
    write_annotations(source, out)
    print(f"{len(list((out / 'cutouts').iterdir()))} of {len(paths)} photographs")


def write_annotations(source: Path, out: Path) -> None:
    """The cut-outs as masks of the photographs, in COCO's layout."""
    images, annotations = [], []
    for number, path in enumerate(sorted((out / "cutouts").glob("*.png"))):
        mask = np.asarray(Image.open(path))[..., 3] >= 128
        height, width = mask.shape
        images.append({"id": number, "file_name": f"{path.stem}.jpg", "height": height, "width": width})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "segmentation": rle_encode(mask)})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (out / "annotations").mkdir(exist_ok=True)
    (out / "annotations" / "instances_train.json").write_text(json.dumps(content))
    link = out / "images"
    if not link.exists():
        link.symlink_to(source.resolve())


def cut_out(image: np.ndarray) -> np.ndarray | None:
    """The thing that a photograph [H, W, 3] shows, or None where that is not sure: [H, W] bool."""
    cuts = [grab_cut(image, margin) for margin in MARGINS]
    union = np.logical_or(*cuts).sum()
    if not union or np.logical_and(*cuts).sum() < AGREE * union:
        return None
    mask, whole = largest_piece(cuts[0])
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if not SHARE[0] < mask.mean() < SHARE[1] or whole < MIN_PIECE or border.mean() > AT_BORDER:
        return None
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.contourArea(cv2.convexHull(np.concatenate(contours)))
    return mask if mask.sum() > SOLID * hull else None


def grab_cut(image: np.ndarray, margin: float) -> np.ndarray:
    height, width = image.shape[:2]
    x, y = max(2, round(margin * width)), max(2, round(margin * height))
    mask = np.zeros((height, width), np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(
        image[..., ::-1].copy(), mask, (x, y, width - 2 * x, height - 2 * y), *models, ROUNDS, cv2.GC_INIT_WITH_RECT
    )
    found = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    return cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0


def largest_piece(mask: np.ndarray) -> tuple[np.ndarray, float]:
    """The largest piece, with small holes filled, and its share of all."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask, 0.0
    piece = labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])
    share = piece.sum() / mask.sum()
    holes, labels, stats, _ = cv2.connectedComponentsWithStats((~piece).astype(np.uint8))
    for hole in range(1, holes):
        if stats[hole, cv2.CC_STAT_AREA] < 0.01 * piece.sum():
            piece = piece | (labels == hole)
    return piece, share


if __name__ == "__main__":
    main()
