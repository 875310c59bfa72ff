"""Reports of what was measured, as JSON files, and what made them, so that results of two networks do not mix."""

import contextlib
import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from edgetam_jax.errors import ConfigError, FrameError, OutputError
from edgetam_jax.media.atomic import replacing
from edgetam_jax.model import Model

RECORD = ".made-with.json"  # in a folder of results; scorers look for folders, or for the names of videos
SHOWN = 3  # of what is wrong, in a message


def fingerprint(model: Model) -> str:
    """Of its parameters: the same for equal ones only, wherever they were read from."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(model.params):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape} ".encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def model_provenance(model: Model) -> dict[str, Any]:
    """What tells networks apart, as settings."""
    return {"weights": fingerprint(model), "network": model.config.to_dict()}


def as_json(value: Any) -> Any:
    """Named tuples as objects, arrays as lists, and null for what is not a number."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(name): as_json(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def write_report(path: Path, document: Any, force: bool = False) -> None:
    with replacing(path, force) as unfinished:
        unfinished.write_text(json.dumps(as_json(document), indent=1) + "\n")


def claim_output_dir(folder: Path, names: Iterable[str], settings: Mapping[str, Any], model: str) -> None:
    """Notes in a folder with what the results `names` in it are made, or refuses it if they are made otherwise.

    Before the first of them. Several processes may do so at once, each for its share.
    """
    # In this order: another process may have written the record and then a result in between.
    there = [name for name in names if (folder / name).exists()]
    if read_alike(folder / RECORD, settings, "model") is not None:
        return
    if there:
        raise ConfigError(
            f"{folder} holds {', '.join(there[:SHOWN])}, but not {RECORD}, which would say with what that was made. "
            "Choose another output, or delete that folder."
        )
    # Not by `replacing`, whose temporary name processes on two machines may have in common.
    unfinished = folder / f"{RECORD}.{uuid.uuid4().hex}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(as_json({"model": model, "settings": settings}), indent=1) + "\n")
        os.replace(unfinished, folder / RECORD)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise OutputError(f"nothing can be written to {folder} ({error}); choose another output.") from error


def read_alike(path: Path, settings: Mapping[str, Any], key: str) -> Any:
    """One value of a report that was made with the same settings; None without a report. Of others it is refused."""
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text())
        before, value = dict(document["settings"]), document[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FrameError(f"{path} is not what this program writes ({error!r}); remove it.") from error
    was, now = (flatten_dict(as_json(one), sep=".") for one in (before, settings))
    changed = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    if changed:
        before, after = (", ".join(f"{name} {one.get(name)}" for name in changed[:SHOWN]) for one in (was, now))
        by = f" by {document['model']}" if "model" in document else ""
        raise ConfigError(
            f"{path.parent} was made{by} with {before}; now it is {after}. "
            "Choose another output, or delete that folder."
        )
    return value
