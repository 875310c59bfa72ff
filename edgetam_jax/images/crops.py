"""Where the mask generator looks: at the image and at crops of it, on a grid of points in each."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from edgetam_jax.errors import FrameError, PromptError

NEAR = 20  # pixels


class Crop(NamedTuple):
    x0: int
    y0: int
    x1: int
    y1: int
    layer: int  # 0 for the whole image; in layer n there are 2^n crops a side

    @property
    def size(self) -> tuple[int, int]:
        """Height, width."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def box(self) -> tuple[int, int, int, int]:
        return self[:4]


def crops_of(size: tuple[int, int], layers: int, overlap_ratio: float) -> list[Crop]:
    """The image of `size` (height, width) and its crops, layer by layer, column by column.

    In layer 1 crops overlap by `overlap_ratio` of the image's shorter side, in each further layer by half as much.
    """
    height, width = size
    crops = [Crop(0, 0, width, height, 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / count))
        long, wide = (-(-(overlap * (count - 1) + length) // count) for length in size)
        for x in range(count):
            for y in range(count):
                x0, y0 = x * (wide - overlap), y * (long - overlap)
                crops.append(Crop(x0, y0, min(x0 + wide, width), min(y0 + long, height), layer))
    if min(map(min, (crop.size for crop in crops))) <= 0:
        raise FrameError(f"the image has {width}x{height} pixels, too few for crop_n_layers={layers}; lower it.")
    return crops


def point_grids(side: int, layers: int, downscale: int) -> list[np.ndarray]:
    """A grid [side * side, 2] of points in 0..1 for each layer, with fewer a side the further down."""
    grids = []
    for layer in range(layers + 1):
        count = int(side / downscale**layer)
        if count < 1:
            raise PromptError(
                f"points_per_side={side} leaves no point in crop layer {layer} of {layers}, where it is divided by "
                f"{downscale}^{layer}; raise it, or lower crop_n_points_downscale_factor."
            )
        half = 1 / (2 * count)
        steps = np.linspace(half, 1 - half, count)
        grids.append(np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2))
    return grids


def check_grids(grids: Sequence[ArrayLike], layers: int) -> list[np.ndarray]:
    """Grids that a user gives, one for each layer."""
    if not isinstance(grids, list | tuple) or len(grids) <= layers:
        count = len(grids) if isinstance(grids, list | tuple) else "no list of"
        raise PromptError(f"point_grids holds {count} grids; expected one for each of the {layers + 1} crop layers.")
    checked = []
    for layer, grid in enumerate(grids):
        points = np.asarray(grid)
        if points.ndim != 2 or points.shape[-1] != 2 or not len(points) or points.dtype.kind not in "uif":
            raise PromptError(f"point_grids[{layer}] is {points.dtype} {points.shape}; expected numbers [points, 2].")
        if not ((points >= 0) & (points <= 1)).all():
            raise PromptError(f"point_grids[{layer}] has points outside 0..1; give shares of the crop's width, height.")
        checked.append(points)
    return checked


def cut_off(boxes: np.ndarray, crop: Crop, size: tuple[int, int]) -> np.ndarray:
    """Which boxes [N, 4] of the image lie near an edge of the crop, unless the image of `size` ends there too."""
    near_crop = np.abs(boxes - np.array(crop.box)) <= NEAR
    near_image = np.abs(boxes - np.array([0, 0, *size[::-1]])) <= NEAR
    return np.any(near_crop & ~near_image, axis=-1)
