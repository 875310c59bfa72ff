"""`VideoPredictor`: the interactive session, with SAM 2's methods, arguments and returns.

Click an object, see its mask, track it, correct it on any frame, track again. What differs from SAM 2: objects are
independent and may come and go at any time; an object is prompted, corrected and cleared without touching others; a
correction stays, on prompted frames too, and is seen by the next one at once; a call that fails changes nothing.
"""

from collections.abc import Iterator
from typing import Any, get_args

import jax
import numpy as np
from numpy.typing import ArrayLike

from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.media.video import open_video
from edgetam_jax.model import Model, for_inference
from edgetam_jax.nn.edgetam import NO_OBJECT
from edgetam_jax.ops.pixels import Rule
from edgetam_jax.ops.points import check_inside, check_mask, check_points
from edgetam_jax.ops.tree import resolve_vectorize
from edgetam_jax.prompts import bucket, check_count, closed
from edgetam_jax.tracking import session_jit as programs
from edgetam_jax.tracking.memory import Bank
from edgetam_jax.tracking.session import (
    MaskStorage,
    PromptOutput,
    Session,
    TrackedObject,
    absent_logits,
    build_banks,
    entries_at,
    store_outputs,
)
from edgetam_jax.tracking.step import FrameFeatures, StepOutput, TrackOptions

Masks = tuple[int, list[int], np.ndarray]  # frame number, object ids, logits [O, 1, H, W]
CACHED_FRAMES = 2
POINTS = 8  # places that prompts have at first, so that a few clicks more compile nothing


class VideoPredictor:
    """Tracks prompted objects through a video, with corrections; the API of SAM 2's video predictor.

    As in SAM 2, an object is also tracked on frames before its first prompt if tracking starts there, for example at
    another object's prompt. To avoid that, track from `start_frame_idx` at its prompt.

    Args:
        model: A model for videos.
        fill_hole_area: Fill holes of up to this many pixels in the predicted masks (a quarter of the input size).
        island_area: Remove islands of up to this many pixels.
        non_overlap_masks: Assign each pixel to one object at most.
        soft_memory: Encode the masks of prompted frames into memory as they are, instead of binarized.
        preprocess: How frames are resized, see `track`.
    """

    def __init__(
        self,
        model: Model,
        *,
        fill_hole_area: int = 0,
        island_area: int = 0,
        non_overlap_masks: bool = False,
        soft_memory: bool = False,
        preprocess: Rule = "video",
    ) -> None:
        model.check_for_video()
        for name, area in (("fill_hole_area", fill_hole_area), ("island_area", island_area)):
            check_count(name, area, 0, "a number of pixels")
        if preprocess not in get_args(Rule):
            raise FrameError(f"preprocess is {preprocess!r}; expected one of {get_args(Rule)}.")
        self.model, self._folded = model, for_inference(model)
        self._clean = int(fill_hole_area), int(island_area)
        self._non_overlap = non_overlap_masks
        self._soft = soft_memory
        self._options = TrackOptions(preprocess=preprocess, vectorize=resolve_vectorize(None, model.platform))

    def init_state(self, video: Any, keep: MaskStorage = "logits") -> Session:
        """Opens a video and starts a session.

        Args:
            video: A folder of frames, a video file, an array [T, H, W, 3], or a list of images; see `open_video`.
            keep: How the masks of tracked frames are stored, for `get_masks` and corrections: "logits" (262 KB per
                frame and object), "bits" (8 KB) or "rle". Each also keeps the frame's memory, 131 KB. With "nothing",
                only the latest frames' memory is kept, so a video of any length needs the same space, and masks of
                tracked frames read as absent (-1024) in later calls.
        """
        if keep not in get_args(MaskStorage):
            raise PromptError(f'keep is {keep!r}; expected "logits", "bits", "rle" or "nothing".')
        opened = open_video(video)
        return Session(opened, keep, forward_only=opened.num_frames is None)

    def add_new_points_or_box(
        self,
        state: Session,
        frame_idx: int,
        obj_id: int,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: ArrayLike | None = None,
    ) -> Masks:
        """Prompts an object on a frame with points [P, 2] and labels (1 include, 0 exclude), a box, or both.

        Coordinates are (x, y) in pixels of the video, or in 0..1 with `normalize_coords=False`. `clear_old_points`
        discards the frame's earlier points. The object's mask on this frame, if there is one, is refined. Returns the
        frame number, the object ids and the mask logits [O, 1, H, W] of all objects on this frame.
        """
        frame_idx, obj_id, name = self._check(state, frame_idx, obj_id)
        xy, kinds = check_points(points, labels, box, name)
        if not normalize_coords:
            xy = xy * np.array(state.size[::-1], np.float32)
        check_inside(xy, state.size, name)
        if box is not None and not clear_old_points:
            raise PromptError(f"{name}: a box starts anew; give it with clear_old_points=True.")
        tracked = state.objects.get(obj_id) or TrackedObject()
        if not clear_old_points and frame_idx in tracked.points:
            xy, kinds = (np.concatenate(pair) for pair in zip(tracked.points[frame_idx], (xy, kinds), strict=True))

        model, size = self._folded, self.model.config.image_size
        scaled = xy * np.array([size / state.video.width, size / state.video.height], np.float32)
        before = tracked.logits_at(frame_idx, state.keep, model.config)
        previous = absent_logits(model.config) if before is None else before, np.array(before is not None)
        bank, direction = self._bank_for_correction(state, tracked, frame_idx)
        output = programs.encode_points(
            model,
            self._features(state, frame_idx),
            *closed(scaled, kinds, bucket(len(kinds) + 1, POINTS)),
            previous,
            bank,
            frame_idx,
            direction,
            self._clean,
            self._soft,
        )
        tracked.points[frame_idx] = xy, kinds
        return self._accept(state, frame_idx, obj_id, tracked, output)

    def add_new_mask(self, state: Session, frame_idx: int, obj_id: int, mask: ArrayLike) -> Masks:
        """Sets an object's mask [H, W], of the video's size, on a frame; returns that frame's masks."""
        frame_idx, obj_id, name = self._check(state, frame_idx, obj_id)
        binary = check_mask(mask, name)
        if binary.shape != state.size:
            raise PromptError(f"{name}: the mask is {binary.shape}, the video {state.size} (height, width).")
        tracked = state.objects.get(obj_id) or TrackedObject()
        output = programs.encode_mask(self._folded, self._features(state, frame_idx), binary, self._soft)
        tracked.points.pop(frame_idx, None)
        return self._accept(state, frame_idx, obj_id, tracked, output)

    def propagate_in_video(
        self,
        state: Session,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Masks]:
        """Tracks all objects from frame to frame and yields each frame's number, object ids and masks.

        Starts at the first prompted frame, or the last with `reverse`; visits the start and up to
        `max_frame_num_to_track` frames more. Prompted frames keep the masks that their prompts gave.
        """
        prompted = [frame for tracked in state.objects.values() for frame in tracked.conditioning()]
        if not prompted:
            raise PromptError("nothing to track: add points, a box or a mask for an object first.")
        start = start_frame_idx
        if start is None:
            start = max(prompted) if reverse else min(prompted)
        start = self._check_frame(state, start)
        count = max_frame_num_to_track
        if count is not None:
            check_count("max_frame_num_to_track", count, 0, "None, or a number of frames")
        if reverse and state.forward_only:
            raise PromptError("an iterator cannot be tracked backward; give a list, an array, a folder or a file.")
        return self._propagate(state, start, count, reverse)

    def _propagate(self, state: Session, start: int, count: int | None, reverse: bool) -> Iterator[Masks]:
        if reverse and start == 0:
            return  # as SAM 2: there is nothing before it
        model, direction = self._folded, -1 if reverse else 1
        stop = None if count is None else max(start + direction * (count + 1), -1)
        # What is tracked now; objects and prompts that are added meanwhile wait for the next call.
        current = dict(state.objects)
        objects = {obj_id: tracked.snapshot() for obj_id, tracked in current.items()}
        pairs = list(zip(current.values(), objects.values(), strict=True))
        banks = build_banks(objects, start, reverse, model.config, state.capacity, state.prompt_slots)
        capacity, reach = state.capacity, model.config.pointers
        frames = state.video.frames(start, None if stop == -1 else stop, direction)
        for offset, pixels in enumerate(frames):
            frame = start + direction * offset
            features = self._features(state, frame, pixels)
            entries = entries_at(frame, objects, capacity, model)
            banks, output, logits = programs.track_frame(
                model, banks, features, frame, entries, direction, self._clean, self._options
            )
            store_outputs(state, pairs, frame, output, logits, reverse, reach)
            rows = [i for i, (obj_id, tracked) in enumerate(current.items()) if state.objects.get(obj_id) is tracked]
            yield frame, [list(objects)[i] for i in rows], self._at_video_size(state, np.asarray(logits)[rows])

    def clear_all_prompts_in_frame(
        self, state: Session, frame_idx: int, obj_id: int, need_output: bool = True
    ) -> Masks | None:
        """Removes an object's prompts and its result on a frame."""
        frame_idx = self._check_frame(state, frame_idx)
        tracked = self._object(state, obj_id)
        tracked.points.pop(frame_idx, None)
        tracked.prompt_outputs.pop(frame_idx, None)
        tracked.forget([frame_idx])
        if not tracked.conditioning():
            state.objects[obj_id] = TrackedObject()
        return self.get_masks(state, frame_idx) if need_output else None

    def remove_object(
        self, state: Session, obj_id: int, strict: bool = False, need_output: bool = True
    ) -> tuple[list[int], list[tuple[int, np.ndarray]]]:
        """Removes an object; returns the remaining ids, and the masks of the frames where it had been prompted."""
        if obj_id not in state.objects and not strict:
            return state.obj_ids, []
        frames = sorted(self._object(state, obj_id).prompt_outputs)
        del state.objects[obj_id]
        if not need_output or not state.objects:
            return state.obj_ids, []
        return state.obj_ids, [(frame, self.get_masks(state, frame)[2]) for frame in frames]

    def reset_state(self, state: Session) -> None:
        """Forgets all objects; the video stays open."""
        state.objects.clear()

    def get_masks(self, state: Session, frame_idx: int) -> Masks:
        """What is known of all objects on a frame; -1024 where nothing is."""
        frame_idx = self._check_frame(state, frame_idx)
        config = self.model.config
        kept = [tracked.logits_at(frame_idx, state.keep, config) for tracked in state.objects.values()]
        logits = [absent_logits(config) if x is None else x for x in kept]
        return frame_idx, state.obj_ids, self._at_video_size(state, np.stack(logits) if logits else np.zeros(0))

    def _accept(self, state: Session, frame_idx: int, obj_id: int, tracked: TrackedObject, output: StepOutput) -> Masks:
        before = tracked.prompt_outputs.get(frame_idx)
        conditioning = frame_idx not in tracked.visited if before is None else before.conditioning
        tracked.prompt_outputs[frame_idx] = PromptOutput(output, conditioning)
        tracked.track_outputs.pop(frame_idx, None)
        state.objects[obj_id] = tracked
        state.grow()
        return self.get_masks(state, frame_idx)

    def _bank_for_correction(self, state: Session, tracked: TrackedObject, frame: int) -> tuple[Bank | None, int]:
        """What an object is remembered by on a tracked frame; None where it was not tracked: there a prompt starts."""
        if frame not in tracked.visited:
            return None, 1
        reverse = tracked.visited[frame]
        banks = build_banks({0: tracked}, frame, reverse, self.model.config, 1, state.prompt_slots)
        return jax.tree.map(lambda x: x[0], banks), -1 if reverse else 1

    def _features(self, state: Session, frame: int, pixels: np.ndarray | None = None) -> FrameFeatures:
        if frame not in state.features:
            pixels = state.video[frame] if pixels is None else pixels
            state.features[frame] = programs.encode_frames(self._folded, pixels, self._options.preprocess)
            while len(state.features) > CACHED_FRAMES:
                state.features.popitem(last=False)
        return state.features[frame]

    def _at_video_size(self, state: Session, logits: np.ndarray) -> np.ndarray:
        count = len(logits)
        if not count:
            return np.zeros((0, 1, *state.size), np.float32)
        padded = np.full((state.capacity, *logits.shape[1:]), NO_OBJECT, np.float32)
        padded[:count] = logits
        return np.asarray(programs.resize(padded, state.size, self._non_overlap))[:count, None]

    def _check(self, state: Session, frame_idx: int, obj_id: int) -> tuple[int, int, str]:
        frame_idx = self._check_frame(state, frame_idx)
        if isinstance(obj_id, bool) or not isinstance(obj_id, int | np.integer):
            raise PromptError(f"obj_id is {obj_id!r}; expected an integer.")
        return frame_idx, int(obj_id), f"object {obj_id}, frame {frame_idx}"

    def _check_frame(self, state: Session, frame_idx: int) -> int:
        length = state.video.num_frames
        check_count("frame_idx", frame_idx, 0, "a frame number")
        if length is not None and frame_idx >= length:
            raise PromptError(f"there is no frame {frame_idx}; the video has {length}, counted from 0.")
        return int(frame_idx)

    def _object(self, state: Session, obj_id: int) -> TrackedObject:
        if obj_id not in state.objects:
            raise PromptError(f"there is no object {obj_id}; there are {state.obj_ids}.")
        return state.objects[obj_id]
