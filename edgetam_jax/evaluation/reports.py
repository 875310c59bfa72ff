"""Reports of measurements as JSON files."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgetam_jax.media.atomic import replacing


def as_json(value: Any) -> Any:
    """Converts named tuples to objects, arrays to lists, and NaN to null."""
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
    """Writes a JSON file; `force` replaces an existing one."""
    with replacing(path, force) as unfinished:
        unfinished.write_text(json.dumps(as_json(document), indent=1) + "\n")
