"""Which network and settings made a folder of results, so that those of two networks are not mixed."""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from edgetam_jax.errors import ConfigError, FrameError, OutputError
from edgetam_jax.evaluation.reports import as_json
from edgetam_jax.model import Model

PROVENANCE_FILE = ".made-with.json"  # in a folder of results; scorers do not read it
MAX_LISTED = 3  # videos or settings, in an error message


def fingerprint(model: Model) -> str:
    """The SHA-256 of the names, types, shapes and values of a model's parameters."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(model.params):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape} ".encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def model_provenance(model: Model) -> dict[str, Any]:
    """What distinguishes two networks: the fingerprint of the weights, and the configuration."""
    return {"weights": fingerprint(model), "network": model.config.to_dict()}


def claim_output_dir(folder: Path, names: Iterable[str], settings: Mapping[str, Any], model: str) -> None:
    """Records in a folder which model and settings make the results `names`.

    Called before the first result is written; several processes may do so at once.

    Raises:
        ConfigError: The folder holds results of other settings, or results without a record.
        OutputError: Nothing can be written to the folder.
    """
    # Results are listed before the record is read: another process may write the record and then a result in between.
    existing = [name for name in names if (folder / name).exists()]
    if read_matching(folder / PROVENANCE_FILE, settings, "model") is not None:
        return
    if existing:
        raise ConfigError(
            f"{folder} holds {', '.join(existing[:MAX_LISTED])}, but not {PROVENANCE_FILE}, which says how they were "
            "made. Choose another output, or delete that folder."
        )
    # `replacing` is not used, for two machines may choose the same temporary name.
    unfinished = folder / f"{PROVENANCE_FILE}.{uuid.uuid4().hex}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(as_json({"model": model, "settings": settings}), indent=1) + "\n")
        os.replace(unfinished, folder / PROVENANCE_FILE)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise OutputError(f"nothing can be written to {folder} ({error}); choose another output.") from error


def read_matching(path: Path, settings: Mapping[str, Any], key: str) -> Any:
    """One value of a report; None if there is no report. Raises if it was made with other settings."""
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
        before, after = (", ".join(f"{name} {one.get(name)}" for name in changed[:MAX_LISTED]) for one in (was, now))
        by = f" by {document['model']}" if "model" in document else ""
        raise ConfigError(
            f"{path.parent} was made{by} with {before}; now it is {after}. "
            "Choose another output, or delete that folder."
        )
    return value
