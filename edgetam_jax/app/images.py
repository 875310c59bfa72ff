"""The work on one image: the mask of what is pointed at, or masks of everything."""

import dataclasses
from pathlib import Path

import numpy as np

from edgetam_jax.app.clips import MAX_PIXELS
from edgetam_jax.app.pointing import NOTHING, Mark, Said
from edgetam_jax.automask import AutomaticMaskGenerator
from edgetam_jax.batch import LARGEST_ID
from edgetam_jax.commands.segment import ask
from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.files import replacing
from edgetam_jax.image import ImagePredictor
from edgetam_jax.image_file import read_image
from edgetam_jax.model import Model
from edgetam_jax.palette import mask_to_palette, object_colors
from edgetam_jax.visualize import overlay


@dataclasses.dataclass
class ImageWork:
    name: str
    pixels: np.ndarray  # [H, W, 3]
    predictor: ImagePredictor
    masks: np.ndarray  # [O, H, W] bool
    said: Said = NOTHING


def open_image(model: Model, source: Path | np.ndarray, name: str) -> ImageWork:
    pixels = read_image(source)
    height, width, _ = pixels.shape
    if height * width > MAX_PIXELS:
        raise FrameError(f"the image is {width}x{height}; the app takes up to {MAX_PIXELS} pixels. Scale it down.")
    predictor = ImagePredictor(model)
    predictor.set_image(pixels)
    return ImageWork(name, pixels, predictor, no_masks(pixels))


def no_masks(pixels: np.ndarray) -> np.ndarray:
    return np.zeros((0, *pixels.shape[:2]), bool)


def mark(work: ImageWork, mark: Mark) -> None:
    """A click on or off the object, or a box around it. One that cannot be used changes nothing."""
    height, width, _ = work.pixels.shape
    _say(work, work.said.with_mark(mark, (height, width)))


def undo(work: ImageWork) -> None:
    """Takes back the latest click; where none is left, the box, and all masks."""
    if work.said == NOTHING:
        raise PromptError("nothing was said about this image; there is nothing to take back.")
    _say(work, work.said.without_latest())


def _say(work: ImageWork, said: Said) -> None:
    work.masks = no_masks(work.pixels) if said == NOTHING else ask(work.predictor, said.prompt)[0][None]
    work.said = said


def find_everything(work: ImageWork, points_per_side: int) -> None:
    """Masks of everything, from a grid of clicks. The smaller ones lie on top."""
    generator = AutomaticMaskGenerator(work.predictor.model, points_per_side=points_per_side)
    records = sorted(generator.generate(work.pixels)[:LARGEST_ID], key=lambda record: -record["area"])
    work.masks = np.stack([record["segmentation"] for record in records]) if records else no_masks(work.pixels)
    work.said = NOTHING


def picture(work: ImageWork) -> np.ndarray:
    """The image with its masks, and what was said about it."""
    shown = overlay(work.pixels, work.masks)
    return shown if work.said == NOTHING else work.said.drawn_on(shown, object_colors([0])[0])


def write_masks(work: ImageWork, folder: Path) -> Path:
    """A palette PNG whose values are the masks' numbers."""
    out = folder / f"{work.name}-masks.png"
    with replacing(out, force=True) as partial:
        mask_to_palette(work.masks).save(partial, "PNG")
    return out
