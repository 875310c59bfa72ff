"""`ImagePredictor`: SAM 2's image predictor, with the same methods, arguments and return values.

What differs from SAM 2: prompts are checked, a call that fails leaves the predictor unchanged, and holes are filled on
any device.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args, no_type_check

import jax
import numpy as np
from einops import rearrange
from jaxtyping import Array, Bool, Float
from numpy.typing import ArrayLike

from edgetam_jax.checkpoints.api import from_pretrained
from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.images.prompts import ImagePrompts, Size, prompts_from_arrays
from edgetam_jax.images.segment import decoder_embedding, encode_image, segment
from edgetam_jax.media.image import read_image
from edgetam_jax.model import Model, for_inference
from edgetam_jax.ops.masks import clean_mask
from edgetam_jax.ops.pixels import Rule, as_image
from edgetam_jax.ops.resize import resize_logits
from edgetam_jax.types import MASK_PROMPT_CLAMP, ImageFeatures

Prediction = tuple[np.ndarray, np.ndarray, np.ndarray]  # masks, IoU estimates, low-resolution logits


class _EncodedImage(NamedTuple):
    features: ImageFeatures
    size: Size


@no_type_check  # for the import hook: the methods check their arguments, and raise errors of their own
class ImagePredictor:
    """Interactive segmentation of still images, with the interface of SAM 2's `SAM2ImagePredictor`.

    Set an image once, then call `predict` any number of times:

        predictor = ImagePredictor(model)
        predictor.set_image("photo.jpg")
        masks, ious, logits = predictor.predict(point_coords=[[100, 75]], point_labels=[1])

    Images are RGB arrays `[H, W, 3]` of uint8, PIL images, or files, of any size. Grayscale becomes gray RGB, alpha is
    dropped, palettes are looked up, of 16-bit PIL images the high byte is kept, and float arrays are in 0..1. The EXIF
    orientation is applied to files only, not to arrays and PIL images.
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
        """Makes a predictor without an image.

        Args:
            model: The model, see `load`.
            mask_threshold: A mask is where the logits exceed this value.
            max_hole_area: Holes of up to this many pixels are filled. Pixels are those of the low-resolution masks, a
                quarter of the model's input size. 0 fills none.
            max_sprinkle_area: Islands of up to this many of these pixels are removed. 0 removes none.
            preprocess: Resizing rule for images, see `encode_image`.

        Raises:
            FrameError: If `preprocess` is none of the rules.
        """
        if preprocess not in get_args(Rule):
            raise FrameError(f"preprocessing rule is {preprocess!r}; expected one of {get_args(Rule)}.")
        self.model = model
        self.mask_threshold = mask_threshold
        self._max_areas = int(max_hole_area), int(max_sprinkle_area)
        self._preprocess: Rule = preprocess
        self.reset_predictor()

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> "ImagePredictor":
        """Makes a predictor with a model from the Hugging Face Hub.

        Args:
            model_id: Repository of the model, such as "yonigozlan/EdgeTAM-hf".
            **kwargs: Further arguments of `ImagePredictor`.

        Returns:
            The predictor.

        Raises:
            CheckpointError: If there is no such model, or it cannot be converted.
        """
        return cls(from_pretrained(model_id), **kwargs)

    def set_image(self, image: Any) -> None:
        """Encodes the image for the following calls of `predict`.

        Args:
            image: An array, PIL image or file, see the class.

        Raises:
            FrameError: If it is not an image. The previous image stays set.
        """
        self._images, self._is_batch = [self._encode(image)], False

    def set_image_batch(self, image_list: Sequence[Any]) -> None:
        """Encodes images for the following calls of `predict_batch`.

        Args:
            image_list: A list of images as for `set_image`, of any sizes, or an array `[images, H, W, 3]`.

        Raises:
            FrameError: If one of them is not an image. The previous images stay set.
        """
        if not isinstance(image_list, list | tuple) and np.ndim(image_list) != 4:
            raise FrameError(f"set_image_batch was given a {type(image_list).__name__}; expected a list of images.")
        if not len(image_list):
            raise FrameError("the list of images is empty; expected at least one.")
        images = []
        for index, image in enumerate(image_list):
            try:
                images.append(self._encode(image))
            except FrameError as error:
                raise FrameError(f"image {index}: {error}") from error
        self._images, self._is_batch = images, True

    def reset_predictor(self) -> None:
        """Removes the images."""
        self._images: list[_EncodedImage] = []
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
    ) -> Prediction:
        """Predicts masks on the image that `set_image` encoded.

        Points, a box and a mask may be combined. B prompts are predicted at once if the arrays have a leading axis B.

        Args:
            point_coords: Points `[P, 2]` or `[B, P, 2]`, (x, y) in pixels of the image.
            point_labels: Labels of the points `[P]` or `[B, P]`: 1 on the object, 0 off it.
            box: A box `[4]` or `[B, 4]`: x0, y0, x1, y1 in pixels of the image.
            mask_input: Logits `[1, h, w]` or `[B, 1, h, w]` of an earlier prediction to start from.
            multimask_output: Whether to predict three alternative masks, for ambiguous prompts such as one click,
                rather than one.
            return_logits: Whether to return the masks as logits rather than as 0 and 1.
            normalize_coords: Whether coordinates are in pixels. If False, they are relative to the image's width and
                height, from 0 to 1.

        Returns:
            Three float32 arrays: masks `[M, H, W]` at the image's size, the model's estimates of their IoU `[M]`, and
            low-resolution logits `[M, h, w]`, clipped to +-32, for `mask_input`. M is 3 or 1. With more than one prompt
            each has a leading axis B.

        Raises:
            PromptError: If no image is set, or a prompt is malformed or lies outside the image.
        """
        image = self._require_images()[0]
        if self._is_batch:
            raise PromptError("several images are set; call predict_batch, or set_image first.")
        prompts = self._build_prompts(image, normalize_coords, point_coords, point_labels, box, mask_input)
        return self._predict(image, prompts, multimask_output, return_logits)

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
        """Runs `predict` on each image that `set_image_batch` encoded.

        Args:
            point_coords_batch: For each image its `point_coords`, or None.
            point_labels_batch: For each image its `point_labels`, or None.
            box_batch: For each image its `box`, or None.
            mask_input_batch: For each image its `mask_input`, or None.
            multimask_output: As for `predict`.
            return_logits: As for `predict`.
            normalize_coords: As for `predict`.

        Returns:
            Three lists with an entry for each image: masks, IoU estimates and low-resolution logits, as `predict`
            returns them.

        Raises:
            PromptError: If no batch of images is set, a list has another length, or a prompt is malformed.
        """
        images = self._require_images()
        if not self._is_batch:
            raise PromptError("one image is set; call predict, or set_image_batch first.")
        arguments = {
            "point_coords_batch": point_coords_batch,
            "point_labels_batch": point_labels_batch,
            "box_batch": box_batch,
            "mask_input_batch": mask_input_batch,
        }
        for name, values in arguments.items():
            if values is not None and len(values) != len(images):
                raise PromptError(
                    f"{name} has {len(values)} entries; expected one for each of the {len(images)} images."
                )
        prompts = []
        for index, image in enumerate(images):
            arrays = [None if values is None else values[index] for values in arguments.values()]
            try:
                prompts.append(self._build_prompts(image, normalize_coords, *arrays))
            except PromptError as error:
                raise PromptError(f"image {index}: {error}") from error
        predictions = [
            self._predict(image, prompt, multimask_output, return_logits)
            for image, prompt in zip(images, prompts, strict=True)
        ]
        masks, ious, logits = (list(part) for part in zip(*predictions, strict=True))
        return masks, ious, logits

    def get_image_embedding(self) -> np.ndarray:
        """The embeddings of the images that are set, as the mask decoder uses them.

        Returns:
            Embeddings `[images, C, H, W]`, channels first as in SAM 2.

        Raises:
            PromptError: If no image is set.
        """
        embeddings = [
            decoder_embedding(for_inference(self.model), image.features.embedding) for image in self._require_images()
        ]
        return rearrange([np.asarray(embedding) for embedding in embeddings], "b h w c -> b c h w")

    def _encode(self, image: Any) -> _EncodedImage:
        pixels = read_image(image) if isinstance(image, str | Path) else as_image(image)
        features = encode_image(self.model, pixels, preprocess=self._preprocess)
        return _EncodedImage(features, (pixels.shape[0], pixels.shape[1]))

    def _require_images(self) -> list[_EncodedImage]:
        if not self._images:
            raise PromptError("no image is set; call set_image or set_image_batch first.")
        return self._images

    def _build_prompts(
        self,
        image: _EncodedImage,
        in_pixels: bool,
        points: ArrayLike | None,
        labels: ArrayLike | None,
        boxes: ArrayLike | None,
        masks: ArrayLike | None,
    ) -> ImagePrompts:
        prompts = prompts_from_arrays(points, labels, boxes, masks, self.model.config.mask_size)
        return ImagePrompts.build(prompts, image.size if in_pixels else None)

    def _predict(self, image: _EncodedImage, prompts: ImagePrompts, multimask: bool, return_logits: bool) -> Prediction:
        segments = segment(self.model, image.features, prompts, multimask)
        valid = np.asarray(segments.valid)
        logits, ious = np.asarray(segments.logits)[valid], np.asarray(segments.ious)[valid]
        masks = np.empty((*logits.shape[:2], *image.size), np.float32)
        for index, each in enumerate(logits):  # one by one, so that another number of prompts compiles nothing
            masks[index] = _masks_at_size(each, image.size, self.mask_threshold, self._max_areas, return_logits)
        logits = logits.clip(-MASK_PROMPT_CLAMP, MASK_PROMPT_CLAMP)
        return (masks, ious, logits) if len(logits) > 1 else (masks[0], ious[0], logits[0])


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _masks_at_size(
    logits: Float[Array, "m h w"],
    size: Size,
    threshold: float,
    max_areas: tuple[int, int],
    keep_logits: bool,
) -> Float[Array, "m height width"] | Bool[Array, "m height width"]:
    """The masks cleaned, then resized to `size`: as logits, or as booleans where these exceed the threshold."""
    large = resize_logits(clean_mask(logits, *max_areas, threshold), size)
    return large if keep_logits else large > threshold
