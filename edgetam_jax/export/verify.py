"""Runs an export beside JAX on a clip, and compares masks, logits, memory and time."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from edgetam_jax.data.synthetic import ClipConfig, SyntheticClip
from edgetam_jax.errors import ExportError
from edgetam_jax.evaluation.held_out import PROMPT_KINDS, first_shown, held_out_clip, prompt_fields
from edgetam_jax.evaluation.provenance import fingerprint
from edgetam_jax.export.runtime import ExportedFilesError, Tracker, read_spec
from edgetam_jax.export.runtime import Prompt as RuntimePrompt
from edgetam_jax.export.steps import bank_arrays
from edgetam_jax.model import Model
from edgetam_jax.prompts import Prompt, Prompts
from edgetam_jax.tracking.state import Tracks, init_state
from edgetam_jax.tracking.stream import track_step

FRAMES, OBJECTS = 24, 3
CORRECTED = (9, 17)  # frames with corrections
HEIGHT, WIDTH = 240, 320
CLIPS = 40  # that are searched for one with all objects on the first frame, and an occlusion later
# Of float32 weights: the logits' largest error as a share of their span, the memory's largest error, and the IoU of the
# worst mask. Weights in float16 and int8 are slightly another network, of which the mean IoU is bounded.
LOGITS, STATE = 1e-5, 5e-5
IOU = {"float32": 0.999, "float16": 0.999, "int8": 0.97}  # of the worst mask in float32, else the mean


class Verification(NamedTuple):
    """The results of comparing an export with JAX on a clip."""

    target: str
    weights: str
    frames: int
    objects: int
    logits_error: float  # the largest, as a share of the logits' span
    state_error: float  # the largest of what is remembered
    mean_iou: float  # of masks to those of JAX
    worst_iou: float
    jax_ms: float  # processor time a frame, the median of frames without prompts
    exported_ms: float
    sizes: Mapping[str, int]  # bytes of each file
    weights_bytes: int  # of the model's float32 parameters

    @property
    def failures(self) -> list[str]:
        """What is outside its bounds."""
        if self.weights == "float32":
            bounds = {"logits": (self.logits_error, LOGITS), "memory": (self.state_error, STATE)}
            bounds["worst IoU"] = (IOU["float32"] - self.worst_iou, 0.0)
        else:
            bounds = {"mean IoU": (IOU[self.weights] - self.mean_iou, 0.0)}
        return [name for name, (value, bound) in bounds.items() if not value <= bound]


class _Request(NamedTuple):
    frame: int
    obj_id: int
    fields: dict[str, Any]  # of a Prompt: points and labels, box, or mask


def verify(model: Model, folder: str | Path, frames: int = FRAMES) -> Verification:
    """Tracks three objects with an export and with `track_step`, from a click, a box and a mask, with corrections.

    Args:
        model: The model that was exported.
        folder: The export.
        frames: Length of the clip.

    Raises:
        ExportError: The export is of another model, for still images, or of a format that does not run here.
    """
    folder = Path(folder)
    try:
        spec = read_spec(folder)
    except ExportedFilesError as error:
        raise ExportError(str(error)) from error
    _check(spec, model)
    clip = _find_clip(frames)
    requests = list(_requests(clip))
    tracker = Tracker(folder, threads=1)
    state = init_state(model, OBJECTS, spec["state"]["slots"])
    live, exported, times = [], [], []
    for t, frame in enumerate(np.asarray(clip.frames)):
        here = [each for each in requests if each.frame == t]
        start = time.process_time()
        state, tracks = track_step(model, state, frame, _prompts(here))
        jax.block_until_ready(tracks)
        middle = time.process_time()
        results = tracker.step(frame, {each.obj_id: RuntimePrompt(**each.fields) for each in here})
        times.append((middle - start, time.process_time() - middle, bool(here)))
        live.append(tracks)
        exported.append(np.stack([results[obj_id].logits for obj_id in range(OBJECTS)]))
    remembered = {name: np.asarray(x) for name, x in bank_arrays(state.banks).items()}
    return _compare(spec, model, live, np.stack(exported), remembered, tracker.state()["objects"], times, folder)


def _check(spec: Mapping[str, Any], model: Model) -> None:
    if spec["fingerprint"] != fingerprint(model):
        raise ExportError("the export has other weights than the model; export the model again.")
    if "track" not in spec["programs"]:
        raise ExportError("the model is for still images and has no tracker that could be compared.")
    if spec["target"] not in ("onnx", "litert"):
        raise ExportError(
            f"exports to {spec['target']} do not run in this process; onnx and litert can be verified. "
            "docs/export.md says how this one was checked."
        )


def _find_clip(frames: int) -> SyntheticClip:
    config = ClipConfig(frames=frames, height=HEIGHT, width=WIDTH, objects=OBJECTS, leaving=0.0)
    for number in range(CLIPS):
        clip = held_out_clip(number, config)
        if (np.asarray(first_shown(clip.masks)) == 0).all() and np.asarray(clip.covered).max() > 0.9:
            return clip
    raise ExportError(f"none of {CLIPS} clips of {frames} frames has an occlusion; verify on more frames.")


def _requests(clip: SyntheticClip) -> Iterator[_Request]:
    """A click, a box and a mask on the first frame; later a click on each object that is visible."""
    first = clip.masks[0]
    for obj_id, kind in enumerate(PROMPT_KINDS):
        yield _Request(0, obj_id, prompt_fields(kind, first[obj_id]))
    visible = np.asarray(clip.visible)
    for frame in CORRECTED:
        if frame < len(visible):
            for obj_id in np.flatnonzero(visible[frame]):
                yield _Request(frame, int(obj_id), prompt_fields("click", clip.masks[frame, obj_id]))


def _prompts(requests: list[_Request]) -> Prompts | None:
    if not requests:
        return None
    prompts = [Prompt(frame=each.frame, obj_id=each.obj_id, **each.fields) for each in requests]
    return Prompts.build(prompts, obj_ids=range(OBJECTS))


def _compare(
    spec: Mapping[str, Any],
    model: Model,
    live: list[Tracks],
    exported: np.ndarray,
    remembered: Mapping[str, np.ndarray],
    states: Mapping[int, Mapping[str, np.ndarray]],
    times: list[tuple[float, float, bool]],
    folder: Path,
) -> Verification:
    logits = np.concatenate([np.asarray(tracks.logits) for tracks in live])
    absent = spec["mask"]["absent"]
    present = (logits != absent) & (exported != absent)
    ours, theirs = logits > 0, exported > 0
    both, either = (ours & theirs).sum((2, 3)), (ours | theirs).sum((2, 3))
    ious = np.where(either > 0, both / np.maximum(either, 1), 1.0)
    state_error = max(
        float(np.abs(states[row][name] - values[row]).max())
        for name, values in remembered.items()
        for row in range(OBJECTS)
        if values.dtype == np.float32
    )
    unprompted = np.array([each[:2] for each in times[1:] if not each[2]])
    jax_ms, exported_ms = 1000 * np.median(unprompted, axis=0)
    return Verification(
        target=spec["target"],
        weights=spec["weights"],
        frames=len(logits),
        objects=OBJECTS,
        logits_error=float(np.abs(logits - exported)[present].max() / np.ptp(logits[present])),
        state_error=state_error,
        mean_iou=float(ious.mean()),
        worst_iou=float(ious.min()),
        jax_ms=float(jax_ms),
        exported_ms=float(exported_ms),
        sizes={name: (folder / name).stat().st_size for name in spec["files"]},
        weights_bytes=sum(x.nbytes for x in jax.tree.leaves(model.params)),
    )


def report(found: Verification) -> str:
    """Formats the results as a table."""

    def bound(name: str, value: str, applies: bool) -> str:
        if not applies:
            return ""
        return f"{value}  {'FAILED' if name in found.failures else 'ok'}"

    exact, least = found.weights == "float32", f"at least {IOU[found.weights]}"
    rows = [
        ("logits, largest error / span", f"{found.logits_error:.1e}", bound("logits", f"at most {LOGITS:.0e}", exact)),
        ("memory, largest error", f"{found.state_error:.1e}", bound("memory", f"at most {STATE:.0e}", exact)),
        ("IoU of masks, mean", f"{found.mean_iou:.4f}", bound("mean IoU", least, not exact)),
        ("IoU of masks, worst", f"{found.worst_iou:.4f}", bound("worst IoU", least, exact)),
        ("processor time a frame", f"{found.exported_ms:.1f} ms", f"JAX {found.jax_ms:.1f} ms"),
    ]
    for name, size in found.sizes.items():
        share = f"{size / found.weights_bytes:.2f} of the weights in float32"
        rows.append((name, f"{size / 1e6:.2f} MB", share))
    head = f"{found.target}, {found.weights}: {found.objects} objects on {found.frames} frames, beside track_step"
    return "\n".join([head, *(f"  {name:30} {value:>10}  {note}".rstrip() for name, value, note in rows)])
