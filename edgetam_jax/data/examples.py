"""From footage to examples."""

import dataclasses
from typing import Any

import numpy as np

from edgetam_jax.data.augment import USUAL, Augment, MaskWarp, Warp, draw, recolor, warp_image
from edgetam_jax.data.example import Example
from edgetam_jax.data.footage import Footage, NothingShownError
from edgetam_jax.data.sampling import Sample, sample
from edgetam_jax.errors import ConfigError, FrameError

_LEAST_PIXELS = 4  # of the network's input, that an object covers on the first frame
_TRIES = 10


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """A dataset, and what examples are made of it."""

    path: str
    split: str | None = None  # the one for training
    weight: float = 1.0  # among several datasets: how many examples come from this one
    frames: int = 8
    objects: int = 3  # up to so many; a video that shows fewer leaves rows empty
    stride: int = 1  # a clip has every s-th annotated frame, s up to this
    backwards: float = 0.5  # share of clips that go back in time
    augment: Augment = USUAL

    def __post_init__(self) -> None:
        for name in ("frames", "objects", "stride"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1.")
        if not isinstance(self.split, str | None):
            raise ConfigError(f"split is {self.split!r}; expected the name of one, or none.")
        if not 0 <= self.backwards <= 1:
            raise ConfigError(f"backwards is {self.backwards}; expected a share, 0 to 1.")
        if not 0 < self.weight < float("inf"):
            raise ConfigError(f"weight is {self.weight}; expected a number above 0. Leave out data that has none.")


def make_example(footage: Footage, config: DataConfig, side: int, rng: np.random.Generator) -> Example:
    """A random clip of a video, or an image as often as the clip has frames. Its first frame shows every valid object.

    The image size, `side`, is that of the network.
    """
    for _ in range(_TRIES):
        least = _LEAST_PIXELS / side**2
        chosen = sample(footage, config.frames, config.objects, config.stride, config.backwards, least, rng)
        example = _film(footage, chosen, config, side, rng)
        if example.valid.any():
            return example
    raise NothingShownError(
        f"{footage.name}: no object of {_TRIES} samples can be seen at {side}x{side}. "
        "Remove it from the dataset, or train at a larger image size."
    )


def _film(footage: Footage, chosen: Sample, config: DataConfig, side: int, rng: np.random.Generator) -> Example:
    order = sorted(set(chosen.frames))
    pictures = dict(zip(order, footage.pictures(order, chosen.objects, side), strict=True))
    first = pictures[chosen.frames[0]].masks
    for picture in pictures.values():
        if picture.masks.shape != first.shape:
            raise FrameError(
                f"{footage.name}: frames are of {first.shape[1:]} and of {picture.masks.shape[1:]} (height, width); "
                "all frames of a video must have one size."
            )
    changes = draw(config.augment, config.frames, first.shape[1:], rng)
    warp, mask_warp = _not_losing(first, changes.warp, changes.mirror, side)
    images = {number: warp_image(picture.image, warp) for number, picture in pictures.items()}
    seen = {number: mask_warp(picture.masks) for number, picture in pictures.items()}
    frames = np.empty((config.frames, side, side, 3), np.uint8)
    masks = np.zeros((config.frames, config.objects, side, side), bool)
    for place, number in enumerate(chosen.frames):
        frames[place] = recolor(images[number], changes.colors[place])
        masks[place, : len(chosen.objects)] = seen[number]
    # Rows of objects that are too thin to be seen on the first frame are empty, like those that no object has.
    valid = masks[0].any((1, 2))
    masks[:, ~valid] = False
    fields: Any = (frames, masks, valid)
    return Example(*fields)


def _not_losing(first: np.ndarray, warp: Warp, mirror: Warp, side: int) -> tuple[Warp, MaskWarp]:
    """The warp if all objects are still on the first frame, as in SAM 2's training; else one that loses none."""
    mask_warp, mirrored = (MaskWarp(one, first.shape[1:], side) for one in (warp, mirror))
    lost = mirrored(first).any((1, 2)) & ~mask_warp(first).any((1, 2))
    return (mirror, mirrored) if lost.any() else (warp, mask_warp)
