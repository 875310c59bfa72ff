"""The files of an export: their specification, and the programs that a runtime loads."""

import hashlib
import importlib
import json
import pathlib
from typing import Any

FORMAT, VERSION = "edgetam_jax.export", 1


class ExportedFilesError(ValueError):
    """The exported files, or what they are given, cannot be used; the message says what to do."""


def read_spec(folder: pathlib.Path) -> dict[str, Any]:
    """Reads `edgetam.json`, and checks that the files beside it are those that it was written with."""
    path = folder / "edgetam.json"
    try:
        spec = json.loads(path.read_text())
        found = spec["format"], spec["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportedFilesError(f"{path} is not an export of edgetam-jax ({error!r}); give its folder.") from error
    if found != (FORMAT, VERSION):
        raise ExportedFilesError(f"{path} is {found}; this runtime reads {(FORMAT, VERSION)}. Export again.")
    for name, about in spec["files"].items():
        file = folder / name
        if not file.is_file():
            raise ExportedFilesError(f"{file} is missing; export again, or copy the whole folder.")
        if sha256(file) != about["sha256"]:
            raise ExportedFilesError(
                f"{file} is not the file that {path.name} was written with: it is damaged, or of another export. "
                "Export again, or copy the whole folder."
            )
    return spec


def sha256(file: pathlib.Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def load_program(folder: pathlib.Path, spec: dict[str, Any], name: str, threads: int, providers: Any) -> Any:
    file = folder / spec["programs"][name]["file"]
    if spec["target"] == "onnx":
        onnxruntime = _import("onnxruntime", "onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(file), options, providers=providers or ["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda arrays: dict(zip(names, session.run(names, dict(arrays)), strict=True))
    if spec["target"] == "litert":
        litert = _import("ai_edge_litert.interpreter", "ai-edge-litert")
        runner = litert.Interpreter(str(file), num_threads=threads or None).get_signature_runner()
        return lambda arrays: runner(**arrays)
    raise ExportedFilesError(f"this runtime reads ONNX and LiteRT, not {spec['target']}; see docs/export.md.")


def _import(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ExportedFilesError(f"these files need {package}: pip install {package}.") from error
