"""ONNX: a folded program as a model that onnxruntime runs on CPUs, GPUs, phones and in browsers."""

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import ModelProto, helper

from edgetam_jax.errors import ExportError
from edgetam_jax.evaluation.provenance import fingerprint
from edgetam_jax.export import onnx_dense, onnx_ops
from edgetam_jax.export.fold import Graph, fold
from edgetam_jax.export.onnx_graph import OnnxGraph
from edgetam_jax.export.onnx_weights import store_weights
from edgetam_jax.export.patterns import find_activations
from edgetam_jax.export.programs import ExportOptions, Program, build_programs
from edgetam_jax.model import Model

OPSET, IR_VERSION = 20, 10  # the first with Gelu
PRODUCER = "edgetam_jax"
EMITTERS = onnx_ops.EMITTERS | onnx_dense.EMITTERS


def write_onnx(
    model: Model, options: ExportOptions, folder: Path, weights: str
) -> tuple[dict[str, Program], dict[str, str]]:
    """Writes a file for each program.

    Returns:
        The programs by name, and the file of each.
    """
    programs, metadata = build_programs(model, options), {"edgetam_jax.fingerprint": fingerprint(model)}
    for name, program in programs.items():
        proto = store_weights(build_onnx(program, metadata), weights)
        check(proto)
        (folder / f"{name}.onnx").write_bytes(proto.SerializeToString())
    return programs, {name: f"{name}.onnx" for name in programs}


def build_onnx(program: Program, metadata: Mapping[str, str] | None = None) -> ModelProto:
    """The program as a checked ONNX model with float32 weights."""
    return emit(find_activations(fold(program)), program.name, metadata or {})


def emit(folded: Graph, name: str, metadata: Mapping[str, str]) -> ModelProto:
    """A folded program as a checked ONNX model.

    Raises:
        ExportError: A primitive has no ONNX operator; the message names it.
    """
    graph = OnnxGraph()
    for each, value in folded.inputs.items():
        graph.bind(value, each)
    for equation in folded.equations:
        emitter = EMITTERS.get(equation.name)
        shapes = [tuple(x.shape) for x in equation.inputs]
        if emitter is None:
            raise ExportError(f"{name}: the primitive {equation.name!r} of {shapes} has no ONNX operator here.")
        try:
            emitter(graph, equation)
        except ExportError as error:
            raise ExportError(f"{name}: {equation.name} of {shapes}: {error}") from error
    graph.finish({each: graph.full(x) for each, x in folded.outputs.items()})
    proto = helper.make_graph(
        graph.nodes,
        name,
        [graph.value_info(each, value) for each, value in folded.inputs.items()],
        [graph.value_info(each, x) for each, x in folded.outputs.items()],
        graph.tensors(),
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION, producer_name=PRODUCER)
    helper.set_model_props(model, dict(metadata))
    check(model)
    return model


def check(model: ModelProto) -> None:
    """ONNX's own checker, with inference of all shapes."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"onnx refuses the exported program: {error}") from error


def operators(model: ModelProto) -> dict[str, int]:
    """How often a model uses each operator."""
    kinds = [node.op_type for node in model.graph.node]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}
