"""One image of the app: the mask of one object from clicks and a box, or masks of everything."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from edgetam_jax.app.gestures import EMPTY, Gesture, ObjectPrompt
from edgetam_jax.errors import PromptError
from edgetam_jax.images.automask import AutomaticMaskGenerator
from edgetam_jax.images.best_mask import predict_best_mask
from edgetam_jax.images.predictor import ImagePredictor
from edgetam_jax.media.atomic import replacing
from edgetam_jax.media.image import read_image
from edgetam_jax.media.palette import mask_to_palette, object_colors
from edgetam_jax.media.visualize import overlay
from edgetam_jax.model import Model
from edgetam_jax.ops.rle import rle_decode
from edgetam_jax.types import LARGEST_ID

MAX_PIXELS = 1920 * 1080  # larger images are scaled down, because up to 255 masks of their size are held


@dataclasses.dataclass
class OpenImage:
    name: str
    pixels: np.ndarray  # [H, W, 3] uint8
    is_scaled: bool  # down
    predictor: ImagePredictor
    prompt: ObjectPrompt = EMPTY


def open_image(model: Model, source: Path | np.ndarray, name: str) -> OpenImage:
    """Encodes an image, scaled down if it is large, as most photographs are."""
    original = read_image(source)
    pixels = limit_size(original)
    predictor = ImagePredictor(model)
    predictor.set_image(pixels)
    return OpenImage(name, pixels, pixels.shape != original.shape, predictor)


def limit_size(pixels: np.ndarray) -> np.ndarray:
    """The image [H, W, 3], scaled down to at most `MAX_PIXELS`."""
    height, width, _ = pixels.shape
    scale = (MAX_PIXELS / (height * width)) ** 0.5
    if scale >= 1:
        return pixels
    size = max(1, int(scale * width)), max(1, int(scale * height))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def no_masks(image: OpenImage) -> np.ndarray:
    """Masks [0, H, W]."""
    return np.zeros((0, *image.pixels.shape[:2]), bool)


def add_gesture(image: OpenImage, gesture: Gesture) -> np.ndarray:
    """Adds a click or a box to the prompt, and returns the mask [1, H, W]. An invalid one changes nothing."""
    height, width, _ = image.pixels.shape
    return _set_prompt(image, image.prompt.with_gesture(gesture, (height, width)))


def undo(image: OpenImage) -> np.ndarray:
    """Removes the last point, or the box if there are no points; returns the masks [1, H, W] or [0, H, W] then."""
    if image.prompt == EMPTY:
        raise PromptError("the image has no prompt; there is nothing to take back.")
    return _set_prompt(image, image.prompt.without_last())


def _set_prompt(image: OpenImage, prompt: ObjectPrompt) -> np.ndarray:
    masks = no_masks(image) if prompt == EMPTY else predict_best_mask(image.predictor, prompt.to_prompt())[0][None]
    image.prompt = prompt
    return masks


def segment_everything(image: OpenImage, points_per_side: int) -> np.ndarray:
    """Masks of everything [O, H, W] from a grid of points. Smaller masks come later, so that they lie on top."""
    generator = AutomaticMaskGenerator(
        image.predictor.model, points_per_side=points_per_side, output_mode="uncompressed_rle"
    )
    records = sorted(generator.generate(image.pixels)[:LARGEST_ID], key=lambda record: -record["area"])
    masks = np.zeros((len(records), *image.pixels.shape[:2]), bool)
    for mask, record in zip(masks, records, strict=True):
        mask[:] = rle_decode(record["segmentation"])
    image.prompt = EMPTY
    return masks


def draw_image(image: OpenImage, masks: np.ndarray) -> np.ndarray:
    """The image [H, W, 3] with its masks and prompt."""
    picture = overlay(image.pixels, masks)
    return picture if image.prompt == EMPTY else image.prompt.draw_on(picture, object_colors([0])[0])


def write_masks(image: OpenImage, masks: np.ndarray, folder: Path) -> Path:
    """Writes a palette PNG whose values are the masks' numbers, from 1."""
    out = folder / f"{image.name}-masks.png"
    with replacing(out, force=True) as partial:
        mask_to_palette(masks).save(partial, "PNG")
    return out
