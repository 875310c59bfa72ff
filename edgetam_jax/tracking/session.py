"""The state of an interactive session: its objects, their prompts and outputs, and what is kept of them."""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from edgetam_jax.config import Config
from edgetam_jax.errors import PromptError
from edgetam_jax.media.video import Video
from edgetam_jax.model import Model
from edgetam_jax.ops.rle import rle_decode, rle_encode
from edgetam_jax.prompts import bucket, check_count
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank, MemoryEntry, Slots
from edgetam_jax.tracking.step import FrameFeatures, PrecomputedEntries, StepOutput, absent_output
from edgetam_jax.types import MASK_LOGIT, NO_OBJECT

MaskStorage = Literal["logits", "bits", "rle", "nothing"]
Points = tuple[np.ndarray, np.ndarray]  # points [P, 2] in pixels of the video, and labels [P]


class PromptOutput(NamedTuple):
    """The output of a prompt. It does not change until the prompt does."""

    output: StepOutput  # on the device
    conditioning: bool  # is it a conditioning frame? A correction of a frame that was tracked is not


class StoredOutput(NamedTuple):
    """The output for one object on a tracked frame, kept on the host."""

    mask: Any  # in the session's `MaskStorage`
    memory: MemoryEntry  # NumPy arrays
    score: float
    iou: float


@dataclasses.dataclass
class TrackedObject:
    """All about one object, by frame.

    Attributes:
        points: The points of its prompts.
        prompt_outputs: The outputs of its prompts.
        track_outputs: Its outputs on tracked frames.
        visited: The frames that were tracked: True for those tracked backward.
    """

    points: dict[int, Points] = dataclasses.field(default_factory=dict)
    prompt_outputs: dict[int, PromptOutput] = dataclasses.field(default_factory=dict)
    track_outputs: dict[int, StoredOutput] = dataclasses.field(default_factory=dict)
    visited: dict[int, bool] = dataclasses.field(default_factory=dict)

    def conditioning(self) -> list[int]:
        """Lists the object's conditioning frames.

        Returns:
            Frame numbers.
        """
        return [frame for frame, prompt in self.prompt_outputs.items() if prompt.conditioning]

    def snapshot(self) -> "TrackedObject":
        """Copies the object with its present prompts.

        Returns:
            The copy. Tracked outputs are shared with the original.
        """
        return dataclasses.replace(self, prompt_outputs=dict(self.prompt_outputs))

    def forget(self, frames: Iterable[int]) -> None:
        """Drops the outputs of tracking on some frames.

        Args:
            frames: Frame numbers.
        """
        for frame in list(frames):
            self.track_outputs.pop(frame, None)
            self.visited.pop(frame, None)

    def memory_at(self, frame: int) -> MemoryEntry | None:
        """Looks up the object's memory of a frame.

        Args:
            frame: Frame number.

        Returns:
            The memory, or None if there is none.
        """
        if prompt := self.prompt_outputs.get(frame):
            return prompt.output.memory
        stored = self.track_outputs.get(frame)
        return None if stored is None else stored.memory

    def logits_at(self, frame: int, keep: MaskStorage, config: Config) -> Float[np.ndarray, "h w"] | None:
        """Looks up the object's mask logits on a frame.

        Args:
            frame: Frame number.
            keep: How masks are stored.
            config: The configuration of the model.

        Returns:
            Logits [h, w], or None if none are kept.
        """
        if prompt := self.prompt_outputs.get(frame):
            return np.asarray(prompt.output.mask.logits)
        stored = self.track_outputs.get(frame)
        return None if stored is None else unpack_mask(stored.mask, keep, config)


@dataclasses.dataclass
class Session:
    """The state that `VideoPredictor.init_state` returns and all its methods take.

    Attributes:
        video: The frames.
        keep: How masks of tracked frames are stored.
        forward_only: The video is an iterator, which is read once.
        objects: The objects by id.
        features: Encoded frames, the latest ones only.
        capacity: Number of objects in the compiled programs, see `grow`.
        prompt_slots: Number of conditioning frames of each object in the compiled programs.
    """

    video: Video
    keep: MaskStorage
    forward_only: bool = False
    objects: dict[int, TrackedObject] = dataclasses.field(default_factory=dict)
    features: OrderedDict[int, FrameFeatures] = dataclasses.field(default_factory=OrderedDict)
    capacity: int = 1
    prompt_slots: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the video."""
        return self.video.height, self.video.width

    @property
    def obj_ids(self) -> list[int]:
        """The ids of the objects, in the order in which they were added."""
        return list(self.objects)

    def check_frame(self, frame_idx: int) -> int:
        """Checks the number of a frame.

        Args:
            frame_idx: Number of the frame, from 0.

        Returns:
            The number as an int.

        Raises:
            PromptError: There is no such frame.
        """
        length = self.video.num_frames
        check_count("frame_idx", frame_idx, 0, "a frame number")
        if length is not None and frame_idx >= length:
            raise PromptError(f"there is no frame {frame_idx}; the video has {length}, counted from 0.")
        return int(frame_idx)

    def find_object(self, obj_id: int) -> TrackedObject:
        """Looks up an object.

        Args:
            obj_id: The id of the object.

        Returns:
            The object, with its prompts and outputs.

        Raises:
            PromptError: There is no such object.
        """
        if obj_id not in self.objects:
            raise PromptError(f"there is no object {obj_id}; there are {self.obj_ids}.")
        return self.objects[obj_id]

    def set_prompt_output(self, frame: int, obj_id: int, tracked: TrackedObject, output: StepOutput) -> None:
        """Stores the output of a prompt. On a frame that was tracked before, it is no conditioning frame.

        Args:
            frame: Number of the prompted frame.
            obj_id: The id of the object.
            tracked: The object, which becomes that of this id.
            output: The output of the step on this frame.
        """
        before = tracked.prompt_outputs.get(frame)
        conditioning = frame not in tracked.visited if before is None else before.conditioning
        tracked.prompt_outputs[frame] = PromptOutput(output, conditioning)
        tracked.track_outputs.pop(frame, None)
        self.objects[obj_id] = tracked
        self.grow()

    def grow(self) -> None:
        """Doubles the capacity until it holds all objects and prompts. It never shrinks: new shapes compile anew."""
        prompted = max((len(obj.conditioning()) for obj in self.objects.values()), default=1)
        self.capacity = max(self.capacity, bucket(max(len(self.objects), 1), 1))
        self.prompt_slots = max(self.prompt_slots, bucket(max(prompted, 1), 1))


def pack_mask(logits: Float[np.ndarray, "h w"], keep: MaskStorage) -> Any:
    """Mask logits in the form that the session keeps."""
    if keep == "logits":
        return logits
    if keep == "bits":
        return np.packbits(logits > 0, axis=-1)
    return rle_encode(logits > 0) if keep == "rle" else None


def unpack_mask(mask: Any, keep: MaskStorage, config: Config) -> Float[np.ndarray, "h w"] | None:
    """Logits again; of bits and run-lengths only the sign is right."""
    if mask is None or keep == "logits":
        return mask
    size = config.mask_size
    binary = rle_decode(mask) if keep == "rle" else np.unpackbits(mask, axis=-1, count=size).astype(bool)
    return np.where(binary, MASK_LOGIT, -MASK_LOGIT).astype(np.float32)


def absent_logits(config: Config) -> Float[np.ndarray, "h w"]:
    return np.full((config.mask_size, config.mask_size), NO_OBJECT, np.float32)


def session_entries_at(
    frame: int, objects: Mapping[int, TrackedObject], capacity: int, model: Model
) -> PrecomputedEntries:
    """The outputs [capacity, ...] of the prompts on a frame."""
    absent = absent_output(model)
    prompts = [obj.prompt_outputs.get(frame) for obj in objects.values()]
    prompts += [None] * (capacity - len(prompts))
    return PrecomputedEntries(
        jax.tree.map(lambda *x: jnp.stack(x), *[absent if p is None else p.output for p in prompts]),
        jnp.array([p is not None for p in prompts]),
        jnp.array([p is not None and p.conditioning for p in prompts]),
    )


def store_outputs(
    state: Session,
    objects: Iterable[tuple[TrackedObject, TrackedObject]],
    frame: int,
    output: StepOutput,
    logits: Float[Array, "o h w"],
    reverse: bool,
    reach: int,
) -> None:
    """Stores the outputs of a tracked frame in the objects, each given with its snapshot from when tracking began.

    Prompts that were added or cleared since then take precedence.
    """
    output, masks = jax.tree.map(np.asarray, (output, logits))
    for row, (obj, snapshot) in enumerate(objects):
        cleared = frame in snapshot.prompt_outputs and frame not in obj.prompt_outputs
        if cleared or not snapshot.conditioning():
            continue
        obj.visited[frame] = reverse
        if frame in obj.prompt_outputs:
            continue
        obj.track_outputs[frame] = StoredOutput(
            pack_mask(masks[row].copy(), state.keep),
            MemoryEntry(*(x[row].copy() for x in output.memory)),
            float(output.mask.score[row]),
            float(output.mask.iou[row]),
        )
        if state.keep == "nothing":
            obj.forget(old for old in obj.track_outputs if abs(old - frame) >= reach)


def build_banks(
    objects: Mapping[int, TrackedObject], frame: int, reverse: bool, config: Config, capacity: int, prompt_slots: int
) -> Bank:
    """The banks [capacity, ...], on the host, to continue tracking at `frame` from the outputs that are stored."""
    empty = jax.tree.map(np.asarray, memory.init(config, prompt_slots))
    banks = jax.tree.map(lambda x: np.repeat(x[None], capacity, 0), empty)
    direction = -1 if reverse else 1
    for row, obj in enumerate(objects.values()):
        bank = jax.tree.map(lambda x, row=row: x[row], banks)  # views: writing to them fills `banks`
        for slot, prompted in enumerate(obj.conditioning()):
            entry = obj.prompt_outputs[prompted].output.memory
            _write(bank.conditioning, slot, prompted, entry.tokens)
            bank.conditioning_pointers[slot] = entry.pointer
        for distance in range(config.pointers - 1, 0, -1):
            near = frame - direction * distance
            entry = obj.memory_at(near)
            if entry is None:
                continue
            _write(bank.pointers, near % len(bank.pointers.frames), near, entry.pointer)
            if distance < config.memory_frames:
                _write(bank.recent, near % len(bank.recent.frames), near, entry.tokens)
    return banks


def _write(slots: Slots, index: int, frame: int, value: Any) -> None:
    arrays: Any = slots  # NumPy's, which can be written to
    arrays.values[index], arrays.frames[index], arrays.valid[index] = value, frame, True
