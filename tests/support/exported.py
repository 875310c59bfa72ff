"""A clip with prompts, tracked by `track_step` and by whatever was exported."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from edgetam_jax import Model, Prompts, init_state, track_step
from edgetam_jax.export.names import FEATURES, NEXT
from edgetam_jax.export.programs import ExportOptions, state_shapes
from edgetam_jax.export.steps import bank_arrays
from edgetam_jax.types import Label

Arrays = dict[str, Any]
Call = Callable[[Arrays], Mapping[str, Any]]


class Request(NamedTuple):
    """A prompt on a frame, in pixels of the model's input; the frames of these clips have that size."""

    frame: int
    row: int
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    mask: np.ndarray | None = None


class Result(NamedTuple):
    logits: np.ndarray  # [T, O, h, w]
    scores: np.ndarray  # [T, O]
    ious: np.ndarray  # [T, O]
    state: dict[str, np.ndarray]  # after the last frame, with a leading axis O


def disk(size: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def requests(size: int) -> list[Request]:
    """A click, a box with a click, and a mask; later a correction of each kind, and more prompts than slots."""
    s = size / 64
    return [
        Request(0, 0, ((20 * s, 22 * s),), (1,)),
        Request(0, 1, ((22 * s, 14 * s), (50 * s, 40 * s), (30 * s, 30 * s)), (2, 3, 1)),
        Request(2, 2, mask=disk(size, 40 * s, 30 * s, 14 * s)),
        Request(3, 0, ((24 * s, 22 * s), (50 * s, 10 * s)), (1, 0)),
        Request(4, 1, mask=disk(size, 30 * s, 24 * s, 12 * s)),
        Request(5, 2, ((40 * s, 30 * s),), (1,)),
        Request(6, 2, ((42 * s, 30 * s),), (1,)),
    ]


def prompt_arrays(model: Model, request: Request | None, options: ExportOptions) -> dict[str, np.ndarray]:
    """What one object's program takes for a prompt, or for none."""
    size = model.config.image_size
    points, labels = np.zeros((options.points, 2), np.float32), np.full(options.points, Label.ABSENT, np.int32)
    mask = np.zeros((size, size), np.uint8)
    if request is not None:
        count = len(request.labels)
        points[:count], labels[:count] = np.reshape(request.points, (-1, 2)), request.labels
        if request.mask is not None:
            mask[:] = request.mask
    return {"points": points, "labels": labels, "mask": mask}


def requested(frame: int, row: int, every: list[Request]) -> Request | None:
    return next((each for each in every if (each.frame, each.row) == (frame, row)), None)


def track_one_by_one(
    model: Model,
    encode: Call,
    track: Call,
    frames: np.ndarray,
    every: list[Request],
    count: int,
    options: ExportOptions,
) -> Result:
    """Each object by a call of its own, as phones and browsers do."""
    states: list[Arrays] = [
        {name: np.zeros(x.shape, x.dtype) for name, x in state_shapes(model, options).items()} for _ in range(count)
    ]
    outputs: list[list[Mapping[str, Any]]] = []
    for t, frame in enumerate(frames):
        features = encode({"image": frame})
        outputs.append([])
        for row in range(count):
            prompt = prompt_arrays(model, requested(t, row, every), options)
            output = track({**{name: features[name] for name in FEATURES}, **states[row], **prompt})
            states[row] = {name: output[NEXT + name] for name in states[row]}
            outputs[-1].append(output)
    logits, scores, ious = (
        np.stack([np.stack([np.asarray(each[name]).reshape(shape) for each in row]) for row in outputs])
        for name, shape in (("logits", (model.config.mask_size,) * 2), ("score", ()), ("iou", ()))
    )
    return Result(logits, scores, ious, {name: np.stack([state[name] for state in states]) for name in states[0]})


def prompts_of(model: Model, frame: int, every: list[Request], count: int, options: ExportOptions) -> Prompts | None:
    """The prompts of a frame for `track_step`, in the shapes that the exported program has."""
    rows = [requested(frame, row, every) for row in range(count)]
    if not any(rows):
        return None
    arrays = [prompt_arrays(model, row, options) for row in rows]
    labels = np.stack([each["labels"] for each in arrays])
    masks = np.stack([each["mask"] for each in arrays]).astype(bool)
    is_mask = np.any(masks, (1, 2))
    ends = np.sum(labels != Label.ABSENT, -1)
    labels[np.arange(count), ends] = Label.NOT_A_POINT
    return Prompts(
        obj_ids=jnp.arange(count),
        frames=jnp.full((count, 1), frame),
        valid=jnp.asarray([[row is not None] for row in rows]),
        points=jnp.asarray(np.stack([each["points"] for each in arrays])[:, None]),
        labels=jnp.asarray(labels[:, None]),
        masks=jnp.asarray(masks[:, None]) if is_mask.any() else jnp.zeros((count, 1, 0, 0), bool),
        is_mask=jnp.asarray(is_mask[:, None]),
    )


def track_live(
    model: Model,
    frames: np.ndarray,
    every: list[Request],
    count: int,
    options: ExportOptions,
    step: Callable[..., Any] = track_step,
) -> Result:
    """The results of `track_step`, or of `step` in its place."""
    state, found = init_state(model, count, options.slots), []
    for t, frame in enumerate(frames):
        state, tracks = step(model, state, frame, prompts_of(model, t, every, count, options))
        found.append(tracks)
    logits, scores, ious = (
        np.concatenate([np.asarray(getattr(each, name)) for each in found]) for name in ("logits", "scores", "ious")
    )
    return Result(logits, scores, ious, {name: np.asarray(x) for name, x in bank_arrays(state.banks).items()})
