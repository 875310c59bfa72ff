"""StableHLO, by `jax.export`: programs that take the parameters as an argument, for CPU, CUDA and TPU in one file.

They are read with JAX and safetensors alone:

    encode = jax.export.deserialize(bytearray(open("encode.stablehlo", "rb").read())).call
    weights = safetensors.numpy.load_file("weights.safetensors")
    features = encode(weights, {"image": frame})
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export as jax_export
from safetensors.numpy import save

from edgetam_jax.evaluation.provenance import fingerprint
from edgetam_jax.export.programs import ExportOptions, Program, build_objects_program, build_programs
from edgetam_jax.model import Model

PLATFORMS = ("cpu", "cuda", "tpu")
WEIGHTS_FILE = "weights.safetensors"
FINGERPRINT_KEY = "edgetam_jax.fingerprint"
STORED = {"float32": np.float32, "float16": np.float16}  # as weights are stored; programs compute in float32


def stablehlo_programs(model: Model, options: ExportOptions) -> dict[str, Program]:
    """The programs, of which `track` takes any number of objects."""
    programs = build_programs(model, options)
    if not model.image_only:
        (count,) = jax_export.symbolic_shape("objects")
        programs["track"] = build_objects_program(model, options, programs["encode"].outputs, count)
    return programs


def write_stablehlo(
    model: Model, options: ExportOptions, folder: Path, weights: str
) -> tuple[dict[str, Program], dict]:
    """Writes the programs and the weights.

    Returns:
        The programs by name, and the file of each.
    """
    programs = stablehlo_programs(model, options)
    params = flatten_dict(model.params, sep="/")
    stored = {name: np.ascontiguousarray(np.asarray(x).astype(STORED[weights])) for name, x in params.items()}
    (folder / WEIGHTS_FILE).write_bytes(save(stored, {FINGERPRINT_KEY: fingerprint(model)}))
    files = {"weights": WEIGHTS_FILE}
    for name, program in programs.items():
        files[name] = f"{name}.stablehlo"
        (folder / files[name]).write_bytes(serialize(program, stored))
    return programs, files


def serialize(program: Program, stored: dict[str, Any]) -> bytes:
    """The program as a function of flat parameters, in the types of `stored`, and of its arrays."""

    def call(params: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
        full = {name: x.astype(np.float32) for name, x in params.items()}
        return program.function(unflatten_dict(full, sep="/"), arrays)

    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in stored.items()}
    exported = jax_export.export(jax.jit(call), platforms=PLATFORMS)(shapes, program.inputs)
    return bytes(exported.serialize())
