"""`export` as users call it."""

import importlib.util
import inspect
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import edgetam_jax
from edgetam_jax import Model
from edgetam_jax.cli import main as cli
from edgetam_jax.errors import EdgeTAMError, ExportError, OutputError
from edgetam_jax.export import api
from edgetam_jax.export.onnx_model import check
from edgetam_jax.export.onnx_weights import SMALLEST, store_weights
from edgetam_jax.export.verify import report, verify


def test_the_package_can_be_called() -> None:
    assert inspect.signature(edgetam_jax.export) == inspect.signature(api.export)
    package: Any = edgetam_jax.export
    assert package.api is api


def test_the_specification_has_the_shapes_of_the_files(onnx_folder: Path) -> None:
    spec = json.loads((onnx_folder / "edgetam.json").read_text())
    for name, program in spec["programs"].items():
        graph = onnx.load(onnx_folder / program["file"]).graph
        for kind, arrays in (("inputs", graph.input), ("outputs", graph.output)):
            shapes = {each.name: [d.dim_value for d in each.type.tensor_type.shape.dim] for each in arrays}
            assert shapes == {each["name"]: each["shape"] for each in program[kind]}, name


@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_weights_are_stored_small(onnx_folder: Path, weights: str) -> None:
    exact = onnx.load(onnx_folder / "track.onnx")
    stored = store_weights(exact, weights)
    check(stored)

    def size(proto: onnx.ModelProto) -> int:
        return sum(len(each.raw_data) for each in proto.graph.initializer if np.prod(each.dims) >= SMALLEST)

    assert size(stored) < 0.6 * size(exact)
    used = {name for node in exact.graph.node for name in node.input}
    largest: dict[Any, Any] = {
        each.name: numpy_helper.to_array(each) for each in exact.graph.initializer if each.name in used
    }
    # What the new nodes make of the stored constants is near the constants.
    run = ReferenceEvaluator(only_weights(stored, [name for name, x in largest.items() if x.size >= SMALLEST]))
    for name, got in zip(run.output_names, run.run(None, {}), strict=True):
        assert np.abs(got - largest[name]).max() <= np.abs(largest[name]).max() / (250 if weights == "int8" else 2000)


def only_weights(proto: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """A model without inputs, whose outputs are some of its constants, as its first nodes compute them."""
    made = {name: node for node in proto.graph.node for name in node.output}
    nodes = [made[name] for name in names if name in made]
    outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name in made]
    assert len(nodes) > 5
    graph = onnx.helper.make_graph(nodes, "weights", [], outputs, proto.graph.initializer)
    return onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)


def test_requests_without_meaning_are_refused(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown: Any = "tflite"
    with pytest.raises(ExportError, match="'tflite'; expected one of onnx"):
        edgetam_jax.export(model, tmp_path / "out", to=unknown)
    with pytest.raises(ExportError, match="int8.*stablehlo expected one of float32"):
        edgetam_jax.export(model, tmp_path / "out", to="stablehlo", weights="int8")
    with pytest.raises(EdgeTAMError, match="points is 1"):
        edgetam_jax.export(model, tmp_path / "out", points=1)
    with pytest.raises(ExportError, match=r"bfloat16.*expected float32"):
        edgetam_jax.export(model.astype("bfloat16"), tmp_path / "out")
    with pytest.raises(ExportError, match="folded for inference; export the model on which"):
        edgetam_jax.export(model.folded(), tmp_path / "out")
    with pytest.raises(OutputError, match="does not exist"):
        edgetam_jax.export(model, tmp_path / "none" / "out")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"needs onnx: pip install 'edgetam-jax\[onnx\]'"):
        edgetam_jax.export(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_only_an_export_is_replaced(model: Model, onnx_folder: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(onnx_folder, tmp_path / "out"))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(OutputError, match="exists"):
        edgetam_jax.export(model, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        edgetam_jax.export(model, out, force=True)
    (out / "notes.txt").unlink()
    spec = edgetam_jax.export(model, out, to="onnx", points=5, slots=3, force=True)
    assert json.loads((out / "edgetam.json").read_text()) == spec
    assert spec["weights"] == "float16" and spec["points"]["places"] == 5
    track = {each["name"]: each["shape"] for each in spec["programs"]["track"]["inputs"]}
    assert track["labels"] == [5] and track["conditioning_valid"] == [3]


def test_a_full_disk_changes_nothing(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, os.strerror(28), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        edgetam_jax.export(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_verify_refuses_another_model(model: Model, onnx_folder: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(onnx_folder, tmp_path / "out"))
    other = Model({**model.params, "no_mem_embed": model.params["no_mem_embed"] + 1}, model.config)
    with pytest.raises(ExportError, match="other weights"):
        verify(other, out)
    spec = json.loads((out / "edgetam.json").read_text())
    (out / "edgetam.json").write_text(json.dumps(spec | {"target": "stablehlo"}))
    with pytest.raises(ExportError, match="stablehlo do not run"):
        verify(model, out)
    (out / "decode.onnx").unlink()
    with pytest.raises(ExportError, match=r"decode\.onnx is missing"):
        verify(model, out)


@pytest.mark.slow
def test_nano_in_onnx_is_nano(tmp_path: Path) -> None:
    """24 frames, three objects, an occlusion, corrections, and both rings wrap."""
    model = edgetam_jax.load("nano")
    edgetam_jax.export(model, tmp_path / "out", weights="float32")
    found = verify(model, tmp_path / "out")
    assert not found.failures, report(found)
    tracker = sum(found.sizes[name] for name in ("encode.onnx", "track.onnx"))
    assert tracker <= 1.05 * found.weights_bytes


def test_the_command(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    edgetam_jax.save(model, tmp_path / "model.safetensors")
    arguments = ["export", str(tmp_path / "model.safetensors"), str(tmp_path / "out"), "--to", "onnx", "--size", "64"]
    assert cli.main(arguments) == 0
    assert "track.onnx" in capsys.readouterr().out
    assert cli.main(arguments) == 2
    assert "exists" in capsys.readouterr().err
