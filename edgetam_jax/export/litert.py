"""LiteRT (.tflite), by litert-converter from StableHLO: for Android, iOS and microcontrollers."""

import importlib
from pathlib import Path
from typing import Any

import jax

from edgetam_jax.errors import ExportError
from edgetam_jax.export.fold import fold
from edgetam_jax.export.programs import ExportOptions, Program, build_programs
from edgetam_jax.export.replay import replay
from edgetam_jax.model import Model

SIGNATURE = "serving_default"


def write_litert(
    model: Model, options: ExportOptions, folder: Path, weights: str
) -> tuple[dict[str, Program], dict[str, str]]:
    """Writes a file for each program.

    Returns:
        The programs by name, and the file of each.
    """
    del weights  # float32, the only type here
    programs = build_programs(model, options)
    for name, program in programs.items():
        (folder / f"{name}.tflite").write_bytes(build_litert(program))
    return programs, {name: f"{name}.tflite" for name in programs}


def build_litert(program: Program) -> bytes:
    """The program as a LiteRT model with one signature, whose arrays have the program's names."""
    converter: Any = importlib.import_module("litert_converter.converter_api_ext")
    ir: Any = importlib.import_module("litert_converter.mlir.ir")
    passes: Any = importlib.import_module("litert_converter.mlir.passmanager")
    function = replay(fold(program))
    inputs, outputs = list(program.inputs), list(program.outputs)

    def positional(*arrays: Any) -> tuple[Any, ...]:
        results = function(dict(zip(inputs, arrays, strict=True)))
        return tuple(results[name] for name in outputs)

    lowered = jax.jit(positional, keep_unused=True).trace(*program.inputs.values()).lower(lowering_platforms=("cpu",))
    text = lowered.as_text()
    with ir.Context() as context:
        converter.prepare_mlir_context(context)
        module = ir.Module.parse(text)
        converter.set_signature(module.operation, SIGNATURE, inputs, outputs)
        try:
            converter.run_convert_to_tfl_passes(module, passes.PassManager(), converter.ConvertToTFLConfig())
        except ValueError as error:
            raise ExportError(f"{program.name}: litert-converter refuses it: {error}") from error
        return converter.export_flatbuffer_to_bytes(module.operation)
