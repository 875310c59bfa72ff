"""`AutomaticMaskGenerator`: masks of everything in an image, from a grid of points, as SAM 2 makes them.

For each crop, in batches of one size: predict masks for every point, drop those of low predicted IoU, upsample the
others, drop those that are unstable or that the crop cuts off. Duplicates are removed at the end. Masks stay on the
device until they are run-length encoded, so memory does not grow with the number of points.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args, no_type_check

import jax
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike
from tqdm import tqdm

from edgetam_jax.checkpoints.api import from_pretrained
from edgetam_jax.errors import PromptError
from edgetam_jax.images import automask_jit
from edgetam_jax.images.crops import Crop, build_point_grids, check_point_grids, make_crops, near_crop_edge
from edgetam_jax.images.segment import encode_image
from edgetam_jax.media.image import read_image
from edgetam_jax.model import Model, for_inference
from edgetam_jax.ops.boxes import float32_below, nms, xywh
from edgetam_jax.ops.pixels import Rule
from edgetam_jax.ops.rle import counts_of_edges, rle_compress, rle_decode
from edgetam_jax.ops.tree import resolve_vectorize
from edgetam_jax.prompts import bucket, check_count

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]
Filters = Literal["sam2", "hf"]


@no_type_check  # for the import hook: __post_init__ checks the settings, and raises errors of its own
@dataclasses.dataclass(frozen=True, eq=False)
class AutomaticMaskGenerator:
    """Masks of everything in an image. Arguments, defaults and records are those of SAM 2.

    Attributes:
        model: The model, see `load`.
        points_per_side: The points of the whole image form a square grid with this many along each side. None if
            `point_grids` is given.
        points_per_batch: How many points are computed in one call of the compiled program.
        pred_iou_thresh: Masks must have a predicted IoU, in 0..1, above this. 0 keeps all.
        stability_score_thresh: Masks must have at least this stability score, in 0..1. 0 keeps all.
        stability_score_offset: The stability score is the area of the mask at a threshold raised by this offset,
            divided by the area at a threshold lowered by it.
        mask_threshold: A mask is where the logits exceed this value.
        box_nms_thresh: Of two masks of a crop whose boxes have an IoU above this, only the better one is kept.
        crop_n_layers: Number of layers of crops besides the whole image; layer n has 2^n crops along each side.
        crop_nms_thresh: As `box_nms_thresh`, for masks of different crops; that of the smaller crop is kept.
        crop_overlap_ratio: How much the crops of layer 1 overlap, as a fraction of the image's shorter side; those of
            each further layer by half as much.
        crop_n_points_downscale_factor: The number of points along a side is divided by this in each further layer.
        point_grids: Instead of `points_per_side`: for each layer, the whole image included, points `[P, 2]` (x, y)
            relative to the crop's width and height, in 0..1.
        min_mask_region_area: Holes and islands of up to this many pixels are removed, on any device; SAM 2 does so only
            with its CUDA extension. Pixels are those of the low-resolution masks, a quarter of the model's input size.
        output_mode: What `segmentation` holds: a boolean array `[H, W]` with `"binary_mask"`, run-lengths in one of
            COCO's two forms with `"uncompressed_rle"` and `"coco_rle"`.
        use_m2m: Whether each mask is predicted again, with its own logits as the mask prompt.
        multimask_output: Whether each point gives three alternative masks rather than one.
        filters: `"sam2"`, or `"hf"` for the rules of the Hugging Face pipeline: the stability score must exceed its
            threshold, and duplicates are removed once, over all crops, by predicted IoU and `crop_nms_thresh`. That
            pipeline's default `pred_iou_thresh` is 0.88, and its `preprocess` is `"hf"`.
        preprocess: Resizing rule for images, see `encode_image`.
        progress: Whether to show a progress bar on stderr.
        vectorize: Whether the points of a batch are computed together. By default they are, except on CPU.

    Raises:
        PromptError: If a setting is out of range.
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
    vectorize: bool | None = None

    def __post_init__(self) -> None:
        _check_settings(self)
        _ = self._grids

    @cached_property
    def _grids(self) -> list[np.ndarray]:
        """Points [P, 2] in 0..1 for each layer of crops."""
        if self.point_grids is not None:
            return check_point_grids(self.point_grids, self.crop_n_layers)
        return build_point_grids(self.points_per_side or 0, self.crop_n_layers, self.crop_n_points_downscale_factor)

    @property
    def _vectorize(self) -> bool:
        return resolve_vectorize(self.vectorize, self.model.platform)

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> "AutomaticMaskGenerator":
        """Makes a generator with a model from the Hugging Face Hub.

        Args:
            model_id: Repository of the model, such as "yonigozlan/EdgeTAM-hf".
            **kwargs: Further arguments of `AutomaticMaskGenerator`.

        Returns:
            The generator.

        Raises:
            CheckpointError: If there is no such model, or it cannot be converted.
        """
        return cls(from_pretrained(model_id), **kwargs)

    def generate(self, image: Any) -> list[dict[str, Any]]:
        """Predicts the masks of everything in an image.

        Args:
            image: An RGB array `[H, W, 3]`, a PIL image or a file, as for `ImagePredictor`.

        Returns:
            A record for each mask with these keys:

            - `segmentation`: the mask, see `output_mode`;
            - `area` and `bbox`: its number of pixels, and its box as x, y, width, height;
            - `predicted_iou`: the model's estimate of its IoU;
            - `point_coords`: the point (x, y) that it was predicted from, in a list;
            - `stability_score`: see `stability_score_offset`;
            - `crop_box`: the crop in which it was predicted, as x, y, width, height.

            The highest predicted IoU comes first; with several crops, the masks of smaller crops do.

        Raises:
            FrameError: If `image` is not an image, or is too small for so many crops.
        """
        pixels = read_image(image)
        size = pixels.shape[0], pixels.shape[1]
        crops = make_crops(size, self.crop_n_layers, self.crop_overlap_ratio)
        masks: list[_Mask] = []
        total = sum(len(self._grids[crop.layer]) for crop in crops)
        with tqdm(total=total, unit="point", disable=not self.progress) as bar:
            for crop in crops:
                padded = automask_jit.padded_size([other for other in crops if other.layer == crop.layer])
                upsampling = automask_jit.make_upsampling(self.model.config.mask_size, crop, padded)
                crop_masks = self._masks_in_crop(pixels, _CropView(crop, upsampling, size), bar)
                if self.filters == "sam2":
                    ious = [mask.iou for mask in crop_masks]
                    crop_masks = _remove_duplicates(crop_masks, ious, self.box_nms_thresh)
                masks += crop_masks
        if self.filters == "hf":
            masks = _remove_duplicates(masks, [mask.iou for mask in masks], self.crop_nms_thresh)
        elif len(crops) > 1:
            areas = np.array([math.prod(mask.crop.size) for mask in masks], np.float32)
            masks = _remove_duplicates(masks, np.float32(1) / areas, self.crop_nms_thresh)
        return [self._record(mask, size) for mask in masks]

    def _masks_in_crop(self, image: np.ndarray, view: "_CropView", bar: tqdm) -> list["_Mask"]:
        crop, batch_size, vectorize = view.crop, self.points_per_batch, self._vectorize
        pixels = image[crop.y0 : crop.y1, crop.x0 : crop.x1]
        features = encode_image(self.model, pixels, preprocess=self.preprocess, vectorize=vectorize)
        scale = np.array(crop.size[::-1])
        masks: list[_Mask] = []
        for points in _batches((self._grids[crop.layer] * scale).astype(np.float32), batch_size):
            count = len(points)
            relative = np.pad(points / scale.astype(np.float32), ((0, batch_size - count), (0, 0)))
            arguments = for_inference(self.model), features, relative, count
            logits, ious = automask_jit.predict_points(*arguments, self.multimask_output, vectorize)
            if self.use_m2m:
                logits, ious = automask_jit.refine(*arguments, logits, vectorize)
            masks += self._filter(logits, np.asarray(ious)[:count], points, view)
            bar.update(count)
            bar.set_postfix(masks=len(masks))
        return masks

    def _filter(
        self,
        logits: Float[Array, "b m h w"],
        ious: Float[np.ndarray, "p m"],
        points: Float[np.ndarray, "p 2"],
        view: "_CropView",
    ) -> Iterator["_Mask"]:
        """The masks of a batch of points that pass the filters."""
        (crop, upsampling, size), alternatives, ious = view, ious.shape[1], ious.ravel()
        # A threshold of zero keeps everything, NaN included.
        kept = np.flatnonzero((ious > np.float32(self.pred_iou_thresh)) | (self.pred_iou_thresh == 0))
        levels = np.float32(self.mask_threshold + np.array([-1, 0, 1]) * self.stability_score_offset)
        cleaning, vectorize = (self.min_mask_region_area, self.mask_threshold), self._vectorize
        for batch in _batches(kept, upsampling.batch_size):
            padding = upsampling.batch_size - len(batch)
            indices, used = np.pad(batch, (0, padding)), np.arange(upsampling.batch_size) < len(batch)
            measures = automask_jit.upsample_and_measure(logits, indices, used, upsampling, levels, cleaning, vectorize)
            stability, boxes, edges = (np.asarray(measure)[: len(batch)] for measure in measures)
            boxes = boxes + np.array([[crop.x0, crop.y0, crop.x0, crop.y0]])
            for i in np.flatnonzero(self._is_stable(stability) & ~near_crop_edge(boxes, crop, size)):
                yield _Mask(
                    counts=counts_of_edges(edges[i], (crop.x0, crop.y0), size),
                    box=boxes[i],
                    iou=float(ious[batch[i]]),
                    stability=float(stability[i]),
                    point=points[batch[i] // alternatives] + np.array([crop.x0, crop.y0], np.float32),
                    crop=crop,
                )

    def _is_stable(self, scores: np.ndarray) -> np.ndarray:
        threshold = np.float32(self.stability_score_thresh)
        if threshold <= 0:
            return np.ones(len(scores), bool)
        return scores > threshold if self.filters == "hf" else scores >= threshold

    def _record(self, mask: "_Mask", size: tuple[int, int]) -> dict[str, Any]:
        rle = {"size": list(size), "counts": mask.counts.tolist()}
        if self.output_mode == "binary_mask":
            segmentation: Any = rle_decode(rle)
        else:
            segmentation = rle_compress(rle) if self.output_mode == "coco_rle" else rle
        return {
            "segmentation": segmentation,
            "area": int(mask.counts[1::2].sum()),
            "bbox": xywh(mask.box),
            "predicted_iou": mask.iou,
            "point_coords": [mask.point.tolist()],
            "stability_score": mask.stability,
            "crop_box": xywh(mask.crop.box),
        }


class _CropView(NamedTuple):
    """A crop, and what depends on its size."""

    crop: Crop
    upsampling: automask_jit.Upsampling
    size: tuple[int, int]  # height and width of the image


class _Mask(NamedTuple):
    """One mask on the host, in pixels of the image."""

    counts: Int[np.ndarray, "n"]  # run-lengths
    box: Int[np.ndarray, "4"]
    iou: float
    stability: float
    point: Float[np.ndarray, "2"]
    crop: Crop


def _remove_duplicates(masks: list[_Mask], scores: Any, threshold: float) -> list[_Mask]:
    """Non-maximum suppression of the masks' boxes. The masks that are kept are sorted by their scores."""
    if not masks:
        return []
    padding = bucket(len(masks), 64) - len(masks)
    boxes = np.pad(np.array([mask.box for mask in masks], np.float32), ((0, padding), (0, 0)))
    scores = np.pad(np.asarray(scores, np.float32), (0, padding))
    valid = np.arange(len(boxes)) < len(masks)
    kept = np.asarray(_nms(boxes, scores, float32_below(threshold), valid))
    return [masks[i] for i in kept[kept >= 0]]


_nms = jax.jit(nms)


def _batches(values: np.ndarray, size: int) -> list[np.ndarray]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _check_settings(settings: AutomaticMaskGenerator) -> None:
    if (settings.points_per_side is None) == (settings.point_grids is None):
        raise PromptError(
            f"{'neither' if settings.point_grids is None else 'both'} of points_per_side and point_grids given; "
            "expected one of them, the other None (points_per_side is 32 unless it is set)."
        )
    for name, choices in (("output_mode", OutputMode), ("filters", Filters), ("preprocess", Rule)):
        if getattr(settings, name) not in get_args(choices):
            raise PromptError(f"{name} is {getattr(settings, name)!r}; expected one of {get_args(choices)}.")
    fractions = ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh", "crop_nms_thresh", "crop_overlap_ratio")
    ranges = dict.fromkeys(fractions, (0.0, 1.0))
    ranges |= {"stability_score_offset": (0.0, math.inf), "mask_threshold": (-math.inf, math.inf)}
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if not isinstance(value, int | float | np.number) or not math.isfinite(value) or not low <= value <= high:
            raise PromptError(f"{name} is {value!r}; expected a finite number in {low:g} to {high:g}.")
    least = {"points_per_batch": 1, "crop_n_layers": 0, "crop_n_points_downscale_factor": 1, "min_mask_region_area": 0}
    least |= {} if settings.points_per_side is None else {"points_per_side": 1}
    for name, low in least.items():
        check_count(name, getattr(settings, name), low)
