"""`ImagePredictor`: SAM 2's image predictor, with its methods, arguments and returns.

Set an image, then ask about it as often as you like: what is here, what is in this box, what if not there? What
differs from SAM 2: prompts are checked, a call that fails changes nothing, and holes are filled on any device.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from edgetam_jax.checkpoints.api import from_pretrained
from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.images.prompts import ImagePrompts, Size, from_arrays
from edgetam_jax.images.segment import decoder_embedding, encode_image, segment
from edgetam_jax.media.image import read_image
from edgetam_jax.model import Model
from edgetam_jax.ops.masks import clean_mask
from edgetam_jax.ops.pixels import Rule, as_image
from edgetam_jax.ops.resize import resize_logits
from edgetam_jax.types import MASK_PROMPT_CLAMP, ImageFeatures

Answer = tuple[np.ndarray, np.ndarray, np.ndarray]  # masks [M, H, W], IoU estimates [M], logits [M, h, w]


class _Image(NamedTuple):
    features: ImageFeatures
    size: Size


class ImagePredictor:
    """Masks of what a user points at on still images.

    Masks are where logits exceed `mask_threshold`. Before that, holes and sprinkles of up to `max_hole_area` and
    `max_sprinkle_area` pixels are removed (of the network's masks, a quarter of its input size).

    Images are RGB arrays [H, W, 3] of uint8, PIL images, or files, of any size. Grayscale becomes gray RGB; of RGBA
    the alpha is dropped; palettes are looked up; of 16-bit PIL images the high byte is kept; float arrays go from 0
    to 1. EXIF orientation is applied to files only: arrays and PIL images are taken as their pixels lie.
    """

    def __init__(
        self,
        model: Model,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        *,
        preprocess: Rule = "image",
    ) -> None:
        self.model = model
        self.mask_threshold = mask_threshold
        self._areas = int(max_hole_area), int(max_sprinkle_area)
        self._rule: Rule = preprocess
        self.reset_predictor()

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> "ImagePredictor":
        """A predictor with a model from the Hugging Face hub; `kwargs` are those of the predictor."""
        return cls(from_pretrained(model_id), **kwargs)

    def set_image(self, image: Any) -> None:
        """Encodes the image that the following calls of `predict` are about."""
        self._images, self._is_batch = [self._encoded(image)], False

    def set_image_batch(self, image_list: Sequence[Any]) -> None:
        """Encodes the images, of any sizes, that the following calls of `predict_batch` are about."""
        if not isinstance(image_list, list | tuple) and np.ndim(image_list) != 4:
            raise FrameError(f"set_image_batch was given a {type(image_list).__name__}; expected a list of images.")
        if not len(image_list):
            raise FrameError("the list of images is empty; expected at least one.")
        images = []
        for index, image in enumerate(image_list):
            try:
                images.append(self._encoded(image))
            except FrameError as error:
                raise FrameError(f"image {index}: {error}") from error
        self._images, self._is_batch = images, True

    def reset_predictor(self) -> None:
        """Forgets the images."""
        self._images: list[_Image] = []
        self._is_batch = False

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> Answer:
        """Masks [M, H, W] of 0 and 1 at the image's size, estimates [M] of their quality, and logits [M, h, w].

        Points [P, 2] are (x, y) in pixels, their labels [P] 1 on the object and 0 off it; a box [4] is x0, y0, x1,
        y1. With `normalize_coords=False` coordinates are shares of width and height, from 0 to 1. `mask_input`
        [1, h, w] takes one of the returned logits to start from; those are within +-32. B prompts at once, points
        [B, P, 2], boxes [B, 4] or mask_input [B, 1, h, w], return a leading axis B, unless B is 1.

        M is 3 with `multimask_output`, for prompts that can mean several things, else 1. With `return_logits` the
        masks are logits too.
        """
        image = self._set()[0]
        if self._is_batch:
            raise PromptError("several images are set; call predict_batch, or set_image first.")
        prompts = self._checked(image, normalize_coords, point_coords, point_labels, box, mask_input)
        return self._answer(image, prompts, multimask_output, return_logits)

    def predict_batch(
        self,
        point_coords_batch: Sequence[ArrayLike | None] | None = None,
        point_labels_batch: Sequence[ArrayLike | None] | None = None,
        box_batch: Sequence[ArrayLike | None] | None = None,
        mask_input_batch: Sequence[ArrayLike | None] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """`predict` for each image of `set_image_batch`: every argument and every return is a list over them."""
        images = self._set()
        if not self._is_batch:
            raise PromptError("one image is set; call predict, or set_image_batch first.")
        columns = {
            "point_coords_batch": point_coords_batch,
            "point_labels_batch": point_labels_batch,
            "box_batch": box_batch,
            "mask_input_batch": mask_input_batch,
        }
        for name, column in columns.items():
            if column is not None and len(column) != len(images):
                raise PromptError(
                    f"{name} has {len(column)} entries; expected one for each of the {len(images)} images."
                )
        every = []
        for index, image in enumerate(images):
            prompt = [None if column is None else column[index] for column in columns.values()]
            try:
                every.append(self._checked(image, normalize_coords, *prompt))
            except PromptError as error:
                raise PromptError(f"image {index}: {error}") from error
        answers = [self._answer(i, p, multimask_output, return_logits) for i, p in zip(images, every, strict=True)]
        masks, ious, logits = (list(part) for part in zip(*answers, strict=True))
        return masks, ious, logits

    def get_image_embedding(self) -> np.ndarray:
        """The embeddings [images, C, h, w] of all images that are set, as the mask decoder sees them."""
        every = [decoder_embedding(self.model, image.features.embedding) for image in self._set()]
        return np.moveaxis(np.stack([np.asarray(embedding) for embedding in every]), -1, 1)

    def _encoded(self, image: Any) -> _Image:
        pixels = read_image(image) if isinstance(image, str | Path) else as_image(image)
        features = encode_image(self.model, pixels, preprocess=self._rule)
        return _Image(features, (pixels.shape[0], pixels.shape[1]))

    def _set(self) -> list[_Image]:
        if not self._images:
            raise PromptError("no image is set; call set_image or set_image_batch first.")
        return self._images

    def _checked(
        self,
        image: _Image,
        in_pixels: bool,
        points: ArrayLike | None,
        labels: ArrayLike | None,
        boxes: ArrayLike | None,
        masks: ArrayLike | None,
    ) -> ImagePrompts:
        prompts = from_arrays(points, labels, boxes, masks, self.model.config.mask_size)
        return ImagePrompts.build(prompts, image.size if in_pixels else None)

    def _answer(self, image: _Image, prompts: ImagePrompts, multimask: bool, return_logits: bool) -> Answer:
        found = segment(self.model, image.features, prompts, multimask)
        real = np.asarray(found.valid)
        logits, ious = np.asarray(found.logits)[real], np.asarray(found.ious)[real]
        answers = np.empty((*logits.shape[:2], *image.size), np.float32)
        for index, each in enumerate(logits):  # one by one, so that their number compiles nothing
            answers[index] = _at_size(each, image.size, self.mask_threshold, self._areas, return_logits)
        logits = logits.clip(-MASK_PROMPT_CLAMP, MASK_PROMPT_CLAMP)
        return (answers, ious, logits) if len(logits) > 1 else (answers[0], ious[0], logits[0])


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _at_size(logits: Array, size: Size, threshold: float, areas: tuple[int, int], keep_logits: bool) -> Array:
    """Masks [M, h, w] cleaned, then resized: logits, or where they exceed the threshold."""
    large = resize_logits(clean_mask(logits, *areas, threshold), size)
    return large if keep_logits else large > threshold
