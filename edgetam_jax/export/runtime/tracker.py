"""The tracker: the memory of each object, and the programs that are called with it."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .files import ExportedFilesError, load_program, read_spec
from .resize import resize_bicubic, resize_linear, resize_logits

UNUSED, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = -2, 2, 3  # labels of places for points; 0 and 1 are the user's


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What is said about one object on a frame: points and a box, or a mask.

    Attributes:
        points: [count, 2], (x, y) in pixels of the frame.
        labels: [count], 1 on the object, 0 off it.
        box: x0, y0, x1, y1 in pixels of the frame.
        mask: [height, width] of the frame; above zero is the object.
    """

    points: Any = None
    labels: Any = None
    box: Any = None
    mask: Any = None


@dataclasses.dataclass(frozen=True)
class Result:
    """An object on a frame.

    Attributes:
        mask: [height, width] bool, of the frame's size.
        logits: [h, w] of the network; -1024 where the object is absent.
        score: Logit of the object's presence.
        iou: The network's estimate of the mask's IoU.
    """

    mask: np.ndarray
    logits: np.ndarray
    score: float
    iou: float


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
        """The objects that are tracked."""
        return list(self._states)

    def step(self, frame: np.ndarray, prompts: Mapping[int, Prompt] = {}) -> dict[int, Result]:
        """Tracks all objects on the next frame.

        Args:
            frame: [height, width, 3] uint8 RGB.
            prompts: By object id: new objects, and corrections of known ones.

        Returns:
            The mask of each object by its id.

        Raises:
            ExportedFilesError: The network is for still images only, or the frame or a prompt does not fit.
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
        """Stops tracking an object.

        Args:
            obj_id: The object. Ids that are not tracked are ignored.
        """
        self._states.pop(obj_id, None)

    def segment(self, image: np.ndarray, prompt: Prompt, multimask: bool = True) -> Result:
        """Segments an object on a still image.

        Args:
            image: [height, width, 3] uint8 RGB.
            prompt: Points, a box, or both.
            multimask: Whether to return the best of three alternative masks instead of the single one.

        Returns:
            The mask.

        Raises:
            ExportedFilesError: The image or the prompt does not fit.
        """
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
        """Copies the memory of all objects.

        Returns:
            What `restore` takes: named arrays by object id, and the fingerprint of the weights.
        """
        objects = {obj_id: dict(state) for obj_id, state in self._states.items()}
        return {"fingerprint": self.spec["fingerprint"], "objects": objects}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a stored memory.

        Args:
            state: What `state` returned, of the same export.

        Raises:
            ExportedFilesError: The state is of another network, or has other arrays.
        """
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
            self._programs[name] = load_program(self.folder, self.spec, name, *self._options)
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


def check_frame(frame: Any) -> None:
    shape, dtype = getattr(frame, "shape", ()), getattr(frame, "dtype", None)
    if len(shape) != 3 or shape[-1] != 3 or 0 in shape or dtype != np.uint8:
        raise ExportedFilesError(f"the frame is {dtype} {shape}; expected uint8 [height, width, 3], RGB.")


def _result(logits: np.ndarray, score: Any, iou: Any, shape: tuple[int, ...]) -> Result:
    mask = resize_logits(logits, shape[:2]) > 0
    return Result(mask, logits, float(np.reshape(score, ())), float(np.reshape(iou, ())))
