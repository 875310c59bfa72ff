"""`export`: a model as programs for other runtimes."""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from edgetam_jax.errors import ExportError
from edgetam_jax.export.programs import ExportOptions, check_options
from edgetam_jax.export.spec import SPEC_FILE, describe, write_spec
from edgetam_jax.media.atomic import replacing
from edgetam_jax.model import Model

Target = Literal["onnx", "stablehlo", "litert"]
Weights = Literal["float32", "float16", "int8"]


class _Format(NamedTuple):
    module: str  # of edgetam_jax.export; imported where it is used, for it may need an extra
    function: str  # writes the files, see `write_stablehlo`
    objects: str  # how `track` takes objects, see `describe`
    suffix: str
    weights: tuple[str, ...]  # that it can store, its default first
    package: str | None  # that has to be installed
    extra: str  # of this package, which installs it


FORMATS = {
    "onnx": _Format("onnx_model", "write_onnx", "one", ".onnx", ("float16", "float32", "int8"), "onnx", "onnx"),
    "stablehlo": _Format("stablehlo", "write_stablehlo", "axis", ".stablehlo", ("float32", "float16"), None, ""),
    "litert": _Format("litert", "write_litert", "one", ".tflite", ("float32",), "litert_converter", "litert"),
}
FILES = frozenset(
    {SPEC_FILE, "weights.safetensors"}
    | {name + each.suffix for each in FORMATS.values() for name in ("encode", "track", "decode")}
)


def export(
    model: Model,
    out: str | Path,
    to: Target = "onnx",
    *,
    points: int = 4,
    slots: int = 2,
    weights: Weights | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Exports a model, its tracker with all of its memory included, to run without this package.

    The folder then holds the programs `encode` (once a frame), `track` (once an object and frame) and `decode` (for
    prompts on still images), and `edgetam.json`, which describes them. A model for still images has no `track`.

    Args:
        model: A float32 model; its `image_size` is that of the programs.
        out: The folder to write.
        to: "onnx", "stablehlo" or "litert".
        points: Number of point slots. The network needs one itself, so 4 allow three points, or a box and a point.
        slots: Conditioning frames that are kept of each object, as in `init_state`.
        weights: How weights are stored: "float32", "float16" (not for LiteRT) or "int8" (ONNX only). Programs compute
            in float32. By default "float16" for ONNX, else "float32".
        force: Replaces an earlier export.

    Returns:
        The contents of `edgetam.json`.

    Raises:
        ConfigError: `points` or `slots` are out of range.
        ExportError: The target is unknown, cannot store such weights, or needs a package that is not installed; or the
            model is folded, or not float32.
        OutputError: The folder exists and `force` is False, or it cannot be written.
    """
    form = _find_format(to)
    if weights is not None and weights not in form.weights:
        raise ExportError(f"weights is {weights!r}; for {to} expected one of {', '.join(form.weights)}.")
    stored = weights or form.weights[0]
    options = ExportOptions(points, slots)
    check_options(options)
    _check_weights(model)
    write = _find_writer(to, form)
    with replacing(Path(out), force, FILES) as folder:
        folder.mkdir()
        programs, files = write(model, options, folder, stored)
        spec = write_spec(describe(model, programs, files, folder, to, stored, options, form.objects), folder)
    return spec


def _find_format(to: str) -> _Format:
    if to not in FORMATS:
        raise ExportError(f"the target is {to!r}; expected one of {', '.join(FORMATS)}.")
    return FORMATS[to]


def _find_writer(to: str, form: _Format) -> Callable[..., Any]:
    if form.package is not None and importlib.util.find_spec(form.package) is None:
        raise ExportError(f"export to {to} needs {form.package}: pip install 'edgetam-jax[{form.extra}]'.")
    return getattr(importlib.import_module(f"edgetam_jax.export.{form.module}"), form.function)


def _check_weights(model: Model) -> None:
    if model.weights is not None:
        raise ExportError("the model is folded for inference; export the model on which folded() was called.")
    if types := sorted({str(x.dtype) for x in jax.tree.leaves(model.params)} - {np.dtype(np.float32).name}):
        raise ExportError(
            f"the model's parameters are {', '.join(types)}; expected float32. Load it without astype, and choose with "
            "weights= how the file stores them."
        )
