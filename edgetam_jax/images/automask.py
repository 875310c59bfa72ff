"""`AutomaticMaskGenerator`: masks of everything in an image, from a grid of clicks, as SAM 2 makes them.

For each crop of the image, in batches of one size: click every point, drop masks that the network thinks little of,
enlarge what is left, drop what changes with the threshold and what the crop cuts off. Masks stay on the device until
they are run-lengths, so memory does not grow with the number of points. Duplicates go last.
"""

import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import jax
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from edgetam_jax.checkpoints.api import from_pretrained
from edgetam_jax.errors import PromptError
from edgetam_jax.images import automask_jit as programs
from edgetam_jax.images.crops import Crop, check_grids, crops_of, cut_off, point_grids
from edgetam_jax.images.segment import encode_image
from edgetam_jax.media.image import read_image
from edgetam_jax.model import Model
from edgetam_jax.ops.boxes import float32_below, nms
from edgetam_jax.ops.pixels import Rule
from edgetam_jax.ops.rle import counts_of_edges, rle_compress, rle_decode
from edgetam_jax.prompts import bucket, check_count

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]
Filters = Literal["sam2", "hf"]


@dataclasses.dataclass(frozen=True, eq=False)
class AutomaticMaskGenerator:
    """Masks of everything in an image. Arguments, defaults and records are SAM 2's.

    `min_mask_region_area` fills holes and removes islands of up to that many pixels of the network's own masks (256 a
    side at 1024), on any device; SAM 2 does so only with its CUDA extension. `filters="hf"` decides as the Hugging
    Face pipeline does: stability must exceed its threshold, and duplicates are dropped once, over all crops, by
    predicted IoU and `crop_nms_thresh`; that pipeline's `pred_iou_thresh` is 0.88, its `preprocess` "hf".
    """

    model: Model
    points_per_side: int | None = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.8
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    mask_threshold: float = 0.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[ArrayLike] | None = None
    min_mask_region_area: int = 0
    output_mode: OutputMode = "binary_mask"
    use_m2m: bool = False
    multimask_output: bool = True
    _: dataclasses.KW_ONLY
    filters: Filters = "sam2"
    preprocess: Rule = "image"
    progress: bool = False

    def __post_init__(self) -> None:
        _check(self)
        _ = self._grids

    @cached_property
    def _grids(self) -> list[np.ndarray]:
        """Points [P, 2] in 0..1 for each layer of crops."""
        if self.point_grids is not None:
            return check_grids(self.point_grids, self.crop_n_layers)
        return point_grids(self.points_per_side or 0, self.crop_n_layers, self.crop_n_points_downscale_factor)

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> "AutomaticMaskGenerator":
        """A generator with a model from the Hugging Face hub; `kwargs` are those of the generator."""
        return cls(from_pretrained(model_id), **kwargs)

    def generate(self, image: Any) -> list[dict[str, Any]]:
        """Records of all masks in an image, the best first. Images are what `ImagePredictor` takes: arrays, PIL, files.

        Each holds `segmentation` (see `output_mode`), `area`, `bbox` (x, y, width, height), `predicted_iou`,
        `point_coords`, `stability_score` and `crop_box`. With several crops, those of smaller ones come first.
        """
        pixels = read_image(image)
        height, width, _ = pixels.shape
        size = height, width
        crops = crops_of(size, self.crop_n_layers, self.crop_overlap_ratio)
        bar = _Bar(sum(len(self._grids[crop.layer]) for crop in crops), self.progress)
        found: list[_Mask] = []
        for crop in crops:
            room = programs.room([other for other in crops if other.layer == crop.layer])
            view = _View(crop, programs.canvas(self.model.config.mask_size, crop, room), size)
            in_crop = [mask for batch in self._look(pixels, view, bar) for mask in batch]
            if self.filters == "sam2":
                in_crop = _without_duplicates(in_crop, [mask.iou for mask in in_crop], self.box_nms_thresh)
            found += in_crop
        bar.close()
        if self.filters == "hf":
            found = _without_duplicates(found, [mask.iou for mask in found], self.crop_nms_thresh)
        elif len(crops) > 1:
            areas = np.array([math.prod(mask.crop.size) for mask in found], np.float32)
            found = _without_duplicates(found, np.float32(1) / areas, self.crop_nms_thresh)
        return [self._record(mask, size) for mask in found]

    def _look(self, image: np.ndarray, view: "_View", bar: "_Bar") -> Iterator[list["_Mask"]]:
        """What is found in one crop, batch by batch."""
        crop, room = view.crop, self.points_per_batch
        features = encode_image(self.model, image[crop.y0 : crop.y1, crop.x0 : crop.x1], preprocess=self.preprocess)
        scale = np.array(crop.size[::-1])
        for points in _batches((self._grids[crop.layer] * scale).astype(np.float32), room):
            shares, count = points / scale.astype(np.float32), len(points)
            shares = np.pad(shares, ((0, room - count), (0, 0)))
            logits, ious = programs.click(self.model, features, shares, count, self.multimask_output)
            if self.use_m2m:
                logits, ious = programs.refine(self.model, features, shares, count, logits)
            batch = list(self._sift(logits, np.asarray(ious)[:count], points, view))
            bar.add(count, len(batch))
            yield batch

    def _sift(self, logits: Array, ious: np.ndarray, points: np.ndarray, view: "_View") -> Iterator["_Mask"]:
        """The masks of a batch that pass: logits [B, M, h, w] and ious [P, M] of points [P, 2]."""
        (crop, canvas, size), masks, ious = view, ious.shape[1], ious.ravel()
        # A threshold of zero lets everything pass, whatever it is.
        good = np.flatnonzero((ious > np.float32(self.pred_iou_thresh)) | (self.pred_iou_thresh == 0))
        levels = np.float32(self.mask_threshold + np.array([-1, 0, 1]) * self.stability_score_offset)
        clean = self.min_mask_region_area, self.mask_threshold
        for some in _batches(good, canvas.masks_at_once):
            spare = canvas.masks_at_once - len(some)
            places, used = np.pad(some, (0, spare)), np.arange(len(some) + spare) < len(some)
            large = programs.enlarge(logits, places, used, canvas, levels, clean)
            stability, boxes, edges = (np.asarray(part)[: len(some)] for part in large)
            boxes = boxes + np.array([crop.x0, crop.y0, crop.x0, crop.y0])
            for i in np.flatnonzero(self._stable(stability) & ~cut_off(boxes, crop, size)):
                yield _Mask(
                    counts=counts_of_edges(edges[i], (crop.x0, crop.y0), size),
                    box=boxes[i],
                    iou=float(ious[some[i]]),
                    stability=float(stability[i]),
                    point=points[some[i] // masks] + np.array([crop.x0, crop.y0], np.float32),
                    crop=crop,
                )

    def _stable(self, scores: np.ndarray) -> np.ndarray:
        limit = np.float32(self.stability_score_thresh)
        if limit <= 0:
            return np.ones(len(scores), bool)
        return scores > limit if self.filters == "hf" else scores >= limit

    def _record(self, mask: "_Mask", size: tuple[int, int]) -> dict[str, Any]:
        rle = {"size": list(size), "counts": mask.counts.tolist()}
        if self.output_mode == "binary_mask":
            segmentation: Any = rle_decode(rle)
        else:
            segmentation = rle_compress(rle) if self.output_mode == "coco_rle" else rle
        return {
            "segmentation": segmentation,
            "area": int(mask.counts[1::2].sum()),
            "bbox": _xywh(mask.box),
            "predicted_iou": mask.iou,
            "point_coords": [mask.point.tolist()],
            "stability_score": mask.stability,
            "crop_box": _xywh(mask.crop.box),
        }


class _View(NamedTuple):
    """A crop of an image."""

    crop: Crop
    canvas: programs.Canvas
    size: tuple[int, int]  # height and width of the image


class _Mask(NamedTuple):
    """One mask on the host, in the image's frame."""

    counts: np.ndarray  # run-lengths
    box: np.ndarray  # [4] int
    iou: float
    stability: float
    point: np.ndarray  # [2] float32
    crop: Crop


def _without_duplicates(masks: list[_Mask], scores: Any, threshold: float) -> list[_Mask]:
    """In the order of their scores."""
    if not masks:
        return []
    spare = bucket(len(masks), 64) - len(masks)
    boxes = np.pad(np.array([mask.box for mask in masks], np.float32), ((0, spare), (0, 0)))
    valid = np.arange(len(boxes)) < len(masks)
    kept = np.asarray(_nms(boxes, np.pad(np.asarray(scores, np.float32), (0, spare)), float32_below(threshold), valid))
    return [masks[i] for i in kept[kept >= 0]]


_nms = jax.jit(nms)


def _batches(values: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _xywh(box: Any) -> list[float]:
    x0, y0, x1, y1 = map(float, box)
    return [x0, y0, x1 - x0, y1 - y0]


class _Bar:
    """A line on the terminal."""

    def __init__(self, points: int, shown: bool) -> None:
        self.points, self.shown, self.done, self.masks = points, shown, 0, 0

    def add(self, points: int, masks: int) -> None:
        self.done, self.masks = self.done + points, self.masks + masks
        if self.shown:
            full = 30 * self.done // self.points
            line = f"\r[{'#' * full}{'.' * (30 - full)}] {self.done} of {self.points} points, {self.masks} masks"
            print(line, end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.shown:
            print(file=sys.stderr)


def _check(given: AutomaticMaskGenerator) -> None:
    if (given.points_per_side is None) == (given.point_grids is None):
        raise PromptError(
            f"{'neither' if given.point_grids is None else 'both'} of points_per_side and point_grids given; expected "
            "one of them, the other None (points_per_side is 32 unless it is set)."
        )
    for name, choices in (("output_mode", OutputMode), ("filters", Filters), ("preprocess", Rule)):
        if getattr(given, name) not in get_args(choices):
            raise PromptError(f"{name} is {getattr(given, name)!r}; expected one of {get_args(choices)}.")
    shares = ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh", "crop_nms_thresh", "crop_overlap_ratio")
    ranges = dict.fromkeys(shares, (0.0, 1.0))
    ranges |= {"stability_score_offset": (0.0, math.inf), "mask_threshold": (-math.inf, math.inf)}
    for name, (low, high) in ranges.items():
        value = getattr(given, name)
        if not isinstance(value, int | float | np.number) or not math.isfinite(value) or not low <= value <= high:
            raise PromptError(f"{name} is {value!r}; expected a finite number in {low:g} to {high:g}.")
    least = {"points_per_batch": 1, "crop_n_layers": 0, "crop_n_points_downscale_factor": 1, "min_mask_region_area": 0}
    least |= {} if given.points_per_side is None else {"points_per_side": 1}
    for name, low in least.items():
        check_count(name, getattr(given, name), low)
