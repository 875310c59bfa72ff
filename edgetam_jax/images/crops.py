"""The crops of an image that the mask generator works on, and the grid of points in each."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from edgetam_jax.errors import FrameError, PromptError

EDGE_DISTANCE = 20  # pixels within which a box counts as near an edge


class Crop(NamedTuple):
    x0: int
    y0: int
    x1: int
    y1: int
    layer: int  # 0 for the whole image; layer n has 2^n crops along each side

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def box(self) -> tuple[int, int, int, int]:
        return self[:4]


def make_crops(size: tuple[int, int], layers: int, overlap_ratio: float) -> list[Crop]:
    """The image of `size` (height, width) and its crops, layer by layer and in each column by column.

    In layer 1 crops overlap by `overlap_ratio` of the image's shorter side, in each further layer by half as much.
    """
    height, width = size
    crops = [Crop(0, 0, width, height, 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / count))
        crop_height, crop_width = (-(-(overlap * (count - 1) + length) // count) for length in size)
        for column in range(count):
            for row in range(count):
                x0, y0 = column * (crop_width - overlap), row * (crop_height - overlap)
                crops.append(Crop(x0, y0, min(x0 + crop_width, width), min(y0 + crop_height, height), layer))
    if min(map(min, (crop.size for crop in crops))) <= 0:
        raise FrameError(f"the image has {width}x{height} pixels, too few for crop_n_layers={layers}; lower it.")
    return crops


def build_point_grids(side: int, layers: int, downscale: int) -> list[Float[np.ndarray, "p 2"]]:
    """A square grid of points in 0..1 for each layer; each layer has `downscale` times fewer points along a side."""
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


def check_point_grids(grids: Any, layers: int) -> list[Shaped[np.ndarray, "p 2"]]:
    """The user's grids, one for each layer."""
    if not isinstance(grids, list | tuple) or len(grids) <= layers:
        count = len(grids) if isinstance(grids, list | tuple) else "no list of"
        raise PromptError(f"point_grids holds {count} grids; expected one for each of the {layers + 1} crop layers.")
    checked = []
    for layer, grid in enumerate(grids):
        points = np.asarray(grid)
        if points.ndim != 2 or points.shape[-1] != 2 or not len(points) or points.dtype.kind not in "uif":
            raise PromptError(f"point_grids[{layer}] is {points.dtype} {points.shape}; expected numbers [points, 2].")
        if not ((points >= 0) & (points <= 1)).all():
            raise PromptError(
                f"point_grids[{layer}] has points outside 0..1; divide them by the crop's width and height."
            )
        checked.append(points)
    return checked


def near_crop_edge(boxes: Shaped[np.ndarray, "n 4"], crop: Crop, size: tuple[int, int]) -> Bool[np.ndarray, "n"]:
    """Which boxes, in pixels of the image of `size`, lie near an edge of the crop that is no edge of the image."""
    near_crop = np.abs(boxes - np.array([crop.box])) <= EDGE_DISTANCE
    near_image = np.abs(boxes - np.array([[0, 0, *size[::-1]]])) <= EDGE_DISTANCE
    return np.any(near_crop & ~near_image, axis=-1)
