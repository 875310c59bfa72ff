"""The categories of YouTube-VOS's objects, from the file meta.json of each split.

train/meta.json  valid/meta.json    {"videos": {NAME: {"objects": {"1": {"category": "penguin", ...}}}}}
"""

import json
from collections.abc import Mapping
from pathlib import Path

from edgetam_jax.data.datasets import Dataset
from edgetam_jax.errors import FrameError

META = "meta.json"

Categories = Mapping[str, Mapping[int, str]]  # by the name of a video, and by object id


def categories_of(dataset: Dataset) -> Categories | None:
    """The categories of a dataset's objects; None if it has no meta.json, and so is not YouTube-VOS."""
    path = dataset.images.parent / META
    return read_categories(path) if dataset.layout == "ids" and path.exists() else None


def seen_categories(dataset: Dataset, meta: Path | None = None) -> frozenset[str] | None:
    """The categories of the training split, from `meta` or the folder beside this split; None if there is neither."""
    beside = dataset.images.parent.parent / "train" / META
    path = meta or (beside if beside.exists() else None)
    if path is None:
        return None
    return frozenset(category for objects in read_categories(path).values() for category in objects.values())


def read_categories(path: Path) -> Categories:
    """The content of a meta.json."""
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
