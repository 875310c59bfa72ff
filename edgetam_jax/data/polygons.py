"""Polygons of COCO: checked, measured, and turned into masks by pycocotools."""

from typing import Any

import numpy as np

from edgetam_jax.errors import ConfigError, FrameError
from edgetam_jax.ops.rle import rle_decode

MAX_COORDINATE = 1 << 20  # pixels; no image is so large


def read_polygons(segmentation: Any, where: Any) -> list[np.ndarray]:
    """Flat lists x0, y0, x1, y1, ... as arrays [N, 2], without those of two corners, which enclose nothing."""
    try:
        polygons = [np.asarray(flat, np.float64).reshape(-1, 2) for flat in segmentation]
    except (TypeError, ValueError) as error:
        raise FrameError(f"{where}: these are no polygons ({error}); expected lists of x0, y0, x1, y1, ...") from error
    if not all((np.abs(corners) < MAX_COORDINATE).all() for corners in polygons):
        raise FrameError(
            f"{where}: a polygon has corners that are not finite or far from any image; "
            "expected pixels x0, y0, x1, y1, ..."
        )
    return [corners for corners in polygons if len(corners) > 2]


def polygon_area(corners: np.ndarray) -> float:
    """The area that a polygon [N, 2] encloses, by the shoelace formula."""
    x, y = corners.T
    return abs(float(np.dot(x, np.roll(y, -1) - np.roll(y, 1)))) / 2


def polygons_mask(polygons: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The union of polygons [N, 2] as a mask of `size` (height, width)."""
    if not polygons:
        return np.zeros(size, bool)
    coco_mask = import_coco_mask()
    rles = coco_mask.frPyObjects([corners.ravel().tolist() for corners in polygons], *map(int, size))
    # The decoder of pycocotools gives a DeprecationWarning with NumPy 2.
    return rle_decode(coco_mask.merge(rles))


def import_coco_mask() -> Any:
    """The module `pycocotools.mask`, which only datasets with polygons need."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ConfigError("polygons need pycocotools: pip install 'edgetam-jax[train]'.") from error
    return mask
