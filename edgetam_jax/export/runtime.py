"""A tracker that runs an exported network with NumPy and onnxruntime alone (for LiteRT: ai-edge-litert).

This file imports nothing of edgetam_jax and no JAX, and may be copied into another project:

    tracker = Tracker("tracker/")                                       # a folder that `edgetam-jax export` wrote
    tracker.step(frame, {7: Prompt(points=[[210, 350]], labels=[1])})   # object 7, clicked on the first frame
    results = tracker.step(next_frame)                                  # every known object
    results[7].mask                                                     # [height, width] bool, of the frame's size
"""

import dataclasses
import hashlib
import importlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

FORMAT, VERSION = "edgetam_jax.export", 1
PILLOW_BITS = 22  # fraction bits of Pillow's weights
UNUSED, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = -2, 2, 3  # labels of places for points; 0 and 1 are the user's


class ExportedFilesError(ValueError):
    """The exported files, or what they are given, cannot be used; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What is said about one object on a frame: points and a box, or a mask."""

    points: Any = None  # [count, 2], (x, y) in pixels of the frame
    labels: Any = None  # [count], 1 on the object, 0 off it
    box: Any = None  # x0, y0, x1, y1 in pixels of the frame
    mask: Any = None  # [height, width] of the frame; above zero is the object


@dataclasses.dataclass(frozen=True)
class Result:
    """An object on a frame."""

    mask: np.ndarray  # [height, width] bool, of the frame's size
    logits: np.ndarray  # [h, w] of the network; -1024 where the object is absent
    score: float  # logit of the object's presence
    iou: float  # the network's estimate of the mask's IoU


class Tracker:
    """Tracks any number of objects; the memory of each has a fixed size."""

    def __init__(self, folder: str | pathlib.Path, threads: int = 0, providers: Any = None) -> None:
        """Loads an export.

        Args:
            folder: What `edgetam-jax export` wrote.
            threads: Threads of a program; 0 lets the library choose.
            providers: Of onnxruntime, such as `["CUDAExecutionProvider"]`; the CPU's by default.
        """
        self.folder = pathlib.Path(folder)
        self.spec = read_spec(self.folder)
        self.size: int = self.spec["image"]["size"]
        self._options = threads, providers
        self._programs: dict[str, Any] = {}
        self._states: dict[int, dict[str, np.ndarray]] = {}

    def init(self) -> None:
        """Forgets all objects, to begin another video."""
        self._states = {}

    @property
    def obj_ids(self) -> list[int]:
        return list(self._states)

    def step(self, frame: np.ndarray, prompts: Mapping[int, Prompt] = {}) -> dict[int, Result]:
        """Tracks all objects on the next frame.

        Args:
            frame: [height, width, 3] uint8 RGB.
            prompts: By object id: new objects, and corrections of known ones.
        """
        if "track" not in self.spec["programs"]:
            raise ExportedFilesError("this network is for still images and cannot track; export a video model.")
        check_frame(frame)
        given = {obj_id: self._prompt_arrays(prompt, frame.shape) for obj_id, prompt in prompts.items()}
        features = self._run("encode", {"image": resize_bicubic(frame, self.size)})
        for obj_id in given:
            self._states.setdefault(obj_id, self._zeros())
        nothing, results = self._no_prompt(), {}
        for obj_id, state in self._states.items():
            output = self._run("track", {**features, **state, **nothing, **given.get(obj_id, {})})
            self._states[obj_id] = {name: output[self.spec["state"]["next"] + name] for name in state}
            results[obj_id] = _result(output["logits"], output["score"], output["iou"], frame.shape)
        return results

    def forget(self, obj_id: int) -> None:
        """Stops tracking an object."""
        self._states.pop(obj_id, None)

    def segment(self, image: np.ndarray, prompt: Prompt, multimask: bool = True) -> Result:
        """The mask for points or a box on a still image; with `multimask` the best of three alternatives."""
        check_frame(image)
        arrays = self._prompt_arrays(prompt, image.shape)
        if prompt.mask is not None:
            raise ExportedFilesError("segment takes points or a box; a mask begins an object in step.")
        side = self.spec["mask"]["size"]
        mask = {"mask": np.zeros((side, side), np.float32), "has_mask": np.zeros(1, bool)}
        features = self._run("encode", {"image": resize_bicubic(image, self.size)})
        output = self._run("decode", {**features, **arrays, **mask})
        best = 1 + int(output["ious"][1:].argmax()) if multimask else 0
        return _result(output["logits"][best], output["score"], output["ious"][best], image.shape)

    def state(self) -> dict[str, Any]:
        """All that is remembered, for `restore`."""
        objects = {obj_id: dict(state) for obj_id, state in self._states.items()}
        return {"fingerprint": self.spec["fingerprint"], "objects": objects}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state` returned."""
        if state.get("fingerprint") != self.spec["fingerprint"]:
            raise ExportedFilesError("the state is another network's; restore it with the export that it came from.")
        expected = self._zeros()
        for obj_id, arrays in state["objects"].items():
            shapes = {name: (np.shape(x), np.asarray(x).dtype) for name, x in arrays.items()}
            if shapes != {name: (x.shape, x.dtype) for name, x in expected.items()}:
                raise ExportedFilesError(
                    f"the state of object {obj_id} has other arrays than this export, which has "
                    f"{self.spec['state']['slots']} slots; restore it with the export that it came from."
                )
        self._states = {obj_id: dict(arrays) for obj_id, arrays in state["objects"].items()}

    def _run(self, name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if name not in self._programs:
            self._programs[name] = _load_program(self.folder, self.spec, name, *self._options)
        wanted = self.spec["programs"][name]["inputs"]
        return self._programs[name]({each["name"]: arrays[each["name"]] for each in wanted})

    def _zeros(self) -> dict[str, np.ndarray]:
        inputs = {each["name"]: each for each in self.spec["programs"]["track"]["inputs"]}
        names = self.spec["state"]["names"]
        return {name: np.zeros(inputs[name]["shape"], inputs[name]["dtype"]) for name in names}

    def _no_prompt(self) -> dict[str, np.ndarray]:
        places = self.spec["points"]["places"]
        mask = np.zeros((self.size, self.size), np.uint8)
        return {"points": np.zeros((places, 2), np.float32), "labels": np.full(places, UNUSED, np.int32), "mask": mask}

    def _prompt_arrays(self, prompt: Prompt, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """The arrays of a prompt, in pixels of the resized frame."""
        height, width = shape[:2]
        arrays = self._no_prompt()
        if prompt.mask is not None:
            mask = np.asarray(prompt.mask)
            if mask.shape != (height, width) or not (mask > 0).any():
                raise ExportedFilesError(
                    f"the mask is {mask.shape} with {int((mask > 0).sum())} pixels; expected {(height, width)} as the "
                    "frame, and at least one pixel."
                )
            arrays["mask"] = (resize_linear(mask > 0, self.size) >= 0.5).astype(np.uint8)
            return arrays
        points = np.zeros((0, 2)) if prompt.points is None else np.asarray(prompt.points, float).reshape(-1, 2)
        labels = np.zeros(0, int) if prompt.labels is None else np.asarray(prompt.labels, int).reshape(-1)
        if prompt.box is not None:
            points = np.concatenate([np.asarray(prompt.box, float).reshape(2, 2), points])
            labels = np.concatenate([[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], labels])
        largest = self.spec["points"]["largest"]
        inside = ((points >= 0) & (points <= (width, height))).all()
        if len(points) != len(labels) or not 1 <= len(points) <= largest or not inside:
            raise ExportedFilesError(
                f"the prompt has {len(points)} points and {len(labels)} labels, a box counted as two; expected 1 to "
                f"{largest} of each, inside the frame of {width}x{height}. Exports with more --points take more."
            )
        arrays["points"][: len(points)] = points * (self.size / width, self.size / height)
        arrays["labels"][: len(labels)] = labels
        return arrays


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
        if not file.exists():
            raise ExportedFilesError(f"{file} is missing; export again, or copy the whole folder.")
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() != about["sha256"]:
            raise ExportedFilesError(
                f"{file} is not the file that {path.name} was written with: it is damaged, or of another export. "
                "Export again, or copy the whole folder."
            )
    return spec


def _load_program(folder: pathlib.Path, spec: dict[str, Any], name: str, threads: int, providers: Any) -> Any:
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


def check_frame(frame: Any) -> None:
    shape, dtype = getattr(frame, "shape", ()), getattr(frame, "dtype", None)
    if len(shape) != 3 or shape[-1] != 3 or 0 in shape or dtype != np.uint8:
        raise ExportedFilesError(f"the frame is {dtype} {shape}; expected uint8 [height, width, 3], RGB.")


def _result(logits: np.ndarray, score: Any, iou: Any, shape: tuple[int, ...]) -> Result:
    mask = resize_logits(logits, shape[:2]) > 0
    return Result(mask, logits, float(np.reshape(score, ())), float(np.reshape(iou, ())))


def resize_bicubic(image: np.ndarray, size: int) -> np.ndarray:
    """Pillow's BICUBIC to a square, bit for bit: width, then height, with uint8 in between."""
    for axis in (1, 0):
        length = image.shape[axis]
        if length == size:
            continue
        first, weights = _taps(length, size, _cubic, 2.0)
        fixed = np.trunc(weights * 2**PILLOW_BITS + np.copysign(0.5, weights)).astype(np.int32)
        shape = [-1 if each == axis else 1 for each in range(3)]
        total = np.full(1, 2 ** (PILLOW_BITS - 1), np.int32)
        for tap, weight in enumerate(fixed):
            total = total + image.take(first + tap, axis).astype(np.int32) * weight.reshape(shape)
        image = np.clip(total >> PILLOW_BITS, 0, 255).astype(np.uint8)
    return image


def _taps(length: int, size: int, kernel: Any, support: float) -> tuple[np.ndarray, np.ndarray]:
    """The first pixel that each of `size` outputs reads, and the weights [taps, size] of it and the following ones."""
    scale = length / size
    wide = max(scale, 1.0)
    centre = (np.arange(size) + 0.5) * scale
    start = np.maximum((centre - support * wide + 0.5).astype(int), 0)
    stop = np.minimum((centre + support * wide + 0.5).astype(int), length)
    taps = int((stop - start).max())
    first = np.minimum(start, length - taps)
    pixel = first + np.arange(taps)[:, None]
    weights = kernel((pixel - centre + 0.5) / wide) * ((start <= pixel) & (pixel < stop))
    return first, weights / weights.sum(0)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    inner, outer = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


def resize_linear(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask as shares of covered area, with antialias, to a square: `jax.image.resize`'s "linear"."""
    x = mask.astype(np.float32)
    for axis in (0, 1):
        length = x.shape[axis]
        at = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(length / size) - 0.5
        weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(length)) / max(length / size, 1))
        weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        x = np.moveaxis(np.tensordot(weights, x, (1, axis)), 0, axis)
    return x


def resize_logits(logits: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Bilinear, without antialias: pixel centres at i + 0.5."""
    for axis, length in enumerate(size):
        old = logits.shape[axis]
        at = ((np.arange(length) + 0.5) * float(np.float32(old / length)) - 0.5).astype(np.float32)
        at = np.clip(at, np.float32(0), np.float32(old - 1))
        first = np.minimum(at.astype(int), max(old - 2, 0))
        right = (at - first).reshape([-1 if each == axis else 1 for each in range(2)])
        logits = logits.take(first, axis) * (1 - right) + logits.take(np.minimum(first + 1, old - 1), axis) * right
    return logits
