"""What the objects of YouTube-VOS are, by the file meta.json of each of its parts.

train/meta.json  valid/meta.json    {"videos": {NAME: {"objects": {"1": {"category": "penguin", ...}}}}}
"""

import json
from collections.abc import Mapping
from pathlib import Path

from edgetam_jax.data.datasets import Dataset
from edgetam_jax.errors import FrameError

META = "meta.json"

Categories = Mapping[str, Mapping[int, str]]  # by video and object


def categories_of(dataset: Dataset) -> Categories | None:
    """None for a dataset without the file, which is not YouTube-VOS."""
    path = dataset.images.parent / META
    return read_categories(path) if dataset.kind == "ids" and path.exists() else None


def seen_categories(dataset: Dataset, meta: Path | None = None) -> frozenset[str] | None:
    """Those of the training part, by its `meta`, or by the one beside this part; None if there is neither."""
    beside = dataset.images.parent.parent / "train" / META
    path = meta or (beside if beside.exists() else None)
    if path is None:
        return None
    return frozenset(category for objects in read_categories(path).values() for category in objects.values())


def read_categories(path: Path) -> Categories:
    try:
        videos = json.loads(path.read_text())["videos"]
        return {
            name: {int(obj_id): str(one["category"]) for obj_id, one in video["objects"].items()}
            for name, video in videos.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FrameError(
            f"{path} cannot be read ({error!r}); expected YouTube-VOS's own, which gives each object's category."
        ) from error
