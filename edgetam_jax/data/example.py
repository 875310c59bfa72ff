"""Training examples: random clips of fixed shape, of which a still image gives one with a single frame."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, UInt8

from edgetam_jax.data.augment import SAM2_AUGMENT, Augment, MaskWarp, Warp, recolor, sample_augmentation, warp_image
from edgetam_jax.data.datasets import BINARY_MASK_HINT
from edgetam_jax.data.footage import Footage, NoObjectError
from edgetam_jax.errors import ConfigError, FrameError

_MIN_PIXELS = 4  # of the network's input, that an object must cover on the first frame
_TRIES = 10


class Example(NamedTuple):
    """Frames and the true masks of O objects. A batch has one more leading axis in every field."""

    frames: UInt8[Array, "*b t s s 3"]  # at the model's input size
    masks: Bool[Array, "*b t o s s"]
    valid: Bool[Array, "*b o"]  # the rows that hold an object; the others fill the fixed shape


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """A dataset, and how examples are made from it.

    Attributes:
        path: The dataset's folder, or the JSON file of one split of COCO.
        split: The name of a split; by default the one for training.
        weight: Among several datasets, the relative number of examples from this one.
        frames: Frames of an example.
        objects: The largest number of objects of an example; rows of missing objects are not valid.
        stride: An example has every s-th annotated frame, where s is drawn from 1 up to this.
        backwards: The share of examples whose frames go back in time.
        augment: Random changes of colour and geometry.
    """

    path: str
    split: str | None = None
    weight: float = 1.0
    frames: int = 8
    objects: int = 3
    stride: int = 1
    backwards: float = 0.5
    augment: Augment = SAM2_AUGMENT

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


class Sample(NamedTuple):
    frames: list[int]  # T annotated frames, in the order of the example
    objects: list[int]  # up to O objects, in random order


def make_example(footage: Footage, config: DataConfig, side: int, rng: np.random.Generator) -> Example:
    """Makes a random example of a video, or of a still image, which is repeated for each frame.

    Args:
        footage: The video or image.
        config: The number of frames and objects, and the augmentation.
        side: The network's image size.
        rng: The source of all random choices.

    Returns:
        An example whose first frame shows every valid object, of which there is at least one.

    Raises:
        FrameError: The footage cannot be read, or shows no object that is large enough.
    """
    for _ in range(_TRIES):
        sample = sample_clip(
            footage, config.frames, config.objects, config.stride, config.backwards, _MIN_PIXELS / side**2, rng
        )
        example = _read_example(footage, sample, config, side, rng)
        if example.valid.any():
            return example
    raise NoObjectError(
        f"{footage.name}: no object of {_TRIES} samples can be seen at {side}x{side}. "
        "Remove it from the dataset, or train at a larger image size."
    )


def sample_clip(
    footage: Footage,
    frames: int,
    objects: int,
    stride: int,
    backwards: float,
    min_share: float,
    rng: np.random.Generator,
) -> Sample:
    """Draws consecutive annotated frames, and objects that the first of them shows, as in SAM 2's training.

    Args:
        footage: The video or image. One that is too short is played forward and backward in turns.
        frames: The number of frames, T.
        objects: The largest number of objects, O.
        stride: The largest step between frames; smaller if the video is too short for it.
        backwards: The share of clips whose frames go back in time.
        min_share: The share of the first frame that an object must cover.
        rng: The source of all random choices.
    """
    count = len(footage)
    max_step = max(1, min(stride, (count - 1) // max(frames - 1, 1)))
    offsets = np.arange(frames) * rng.integers(1, max_step, endpoint=True)
    direction = -1 if rng.random() < backwards else 1
    # Forward and backward, all frames but the first and the last come twice in a period.
    period = max(2 * (count - 1), 1)
    for start in rng.permutation(count - offsets[-1] if offsets[-1] < count else period):
        positions = (start + offsets) % period
        chosen = [int(position) for position in np.minimum(positions, period - positions)[::direction]]
        shown = [obj_id for obj_id, share in footage.area_shares(chosen[0]).items() if share >= min_share]
        if shown:
            order = rng.permutation(len(shown))[:objects]
            return Sample(chosen, [shown[i] for i in order])
    raise NoObjectError(
        f"{footage.name}: none of the {count} annotated frames on which a clip could begin shows an object that is "
        f"large enough. Remove it from the dataset, or train at a larger image size. {BINARY_MASK_HINT}"
    )


def _read_example(footage: Footage, sample: Sample, config: DataConfig, side: int, rng: np.random.Generator) -> Example:
    order = sorted(set(sample.frames))
    annotated = dict(zip(order, footage.read_frames(order, sample.objects, side), strict=True))
    first = annotated[sample.frames[0]].masks
    for frame in annotated.values():
        if frame.masks.shape != first.shape:
            raise FrameError(
                f"{footage.name}: frames are of {first.shape[1:]} and of {frame.masks.shape[1:]} (height, width); "
                "all frames of a video must have one size."
            )
    augmentation = sample_augmentation(config.augment, config.frames, first.shape[1:], rng)
    warp, mask_warp = _keep_objects(first, augmentation.warp, augmentation.mirror, side)
    images = {number: warp_image(frame.image, warp) for number, frame in annotated.items()}
    warped_masks = {number: mask_warp(frame.masks) for number, frame in annotated.items()}
    frames = np.empty((config.frames, side, side, 3), np.uint8)
    masks = np.zeros((config.frames, config.objects, side, side), bool)
    for t, number in enumerate(sample.frames):
        frames[t] = recolor(images[number], augmentation.colors[t])
        masks[t, : len(sample.objects)] = warped_masks[number]
    # Objects too thin to cover a pixel of the first frame get empty rows that are not valid.
    valid = masks[0].any((1, 2))
    masks[:, ~valid] = False
    fields: Any = (frames, masks, valid)
    return Example(*fields)


def _keep_objects(first: np.ndarray, warp: Warp, mirror: Warp, side: int) -> tuple[Warp, MaskWarp]:
    """The warp if it keeps all objects on the first frame, as in SAM 2's training; otherwise only the mirroring."""
    mask_warp, mirrored = (MaskWarp(one, first.shape[1:], side) for one in (warp, mirror))
    lost = mirrored(first).any((1, 2)) & ~mask_warp(first).any((1, 2))
    return (mirror, mirrored) if lost.any() else (warp, mask_warp)
