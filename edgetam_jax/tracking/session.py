"""What an interactive session knows: its objects, what was said about them, what was found, and how it is kept."""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from edgetam_jax.config import Config
from edgetam_jax.media.video import Video
from edgetam_jax.model import Model
from edgetam_jax.nn.edgetam import MASK_LOGIT, NO_OBJECT
from edgetam_jax.ops.rle import rle_decode, rle_encode
from edgetam_jax.prompts import bucket
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank
from edgetam_jax.tracking.step import FrameFeatures, PrecomputedEntries, StepOutput, absent_output

MaskStorage = Literal["logits", "bits", "rle", "nothing"]


class StoredOutput(NamedTuple):
    """One object on one frame, as it is kept on the host."""

    mask: Any  # in the session's form, see `Keep`
    tokens: np.ndarray  # [L, D]
    pointer: np.ndarray  # [C]
    score: float
    iou: float


class PromptAnswer(NamedTuple):
    """What a prompt gave. It stays as it is until the prompt changes."""

    entry: StepOutput  # on the device
    conditioning: bool  # attended from everywhere; a correction of a frame that tracking had found is not


@dataclasses.dataclass
class TrackedObject:
    """All about one object, by frame."""

    points: dict[int, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)
    answers: dict[int, PromptAnswer] = dataclasses.field(default_factory=dict)
    found: dict[int, StoredOutput] = dataclasses.field(default_factory=dict)
    visited: dict[int, bool] = dataclasses.field(default_factory=dict)  # tracked frames: was it on the way back?

    def conditioning(self) -> list[int]:
        return [frame for frame, answer in self.answers.items() if answer.conditioning]

    def snapshot(self) -> "TrackedObject":
        """The same object with the answers of now: later ones do not show in it, what it finds shows in both."""
        return dataclasses.replace(self, answers=dict(self.answers))

    def forget(self, frames: Iterable[int]) -> None:
        for frame in list(frames):
            self.found.pop(frame, None)
            self.visited.pop(frame, None)


@dataclasses.dataclass
class Session:
    """The state that `VideoPredictor.init_state` returns and all its methods take."""

    video: Video
    keep: MaskStorage
    forward_only: bool = False  # the video is an iterator
    objects: dict[int, TrackedObject] = dataclasses.field(default_factory=dict)
    features: OrderedDict[int, FrameFeatures] = dataclasses.field(default_factory=OrderedDict)  # of the latest frames
    capacity: int = 1  # objects and prompted frames of each that the compiled programs hold; see `grow`
    slots: int = 1

    @property
    def size(self) -> tuple[int, int]:
        return self.video.height, self.video.width

    @property
    def obj_ids(self) -> list[int]:
        return list(self.objects)

    def grow(self) -> None:
        """Makes room for all objects and prompts, by doubling. It never shrinks: other shapes are compiled anew."""
        prompted = max((len(tracked.conditioning()) for tracked in self.objects.values()), default=1)
        self.capacity = max(self.capacity, bucket(max(len(self.objects), 1), 1))
        self.slots = max(self.slots, bucket(max(prompted, 1), 1))


def pack_mask(logits: np.ndarray, keep: MaskStorage) -> Any:
    """Mask logits [h, w] in the form that the session keeps them in."""
    if keep == "logits":
        return logits
    if keep == "bits":
        return np.packbits(logits > 0, axis=-1)
    return rle_encode(logits > 0) if keep == "rle" else None


def unpack_mask(mask: Any, keep: MaskStorage, config: Config) -> np.ndarray | None:
    """Logits again: of masks kept as bits or run-lengths, only the sign."""
    if mask is None or keep == "logits":
        return mask
    size = config.mask_size
    binary = rle_decode(mask) if keep == "rle" else np.unpackbits(mask, axis=-1, count=size).astype(bool)
    return np.where(binary, MASK_LOGIT, -MASK_LOGIT).astype(np.float32)


def logits_on(tracked: TrackedObject, frame: int, keep: MaskStorage, config: Config) -> np.ndarray | None:
    """The object's mask logits [h, w] on a frame, where any are kept."""
    if frame in tracked.answers:
        return np.asarray(tracked.answers[frame].entry.prediction.logits)
    found = tracked.found.get(frame)
    return None if found is None else unpack_mask(found.mask, keep, config)


def no_logits(config: Config) -> np.ndarray:
    return np.full((config.mask_size, config.mask_size), NO_OBJECT, np.float32)


def entries_at(frame: int, objects: Mapping[int, TrackedObject], capacity: int, model: Model) -> PrecomputedEntries:
    """The answers [room, ...] that the objects have on a frame."""
    blank = absent_output(model)
    answers = [tracked.answers.get(frame) for tracked in objects.values()]
    answers += [None] * (capacity - len(answers))
    return PrecomputedEntries(
        jax.tree.map(lambda *x: jnp.stack(x), *[blank if a is None else a.entry for a in answers]),
        jnp.array([a is not None for a in answers]),
        jnp.array([a is not None and a.conditioning for a in answers]),
    )


def store_outputs(
    state: Session,
    objects: Iterable[tuple[TrackedObject, TrackedObject]],
    frame: int,
    entry: StepOutput,
    logits: Array,
    reverse: bool,
    reach: int,
) -> None:
    """Notes what a pass found on a frame, in objects as they are now, each with its snapshot of the pass's start.

    A prompt that was added or taken back meanwhile has the last word.
    """
    sighting, tokens, masks = jax.tree.map(np.asarray, (entry.prediction, entry.tokens, logits))
    for row, (tracked, snapshot) in enumerate(objects):
        taken_back = frame in snapshot.answers and frame not in tracked.answers
        if taken_back or not snapshot.conditioning():
            continue
        tracked.visited[frame] = reverse
        if frame in tracked.answers:
            continue
        tracked.found[frame] = StoredOutput(
            pack_mask(masks[row].copy(), state.keep),
            tokens[row].copy(),
            sighting.pointer[row].copy(),
            float(sighting.score[row]),
            float(sighting.iou[row]),
        )
        if state.keep == "nothing":
            tracked.forget(old for old in tracked.found if abs(old - frame) >= reach)


def build_banks(
    objects: Mapping[int, TrackedObject], frame: int, reverse: bool, config: Config, capacity: int, slots: int
) -> Bank:
    """The banks [room, ...] with which tracking goes on at `frame`: what is known of the frames around it.

    Each has `slots` places for prompted frames.
    """
    blank = jax.tree.map(np.asarray, memory.init(config, slots))
    banks = jax.tree.map(lambda x: np.repeat(x[None], capacity, 0), blank)
    side = -1 if reverse else 1
    for row, tracked in enumerate(objects.values()):
        bank = jax.tree.map(lambda x, row=row: x[row], banks)  # views: writing to them fills `banks`
        for slot, prompted in enumerate(tracked.conditioning()):
            entry = tracked.answers[prompted].entry
            _put(bank.prompted, slot, prompted, entry.tokens)
            bank.prompted_pointers[slot] = entry.prediction.pointer
        for distance in range(config.pointers - 1, 0, -1):
            near = frame - side * distance
            tokens_and_pointer = _remembered(tracked, near)
            if tokens_and_pointer is None:
                continue
            tokens, pointer = tokens_and_pointer
            _put(bank.pointers, near % len(bank.pointers.frames), near, pointer)
            if distance < config.memory_frames:
                _put(bank.recent, near % len(bank.recent.frames), near, tokens)
    return banks


def _put(slots: memory.Slots, index: int, frame: int, value: Any) -> None:
    slots.values[index], slots.frames[index], slots.valid[index] = value, frame, True


def _remembered(tracked: TrackedObject, frame: int) -> tuple[Any, Any] | None:
    if answer := tracked.answers.get(frame):
        return answer.entry.tokens, answer.entry.prediction.pointer
    if found := tracked.found.get(frame):
        return found.tokens, found.pointer
    return None
