"""Reports of what was measured, as JSON files."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from edgetam_jax.files import replacing
from edgetam_jax.model import Model


def fingerprint(model: Model) -> str:
    """Of its parameters: the same for equal ones only, wherever they were read from."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(model.params):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape} ".encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


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
