"""`edgetam.json`: all that a program in another language has to know about an export."""

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgetam_jax.evaluation.provenance import fingerprint
from edgetam_jax.export.names import FEATURES, NEXT, STATE
from edgetam_jax.export.programs import ExportOptions, Program
from edgetam_jax.export.runtime.files import FORMAT, VERSION, sha256
from edgetam_jax.model import Model
from edgetam_jax.ops.pixels import MEAN, STD
from edgetam_jax.types import MASK_PROMPT_CLAMP, NO_OBJECT, Label

SPEC_FILE = "edgetam.json"
PACKAGES = ("edgetam-jax", "jax", "jaxlib", "onnx", "litert-converter")


def describe(
    model: Model,
    programs: Mapping[str, Program],
    files: Mapping[str, str],
    folder: Path,
    target: str,
    weights: str,
    options: ExportOptions,
    objects: str,
) -> dict[str, Any]:
    """The contents of `edgetam.json`.

    Args:
        model: The exported model.
        programs: Its programs by name.
        files: The file of each program, and other files by what they hold.
        folder: Where these files are.
        target: The format.
        weights: The type that weights are stored in.
        options: The sizes of the programs.
        objects: "one" if `track` takes one object a call, or "axis" if objects are a leading axis.
    """
    tracked = "track" in programs
    return {
        "format": FORMAT,
        "version": VERSION,
        "target": target,
        "weights": weights,
        "fingerprint": fingerprint(model),
        "config": model.config.to_dict(),
        "image": {
            "size": model.config.image_size,
            "layout": "height, width, RGB",
            "resize": "Pillow's BICUBIC on uint8, to a square without keeping the aspect ratio",
            "normalisation": {"inside": "encode", "mean": MEAN.tolist(), "std": STD.tolist(), "of": "RGB in 0 to 1"},
        },
        "points": {
            "places": options.points,
            "largest": options.points - 1,
            "unit": "pixels (x, y) of the resized image",
            "labels": {
                "unused": int(Label.ABSENT),
                "negative": int(Label.NEGATIVE),
                "positive": int(Label.POSITIVE),
                "box_top_left": int(Label.BOX_START),
                "box_bottom_right": int(Label.BOX_END),
            },
        },
        "mask": {"size": model.config.mask_size, "threshold": 0.0, "absent": NO_OBJECT, "clamp": MASK_PROMPT_CLAMP},
        "objects": objects,
        "state": {"names": list(STATE) if tracked else [], "start": "zeros", "next": NEXT, "slots": options.slots},
        "features": [name for name in FEATURES if name in programs["encode"].outputs],
        "programs": {
            name: {"file": files[name], "inputs": _arrays(program.inputs), "outputs": _arrays(program.outputs)}
            for name, program in programs.items()
        },
        "files": {name: {"sha256": sha256(folder / name)} for name in sorted(set(files.values()))},
        "versions": dict(_versions()),
    }


def _arrays(shapes: Mapping[str, Any]) -> list[dict[str, Any]]:
    def size(length: Any) -> int | str:
        return length if isinstance(length, int) else str(length)

    return [
        {"name": name, "shape": [size(length) for length in each.shape], "dtype": np.dtype(each.dtype).name}
        for name, each in shapes.items()
    ]


def _versions() -> list[tuple[str, str]]:
    found = []
    for package in PACKAGES:
        try:
            found.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_spec(spec: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Writes the file, and returns what reading it gives."""
    text = json.dumps(spec, indent=1) + "\n"
    (folder / SPEC_FILE).write_text(text)
    return json.loads(text)
