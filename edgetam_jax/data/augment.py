"""Random changes of geometry and colour, the same for all frames of a clip except some of the colour jitter."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from edgetam_jax.errors import ConfigError

FILL = (124, 116, 104)  # outside of the image: ImageNet's mean
_GREY = np.array([0.299, 0.587, 0.114])  # the weights of red, green and blue in grey


@dataclasses.dataclass(frozen=True)
class Jitter:
    """Random changes of colour, by factors around 1.

    Attributes:
        brightness: Largest difference of the factor from 1, for example 0.1 for factors from 0.9 to 1.1.
        contrast: The same for contrast.
        saturation: The same for saturation.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value}; expected how far a factor lies from 1, 0 to 1.")


@dataclasses.dataclass(frozen=True)
class Augment:
    """Ranges of the random changes of clips.

    The defaults are those of SAM 2's example of fine-tuning, with mosaics as in its paper.

    Attributes:
        flip: The share of clips that are mirrored, left to right.
        rotation: The largest angle in degrees, in either direction.
        shear: The largest angle in degrees, in either direction.
        scale: The smallest and the largest factor.
        shift: The largest shift in either direction, as a share of the width and of the height.
        clip_colors: Colour jitter of all frames together.
        frame_colors: Additional colour jitter of each frame.
        grayscale: The share of clips without colour.
        mosaic: The share of clips that are tiled 2 x 2; objects are tracked in one of the four tiles.
    """

    flip: float = 0.5
    rotation: float = 25.0
    shear: float = 20.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    clip_colors: Jitter = Jitter(0.1, 0.03, 0.03)
    frame_colors: Jitter = Jitter(0.1, 0.05, 0.05)
    grayscale: float = 0.05
    mosaic: float = 0.1

    def __post_init__(self) -> None:
        for name in ("flip", "grayscale", "mosaic", "shift"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a share, 0 to 1.")
        if not 0 <= self.rotation <= 180:
            raise ConfigError(f"rotation is {self.rotation}; expected degrees, 0 to 180.")
        if not 0 <= self.shear <= 80:
            raise ConfigError(f"shear is {self.shear}; expected degrees, 0 to 80.")
        if not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise ConfigError(f"scale is {self.scale}; expected the smallest and the largest factor, above 0.")


SAM2_AUGMENT = Augment()
PLAIN = Augment(0.0, 0.0, 0.0, clip_colors=Jitter(), frame_colors=Jitter(), grayscale=0.0, mosaic=0.0)


class Warp(NamedTuple):
    """The map from output to input points: matrix @ point + offset; points (x, y) are 0 to 1 across the frame."""

    matrix: np.ndarray  # [2, 2]
    offset: np.ndarray  # [2]
    tile: tuple[int, int] | None = None  # of a mosaic: column and row of the tile that has masks


class Augmentation(NamedTuple):
    """The changes of one clip."""

    warp: Warp
    mirror: Warp  # only the mirroring, which keeps all objects in the frame
    colors: np.ndarray  # [T, 3] factors of brightness, contrast and saturation


def sample_augmentation(augment: Augment, frames: int, size: tuple[int, int], rng: np.random.Generator) -> Augmentation:
    """Draws the changes of a clip whose frames are of `size` (height, width)."""
    mirrored = rng.random() < augment.flip
    angle, shear = np.radians(rng.uniform(-1, 1, 2) * (augment.rotation, augment.shear))
    scale = math.exp(rng.uniform(*np.log(augment.scale)))
    shift = rng.uniform(-augment.shift, augment.shift, 2)
    aspect = np.diag(size[::-1])
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    forward = scale * rotation @ np.array([[1, np.tan(shear)], [0, 1]])
    matrix = np.linalg.inv(aspect) @ np.linalg.inv(forward) @ aspect
    mosaic, corner = rng.random() < augment.mosaic, rng.integers(0, 2, 2)
    tile = (int(corner[0]), int(corner[1])) if mosaic else None
    factors = _factors(augment.clip_colors, 1, rng) * _factors(augment.frame_colors, frames, rng)
    factors[:, 2] *= rng.random() >= augment.grayscale
    warp, mirror = _make_warp(matrix, shift, mirrored), _make_warp(np.eye(2), np.zeros(2), mirrored)
    return Augmentation(warp._replace(tile=tile), mirror, factors)


def _make_warp(matrix: np.ndarray, shift: np.ndarray, mirrored: bool) -> Warp:
    """The inverse of mirroring, then a linear map about the middle, whose inverse is `matrix`, then a shift."""
    matrix = matrix.copy()
    offset = 0.5 - matrix @ (0.5 + shift)
    if mirrored:
        matrix[0], offset[0] = -matrix[0], 1 - offset[0]
    return Warp(matrix, offset)


def _factors(jitter: Jitter, count: int, rng: np.random.Generator) -> np.ndarray:
    return 1 + rng.uniform(-1, 1, (count, 3)) * (jitter.brightness, jitter.contrast, jitter.saturation)


def warp_image(image: Image.Image, warp: Warp) -> Image.Image:
    """Warps a square image at its size. Pixels from outside of it get the colour FILL."""
    side = image.width
    if not (np.array_equal(warp.matrix, np.eye(2)) and not warp.offset.any()):
        (a, b), (d, e) = warp.matrix
        c, f = warp.offset * side
        pixels = Image.Resampling.BILINEAR
        image = image.transform(image.size, Image.Transform.AFFINE, (a, b, c, d, e, f), pixels, fillcolor=FILL)
    if warp.tile is not None:
        tile, image = image.reduce(2), Image.new("RGB", image.size)
        for corner in ((0, 0), (side // 2, 0), (0, side // 2), (side // 2, side // 2)):
            image.paste(tile, corner)
    return image


class MaskWarp:
    """Warps masks of one size to side x side. A pixel of the output is the input pixel at its centre."""

    def __init__(self, warp: Warp, size: tuple[int, int], side: int) -> None:
        line = (np.arange(side) + 0.5) / side
        points = np.stack(np.meshgrid(line, line))  # [2, side, side]
        inside = np.ones((side, side), bool)
        if warp.tile is not None:
            points = 2 * points - np.reshape(warp.tile, (2, 1, 1))
            inside = ((points > 0) & (points < 1)).all(0)
        points = np.einsum("ij,jyx->iyx", warp.matrix, points) + warp.offset[:, None, None]
        column, row = np.floor(points * np.reshape(size[::-1], (2, 1, 1))).astype(np.int64)
        self._inside = inside & (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0])
        self._source = np.where(self._inside, row * size[1] + column, 0)

    def __call__(self, masks: Bool[np.ndarray, "o h w"]) -> Bool[np.ndarray, "o side side"]:
        return np.take(masks.reshape(len(masks), -1), self._source, axis=1) & self._inside


def recolor(image: Image.Image, factors: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """Multiplies the brightness, the contrast around the mean grey of the frame, and the saturation around grey."""
    brightness, contrast, saturation = factors
    if (factors == 1).all():
        return np.asarray(image)
    mean = _GREY @ np.array(image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)))
    matrix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * _GREY)
    offset = brightness * (1 - contrast) * mean
    rows = np.concatenate([matrix, np.full((3, 1), offset)], axis=1)
    return np.asarray(image.convert("RGB", tuple(rows.ravel())))
