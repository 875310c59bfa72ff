"""The work on one image: the mask of what is pointed at, or masks of everything."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from edgetam_jax.app.pointing import NOTHING, Mark, Said
from edgetam_jax.cli.segment import ask
from edgetam_jax.errors import PromptError
from edgetam_jax.images.automask import AutomaticMaskGenerator
from edgetam_jax.images.predictor import ImagePredictor
from edgetam_jax.media.atomic import replacing
from edgetam_jax.media.image import read_image
from edgetam_jax.media.palette import mask_to_palette, object_colors
from edgetam_jax.media.visualize import overlay
from edgetam_jax.model import Model
from edgetam_jax.ops.rle import rle_decode
from edgetam_jax.types import LARGEST_ID

MAX_PIXELS = 1920 * 1080  # of an image; there can be 255 masks of it


@dataclasses.dataclass
class ImageWork:
    name: str
    pixels: np.ndarray  # [H, W, 3]
    scaled: bool  # down
    predictor: ImagePredictor
    said: Said = NOTHING


def open_image(model: Model, source: Path | np.ndarray, name: str) -> ImageWork:
    """Large ones are scaled down, as most photographs are."""
    whole = read_image(source)
    pixels = fitting(whole)
    predictor = ImagePredictor(model)
    predictor.set_image(pixels)
    return ImageWork(name, pixels, pixels.shape != whole.shape, predictor)


def fitting(pixels: np.ndarray) -> np.ndarray:
    """The image [H, W, 3], of at most `MAX_PIXELS`."""
    height, width, _ = pixels.shape
    share = (MAX_PIXELS / (height * width)) ** 0.5
    if share >= 1:
        return pixels
    size = max(1, int(share * width)), max(1, int(share * height))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def no_masks(work: ImageWork) -> np.ndarray:
    return np.zeros((0, *work.pixels.shape[:2]), bool)


def mark(work: ImageWork, mark: Mark) -> np.ndarray:
    """After a click on or off the object, or a box around it, its mask [1, H, W]. A useless one changes nothing."""
    height, width, _ = work.pixels.shape
    return _say(work, work.said.with_mark(mark, (height, width)))


def undo(work: ImageWork) -> np.ndarray:
    """Takes back the latest click; where none is left, the box, and no mask is left."""
    if work.said == NOTHING:
        raise PromptError("nothing was said about this image; there is nothing to take back.")
    return _say(work, work.said.without_latest())


def _say(work: ImageWork, said: Said) -> np.ndarray:
    masks = no_masks(work) if said == NOTHING else ask(work.predictor, said.prompt)[0][None]
    work.said = said
    return masks


def find_everything(work: ImageWork, points_per_side: int) -> np.ndarray:
    """Masks of everything [O, H, W], from a grid of clicks. The smaller ones lie on top."""
    generator = AutomaticMaskGenerator(
        work.predictor.model, points_per_side=points_per_side, output_mode="uncompressed_rle"
    )
    records = sorted(generator.generate(work.pixels)[:LARGEST_ID], key=lambda record: -record["area"])
    masks = np.zeros((len(records), *work.pixels.shape[:2]), bool)
    for mask, record in zip(masks, records, strict=True):
        mask[:] = rle_decode(record["segmentation"])
    work.said = NOTHING
    return masks


def picture(work: ImageWork, masks: np.ndarray) -> np.ndarray:
    """The image with its masks, and what was said about it."""
    shown = overlay(work.pixels, masks)
    return shown if work.said == NOTHING else work.said.drawn_on(shown, object_colors([0])[0])


def write_masks(work: ImageWork, masks: np.ndarray, folder: Path) -> Path:
    """A palette PNG whose values are the masks' numbers."""
    out = folder / f"{work.name}-masks.png"
    with replacing(out, force=True) as partial:
        mask_to_palette(masks).save(partial, "PNG")
    return out
