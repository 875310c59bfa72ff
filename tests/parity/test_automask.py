"""`AutomaticMaskGenerator` beside the original's: the same settings on the same picture, every record compared."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from edgetam_jax.images import automask_jit
from edgetam_jax.images.automask import AutomaticMaskGenerator
from edgetam_jax.images.crops import Crop, make_crops
from edgetam_jax.images.segment import encode_image
from edgetam_jax.model import Model
from edgetam_jax.ops.rle import rle_decode
from tests.parity.pairs import Pair
from tests.support import oracle
from tests.support.tolerances import FLIPPED_PIXELS, IOU_ATOL, MASK_LOGITS_ATOL, REFINED_IOU_ATOL

HEIGHT, WIDTH = 240, 320
SIDE = 6
EVERYTHING = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0, "crop_nms_thresh": 1.0}
# Masks of random networks are noise all over the picture; above a high threshold they have many sizes.
COMPACT = {"mask_threshold": 20.0}
Records = list[dict[str, Any]]


def drawn(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


class Both:
    """Two generators on one picture."""

    def __init__(self, pair: Pair, picture: np.ndarray, side: int) -> None:
        self.original, self.picture = pair.torch, picture
        self.model: Model = jax.tree.map(jnp.asarray, pair.model)
        self.shared = {"points_per_side": side, "points_per_batch": 16, "output_mode": "uncompressed_rle"}

    def theirs(self, settings: dict[str, Any]) -> tuple[Any, Records]:
        generator = oracle.build_generator(self.original, **self.shared | settings)
        return generator, generator.generate(self.picture)

    def compare(self, **settings: Any) -> Records:
        """Holds all records against the original's, and returns those."""
        generator, want = self.theirs(settings)
        got = AutomaticMaskGenerator(self.model, **self.shared | settings).generate(self.picture)
        assert len(got) == len(want) > 0
        for ours, theirs in zip(got, want, strict=True):
            self._compare(ours, theirs, generator)
        return want

    def _compare(self, ours: dict[str, Any], theirs: dict[str, Any], generator: Any) -> None:
        assert ours.keys() == theirs.keys()
        for key in ("point_coords", "crop_box", "bbox"):
            assert ours[key] == theirs[key], key
        atol = REFINED_IOU_ATOL if generator.use_m2m else IOU_ATOL
        assert abs(ours["predicted_iou"] - theirs["predicted_iou"]) <= atol
        mask, reference = rle_decode(ours["segmentation"]), rle_decode(theirs["segmentation"])
        assert ours["area"] == mask.sum()
        differ = mask != reference
        assert differ.sum() <= FLIPPED_PIXELS
        assert abs(ours["stability_score"] - theirs["stability_score"]) * theirs["area"] <= FLIPPED_PIXELS
        if differ.any():
            distance = self._logits(theirs, generator)[differ] - generator.mask_threshold
            assert np.abs(distance).max() <= MASK_LOGITS_ATOL
        else:
            assert ours["segmentation"] == theirs["segmentation"]

    def _logits(self, record: dict[str, Any], generator: Any) -> np.ndarray:
        """The original's logits [H, W] of a mask that it has thrown away."""
        x, y, width, height = map(int, record["crop_box"])
        generator.predictor.set_image(self.picture[y : y + height, x : x + width])
        point = torch.tensor(record["point_coords"]) - torch.tensor([x, y])
        data = {"multimask_output": generator.multimask_output, "return_logits": True}
        point = generator.predictor._transforms.transform_coords(point, True, (height, width))
        label = torch.ones(1, dtype=torch.int)
        logits, ious, low = generator.predictor._predict(point[:, None], label[:, None], **data)
        logits, ious = logits[0], ious[0]
        if generator.use_m2m:
            count = low.shape[1]
            logits, ious = generator.refine_with_m2m(point.repeat(count, 1), label.repeat(count), low[0], count)
        best = int((ious.flatten() - record["predicted_iou"]).abs().argmin())
        full = np.full(self.picture.shape[:2], -np.inf, np.float32)
        full[y : y + height, x : x + width] = logits.reshape(-1, height, width)[best].numpy()
        return full


def between(values: Any, share: float) -> float:
    """A threshold that leaves out about this share, as far as possible from every value nearby."""
    ordered = np.sort(np.asarray(values, np.float64))
    low, high = (int(np.clip(round((share + d) * len(ordered)), 0, len(ordered) - 1)) for d in (-0.1, 0.1))
    gap = low + int(np.argmax(np.diff(ordered[low : high + 1])))
    return float((ordered[gap] + ordered[gap + 1]) / 2)


def thresholds(everything: Records, drop: float = 0.15) -> dict[str, float]:
    """Predicted IoU and stability that some masks reach and some miss."""
    iou = between([record["predicted_iou"] for record in everything], drop)
    good = [record for record in everything if record["predicted_iou"] > iou]
    stability = between([score for record in good if (score := record["stability_score"]) > 0], drop)
    stable = [record for record in good if record["stability_score"] >= stability]
    assert len(everything) > len(good) > len(stable) > 2
    return {"pred_iou_thresh": iou, "stability_score_thresh": stability}


@pytest.fixture(scope="module")
def both(tiny_pair: Pair) -> Both:
    return Both(tiny_pair, drawn(HEIGHT, WIDTH), SIDE)


def test_every_mask_of_a_grid(both: Both) -> None:
    records = both.compare(**EVERYTHING)
    assert len(records) == 3 * SIDE**2
    assert len({record["area"] for record in records}) > len(records) / 2


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"multimask_output": False, "mask_threshold": 23.0, "stability_score_offset": 0.3},
        {"use_m2m": True, "mask_threshold": 8.0, "points_per_side": 4},
        {"points_per_side": None, "point_grids": [np.random.default_rng(0).uniform(0, 1, (21, 2))]},
    ],
    ids=["plain", "one mask a point", "refined", "own grid"],
)
def test_filters(both: Both, settings: dict[str, Any]) -> None:
    settings = COMPACT | settings
    _, everything = both.theirs(settings | EVERYTHING)
    limits = thresholds(everything)
    duplicates = both.compare(**settings | EVERYTHING | limits)
    kept = both.compare(**settings | limits, box_nms_thresh=0.9)
    assert 2 < len(kept) < len(duplicates) < len(everything)


def test_crops(both: Both) -> None:
    settings = {"mask_threshold": 30.0, "crop_n_layers": 1, "crop_n_points_downscale_factor": 2}
    _, everything = both.theirs(settings | EVERYTHING)
    assert len(everything) < 3 * (SIDE**2 + 4 * (SIDE // 2) ** 2)  # crops cut some off
    limits = thresholds(everything)
    limits["box_nms_thresh"] = 0.9
    in_crops = both.compare(**settings | EVERYTHING | limits)
    kept = both.compare(**settings | limits, crop_nms_thresh=0.5)
    assert 2 < len(kept) < len(in_crops) < len(everything)
    assert len({tuple(record["crop_box"]) for record in kept}) > 2
    assert kept[-1]["crop_box"] == [0, 0, WIDTH, HEIGHT]


def test_small_regions(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """The original does this only with its CUDA extension: here with what that extension computes."""

    def components(masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        labels = np.stack([ndimage.label(mask, np.ones((3, 3)))[0] for mask in masks[:, 0].numpy()])[:, None]
        areas = np.stack([np.bincount(each.ravel())[each] for each in labels])
        return torch.from_numpy(labels), torch.from_numpy(areas)

    before = both.compare(**EVERYTHING, multimask_output=False)
    monkeypatch.setattr("sam2.utils.misc.get_connected_components", components)
    cleaned = both.compare(**EVERYTHING, multimask_output=False, min_mask_region_area=6)
    assert sum(a["area"] != b["area"] for a, b in zip(before, cleaned, strict=True)) > len(before) / 2


def test_compressed_run_lengths_and_bitmaps(both: Both) -> None:
    pytest.importorskip("pycocotools.mask")
    settings = EVERYTHING | COMPACT | {"multimask_output": False, "points_per_side": 4}
    for mode in ("coco_rle", "binary_mask"):
        _, want = both.theirs(settings | {"output_mode": mode})
        got = AutomaticMaskGenerator(both.model, **both.shared | settings | {"output_mode": mode})
        equal = 0
        for ours, theirs in zip(got.generate(both.picture), want, strict=True):
            a, b = ours["segmentation"], theirs["segmentation"]
            equal += a == b if mode == "coco_rle" else np.array_equal(a, b)
            assert type(a) is type(b)
        assert equal >= len(want) - 1  # but for a pixel at the threshold


def test_hugging_faces_filters(both: Both) -> None:
    """The port's own functions, on this network's masks."""
    from transformers.models.sam2.image_processing_sam2 import Sam2ImageProcessor

    processor, size = Sam2ImageProcessor(), (HEIGHT, WIDTH)
    layers = {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}
    settings = both.shared | COMPACT | layers | {"filters": "hf", "output_mode": "binary_mask"}
    everything = AutomaticMaskGenerator(both.model, **settings | EVERYTHING)
    limits = thresholds(everything.generate(both.picture), drop=0.1)
    ours = AutomaticMaskGenerator(both.model, **settings | limits, crop_nms_thresh=0.7)
    masks, scores, boxes = [], [], []
    for crop in make_crops(size, ours.crop_n_layers, ours.crop_overlap_ratio):
        low, ious = predict_all(ours, both.picture, crop)
        large = processor.post_process_masks([low], [crop.size], binarize=False)[0]
        iou, stability = limits["pred_iou_thresh"], limits["stability_score_thresh"]
        box = torch.tensor(crop.box)
        found = processor.filter_masks(large, ious, size, box, iou, stability, ours.mask_threshold)
        masks += found[0]
        scores.append(found[1])
        boxes.append(found[2])
    want = processor.post_process_for_mask_generation(masks, torch.cat(scores), torch.cat(boxes), 0.7)
    got = ours.generate(both.picture)
    assert 2 < len(got) == len(want[0]) < len(masks)
    for record, mask, score, box in zip(got, want[0], want[1], want[3], strict=True):
        assert abs(record["predicted_iou"] - float(score)) <= IOU_ATOL
        x, y, width, height = record["bbox"]
        assert [x, y, x + width, y + height] == box.tolist()
        assert np.count_nonzero(record["segmentation"] != mask.numpy()) <= FLIPPED_PIXELS
    assert [record["predicted_iou"] for record in got] == sorted((r["predicted_iou"] for r in got), reverse=True)


def predict_all(
    generator: AutomaticMaskGenerator, picture: np.ndarray, crop: Crop
) -> tuple[torch.Tensor, torch.Tensor]:
    """This model's masks for the whole grid of a crop."""
    x0, y0, x1, y1 = crop.box
    features = encode_image(generator.model, picture[y0:y1, x0:x1])
    points = generator._grids[crop.layer].astype(np.float32)
    padding = -len(points) % generator.points_per_batch
    batches = np.pad(points, ((0, padding), (0, 0))).reshape(-1, generator.points_per_batch, 2)
    predictions = [
        automask_jit.predict_points(generator.model, features, batch, len(batch), True, False) for batch in batches
    ]
    logits, ious = (np.concatenate(part)[: len(points)] for part in zip(*predictions, strict=True))
    return torch.tensor(logits), torch.tensor(ious)


def pictures() -> list[Any]:
    """Photographs, where a folder of them is named; else a drawn picture of such a size."""
    folder = Path(os.environ.get("EDGETAM_MEDIA", "nowhere"))
    found = [folder / name for name in ("truck.jpg", "groceries.jpg") if (folder / name).exists()]
    return found or [(600, 900)]


@pytest.mark.parametrize("picture", pictures(), ids=lambda x: x.name if isinstance(x, Path) else "drawn")
def test_at_full_size(full_pair: Pair, picture: Any) -> None:
    pixels = np.array(Image.open(picture).convert("RGB")) if isinstance(picture, Path) else drawn(*picture)
    both = Both(full_pair, pixels, side=4)
    _, everything = both.theirs(COMPACT | EVERYTHING)
    limits = thresholds(everything)
    kept = both.compare(**COMPACT | limits, box_nms_thresh=0.9)
    assert 1 < len(kept) < len(everything)
