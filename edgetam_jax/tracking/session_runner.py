"""What `VideoPredictor` computes: it runs the compiled programs on a session's frames, prompts and memories."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from edgetam_jax.model import Model
from edgetam_jax.prompts import bucket, closed
from edgetam_jax.tracking import session_jit
from edgetam_jax.tracking.memory import Bank
from edgetam_jax.tracking.session import (
    Session,
    TrackedObject,
    absent_logits,
    build_banks,
    session_entries_at,
    store_outputs,
)
from edgetam_jax.tracking.session_jit import Clean
from edgetam_jax.tracking.step import FrameFeatures, StepOutput, TrackOptions
from edgetam_jax.types import NO_OBJECT

FrameMasks = tuple[int, list[int], np.ndarray]  # frame number, object ids, logits [O, 1, H, W]
CACHED_FRAMES = 2
POINTS = 8  # places that prompts have at first, so that a few clicks more compile nothing


@dataclasses.dataclass(frozen=True)
class SessionRunner:
    """The settings of a `VideoPredictor`, and what it computes with them."""

    model: Model
    clean: Clean
    non_overlap_masks: bool
    soft_memory: bool
    options: TrackOptions

    def encode_points(
        self, state: Session, tracked: TrackedObject, frame: int, points: np.ndarray, labels: np.ndarray
    ) -> StepOutput:
        """The output of points [P, 2], in pixels of the video, and their labels [P]. It refines an existing mask."""
        model, size = self.model, self.model.config.image_size
        scaled = points * np.array([size / state.video.width, size / state.video.height], np.float32)
        before = tracked.logits_at(frame, state.keep, model.config)
        previous = absent_logits(model.config) if before is None else before, np.array(before is not None)
        bank, direction = self._bank_for_correction(state, tracked, frame)
        return session_jit.encode_points(
            model,
            self._features(state, frame),
            *closed(scaled, labels, bucket(len(labels) + 1, POINTS)),
            previous,
            bank,
            frame,
            direction,
            self.clean,
            self.soft_memory,
        )

    def encode_mask(self, state: Session, frame: int, mask: np.ndarray) -> StepOutput:
        """The output of a mask prompt, [H, W] bool of the video's size."""
        return session_jit.encode_mask(self.model, self._features(state, frame), mask, self.soft_memory)

    def propagate(self, state: Session, start: int, count: int | None, reverse: bool) -> Iterator[FrameMasks]:
        """Tracks all objects from frame `start` over `count` more frames, by default to the end of the video."""
        if reverse and start == 0:
            return  # as in SAM 2: no frame comes before it
        model, direction = self.model, -1 if reverse else 1
        stop = None if count is None else max(start + direction * (count + 1), -1)
        # The objects and prompts of now; what is added meanwhile waits for the next call.
        current = dict(state.objects)
        objects = {obj_id: tracked.snapshot() for obj_id, tracked in current.items()}
        pairs = list(zip(current.values(), objects.values(), strict=True))
        banks = build_banks(objects, start, reverse, model.config, state.capacity, state.prompt_slots)
        capacity, reach = state.capacity, model.config.pointers
        frames = state.video.frames(start, None if stop == -1 else stop, direction)
        for offset, pixels in enumerate(frames):
            frame = start + direction * offset
            features = self._features(state, frame, pixels)
            entries = session_entries_at(frame, objects, capacity, model)
            banks, output, logits = session_jit.track_frame(
                model, banks, features, frame, entries, direction, self.clean, self.options
            )
            store_outputs(state, pairs, frame, output, logits, reverse, reach)
            rows = [i for i, (obj_id, tracked) in enumerate(current.items()) if state.objects.get(obj_id) is tracked]
            yield frame, [list(objects)[i] for i in rows], self._at_video_size(state, np.asarray(logits)[rows])

    def stored_masks(self, state: Session, frame: int) -> FrameMasks:
        """The masks that the session holds for a frame, with logits of -1024 for objects that have none."""
        config = self.model.config
        stored = [tracked.logits_at(frame, state.keep, config) for tracked in state.objects.values()]
        logits = [absent_logits(config) if x is None else x for x in stored]
        return frame, state.obj_ids, self._at_video_size(state, np.stack(logits) if logits else np.zeros(0))

    def _bank_for_correction(self, state: Session, tracked: TrackedObject, frame: int) -> tuple[Bank | None, int]:
        """An object's memory on a tracked frame, and the direction; None on other frames, where a prompt needs none."""
        if frame not in tracked.visited:
            return None, 1
        reverse = tracked.visited[frame]
        banks = build_banks({0: tracked}, frame, reverse, self.model.config, 1, state.prompt_slots)
        return jax.tree.map(lambda x: x[0], banks), -1 if reverse else 1

    def _features(self, state: Session, frame: int, pixels: np.ndarray | None = None) -> FrameFeatures:
        if frame not in state.features:
            pixels = state.video[frame] if pixels is None else pixels
            state.features[frame] = session_jit.encode_frames(self.model, pixels, self.options.preprocess)
            while len(state.features) > CACHED_FRAMES:
                state.features.popitem(last=False)
        return state.features[frame]

    def _at_video_size(self, state: Session, logits: np.ndarray) -> np.ndarray:
        count = len(logits)
        if not count:
            return np.zeros((0, 1, *state.size), np.float32)
        padded = np.full((state.capacity, *logits.shape[1:]), NO_OBJECT, np.float32)
        padded[:count] = logits
        return np.asarray(session_jit.resize(padded, state.size, self.non_overlap_masks))[:count, None]
