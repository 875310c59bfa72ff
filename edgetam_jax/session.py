"""What an interactive session knows: its objects, what was said about them, what was found, and how it is kept."""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from edgetam_jax import memory
from edgetam_jax.config import Config
from edgetam_jax.io import Video
from edgetam_jax.memory import Bank
from edgetam_jax.nn.edgetam import MASK_LOGIT, NO_OBJECT
from edgetam_jax.prompts import bucket
from edgetam_jax.rle import rle_decode, rle_encode
from edgetam_jax.step import Entry

Keep = Literal["logits", "bits", "rle", "nothing"]


class Found(NamedTuple):
    """One object on one frame, as it is kept on the host."""

    mask: Any  # in the session's form, see `Keep`
    tokens: np.ndarray  # [L, D]
    pointer: np.ndarray  # [C]
    score: float
    iou: float


class Answer(NamedTuple):
    """What a prompt gave. It stays as it is until the prompt changes."""

    entry: Entry  # on the device
    conditioning: bool  # attended from everywhere; a correction of a frame that tracking had found is not


@dataclasses.dataclass
class TrackedObject:
    """All about one object, by frame."""

    points: dict[int, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)
    answers: dict[int, Answer] = dataclasses.field(default_factory=dict)
    found: dict[int, Found] = dataclasses.field(default_factory=dict)
    visited: dict[int, bool] = dataclasses.field(default_factory=dict)  # tracked frames: was it on the way back?

    def conditioning(self) -> list[int]:
        return [frame for frame, answer in self.answers.items() if answer.conditioning]

    def forget(self, frames: Iterable[int]) -> None:
        for frame in list(frames):
            self.found.pop(frame, None)
            self.visited.pop(frame, None)


@dataclasses.dataclass
class Session:
    """The state that `VideoPredictor.init_state` returns and all its methods take."""

    video: Video
    keep: Keep
    objects: dict[int, TrackedObject] = dataclasses.field(default_factory=dict)
    features: OrderedDict[int, Any] = dataclasses.field(default_factory=OrderedDict)  # of the latest frames

    @property
    def size(self) -> tuple[int, int]:
        return self.video.height, self.video.width

    @property
    def obj_ids(self) -> list[int]:
        return list(self.objects)


def pack_mask(logits: np.ndarray, keep: Keep) -> Any:
    """Mask logits [h, w] in the form that the session keeps them in."""
    if keep == "logits":
        return logits
    if keep == "bits":
        return np.packbits(logits > 0, axis=-1)
    return rle_encode(logits > 0) if keep == "rle" else None


def unpack_mask(mask: Any, keep: Keep, config: Config) -> np.ndarray | None:
    """Logits again: of masks kept as bits or run-lengths, only the sign."""
    if mask is None or keep == "logits":
        return mask
    size = config.mask_size
    binary = rle_decode(mask) if keep == "rle" else np.unpackbits(mask, axis=-1, count=size).astype(bool)
    return np.where(binary, MASK_LOGIT, -MASK_LOGIT).astype(np.float32)


def logits_on(tracked: TrackedObject, frame: int, keep: Keep, config: Config) -> np.ndarray | None:
    """The object's mask logits [h, w] on a frame, where any are kept."""
    if frame in tracked.answers:
        return np.asarray(tracked.answers[frame].entry.sighting.logits)
    found = tracked.found.get(frame)
    return None if found is None else unpack_mask(found.mask, keep, config)


def no_logits(config: Config) -> np.ndarray:
    return np.full((config.mask_size, config.mask_size), NO_OBJECT, np.float32)


def build_banks(objects: Mapping[int, TrackedObject], frame: int, reverse: bool, config: Config) -> Bank:
    """The banks [O, ...] with which tracking goes on at `frame`: what is known of the frames around it.

    O and the number of prompted frames are padded to powers of two, so that few programs are compiled.
    """
    room = bucket(len(objects), 1)
    slots = bucket(max((len(tracked.conditioning()) for tracked in objects.values()), default=1) or 1, 1)
    blank = jax.tree.map(np.asarray, memory.init(config, slots))
    banks = jax.tree.map(lambda x: np.repeat(x[None], room, 0), blank)
    side = -1 if reverse else 1
    for row, tracked in enumerate(objects.values()):
        bank = jax.tree.map(lambda x, row=row: x[row], banks)  # views: writing to them fills `banks`
        for slot, prompted in enumerate(tracked.conditioning()):
            entry = tracked.answers[prompted].entry
            _put(bank.prompted, slot, prompted, entry.tokens)
            bank.prompted_pointers[slot] = entry.sighting.pointer
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
        return answer.entry.tokens, answer.entry.sighting.pointer
    if found := tracked.found.get(frame):
        return found.tokens, found.pointer
    return None
