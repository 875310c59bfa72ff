"""`VideoPredictor`: the interactive session, with SAM 2's methods, arguments and returns.

Click an object, see its mask, track it, correct it on any frame, track again. What differs from SAM 2: objects are
independent and may be added and removed at any time; an object is prompted, corrected and cleared without an effect on
others; a correction stays, also on prompted frames, and has an effect at once; a call that fails changes nothing.
"""

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike

from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.media.video import open_video
from edgetam_jax.model import Model, for_inference
from edgetam_jax.ops.pixels import Rule
from edgetam_jax.ops.points import check_inside, check_mask, check_points
from edgetam_jax.ops.tree import resolve_vectorize
from edgetam_jax.prompts import check_count
from edgetam_jax.tracking.session import MaskStorage, Session, TrackedObject
from edgetam_jax.tracking.session_runner import FrameMasks, SessionRunner
from edgetam_jax.tracking.step import TrackOptions


class VideoPredictor:
    """Tracks prompted objects through a video, with corrections; the API of SAM 2's video predictor.

        predictor = VideoPredictor(model)
        state = predictor.init_state("clip.mp4")
        predictor.add_new_points_or_box(state, frame_idx=0, obj_id=1, points=[[210, 350]], labels=[1])
        for frame_idx, obj_ids, mask_logits in predictor.propagate_in_video(state):
            masks = mask_logits > 0  # [O, 1, H, W]

    As in SAM 2, an object is also tracked on frames before its first prompt if tracking starts there, for example at
    another object's prompt. To avoid that, track from `start_frame_idx` at its prompt.
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
        """Makes a predictor, which may serve any number of sessions.

        Args:
            model: A model for videos, see `load`.
            fill_hole_area: Fill holes of up to this many pixels in the predicted masks, whose side is a quarter of the
                model's input size. 0 fills none.
            island_area: Remove islands of up to this many of these pixels. 0 removes none.
            non_overlap_masks: Assign each pixel of the returned masks to one object at most.
            soft_memory: Encode the masks of prompted frames into memory as they are, instead of binarized.
            preprocess: How frames are resized, see `track`.

        Raises:
            CheckpointError: The model is for still images only.
            FrameError: `preprocess` is none of the rules.
            PromptError: An area is not a number of pixels.
        """
        model.check_for_video()
        for name, area in (("fill_hole_area", fill_hole_area), ("island_area", island_area)):
            check_count(name, area, 0, "a number of pixels")
        if preprocess not in get_args(Rule):
            raise FrameError(f"preprocess is {preprocess!r}; expected one of {get_args(Rule)}.")
        self.model = model
        options = TrackOptions(preprocess=preprocess, vectorize=resolve_vectorize(None, model.platform))
        clean = int(fill_hole_area), int(island_area)
        self._runner = SessionRunner(for_inference(model), clean, non_overlap_masks, soft_memory, options)

    def init_state(self, video: Any, keep: MaskStorage = "logits") -> Session:
        """Opens a video and starts a session.

        Args:
            video: A folder of frames, a video file, an array [T, H, W, 3], or a list of images; see `open_video`.
            keep: How the masks of tracked frames are stored, for `get_masks` and corrections: "logits" (262 KB per
                frame and object), "bits" (8 KB) or "rle". Each also keeps the frame's memory, 131 KB. With "nothing",
                only the latest frames' memory is kept, so a video of any length needs the same space, and masks of
                tracked frames read as absent (-1024) in later calls.

        Returns:
            The session, which all other methods take as `state`.

        Raises:
            FrameError: The video cannot be read.
            PromptError: `keep` is none of these.
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
    ) -> FrameMasks:
        """Prompts an object on a frame with points, a box, or both. An existing mask on this frame is refined.

        Args:
            state: The session.
            frame_idx: The frame, from 0.
            obj_id: The object, any integer. A new id adds an object.
            points: [P, 2] points (x, y), in pixels of the video.
            labels: [P], 1 for points on the object and 0 for others.
            clear_old_points: Discard earlier points of this object on this frame, instead of adding to them.
            normalize_coords: Coordinates are in pixels. If False, they are relative to the width and height, in 0..1.
            box: [4] corners x0, y0, x1, y1, in the same units.

        Returns:
            The frame's number, the ids of all O objects, and their mask logits on this frame, [O, 1, H, W] float32.

        Raises:
            PromptError: The prompt is malformed or outside the frame, or there is no such frame.
        """
        frame_idx, obj_id, name = _check_target(state, frame_idx, obj_id)
        coordinates, kinds = check_points(points, labels, box, name)
        if not normalize_coords:
            coordinates = coordinates * np.array(state.size[::-1], np.float32)
        check_inside(coordinates, state.size, name)
        if box is not None and not clear_old_points:
            raise PromptError(f"{name}: a box starts anew; give it with clear_old_points=True.")
        tracked = state.objects.get(obj_id) or TrackedObject()
        if not clear_old_points and frame_idx in tracked.points:
            earlier = tracked.points[frame_idx]
            coordinates, kinds = (np.concatenate(pair) for pair in zip(earlier, (coordinates, kinds), strict=True))
        output = self._runner.encode_points(state, tracked, frame_idx, coordinates, kinds)
        tracked.points[frame_idx] = coordinates, kinds
        state.set_prompt_output(frame_idx, obj_id, tracked, output)
        return self.get_masks(state, frame_idx)

    def add_new_mask(self, state: Session, frame_idx: int, obj_id: int, mask: ArrayLike) -> FrameMasks:
        """Sets an object's mask on a frame.

        Args:
            state: The session.
            frame_idx: The frame, from 0.
            obj_id: The object, any integer. A new id adds an object.
            mask: [H, W], of the video's size. Values above 0 are the object.

        Returns:
            The frame's number, the ids of all O objects, and their mask logits on this frame, [O, 1, H, W] float32.

        Raises:
            PromptError: The mask has another size, or there is no such frame.
        """
        frame_idx, obj_id, name = _check_target(state, frame_idx, obj_id)
        binary = check_mask(mask, name)
        if binary.shape != state.size:
            raise PromptError(f"{name}: the mask is {binary.shape}, the video {state.size} (height, width).")
        tracked = state.objects.get(obj_id) or TrackedObject()
        output = self._runner.encode_mask(state, frame_idx, binary)
        tracked.points.pop(frame_idx, None)
        state.set_prompt_output(frame_idx, obj_id, tracked, output)
        return self.get_masks(state, frame_idx)

    def propagate_in_video(
        self,
        state: Session,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[FrameMasks]:
        """Tracks all objects from frame to frame. Prompted frames keep the masks of their prompts.

        Objects and prompts that are added during iteration are tracked by the next call.

        Args:
            state: The session.
            start_frame_idx: The first frame. By default the first prompted one, or the last with `reverse`.
            max_frame_num_to_track: How many frames are visited after the first one. By default all.
            reverse: Track backward.

        Returns:
            An iterator that yields for each frame its number, the ids of the O objects, and their mask logits,
            [O, 1, H, W] float32.

        Raises:
            PromptError: There is no prompt, no such frame, or the video cannot be tracked backward.
        """
        prompted = [frame for tracked in state.objects.values() for frame in tracked.conditioning()]
        if not prompted:
            raise PromptError("nothing to track: add points, a box or a mask for an object first.")
        start = start_frame_idx
        if start is None:
            start = max(prompted) if reverse else min(prompted)
        start = state.check_frame(start)
        count = max_frame_num_to_track
        if count is not None:
            check_count("max_frame_num_to_track", count, 0, "None, or a number of frames")
        if reverse and state.forward_only:
            raise PromptError("an iterator cannot be tracked backward; give a list, an array, a folder or a file.")
        return self._runner.propagate(state, start, count, reverse)

    def clear_all_prompts_in_frame(
        self, state: Session, frame_idx: int, obj_id: int, need_output: bool = True
    ) -> FrameMasks | None:
        """Removes an object's prompts and its mask on a frame. Without another prompt, its tracked masks go as well.

        Args:
            state: The session.
            frame_idx: The frame, from 0.
            obj_id: The object.
            need_output: Return the masks.

        Returns:
            The frame's number, object ids and mask logits, as `get_masks`; None without `need_output`.

        Raises:
            PromptError: There is no such frame or object.
        """
        frame_idx = state.check_frame(frame_idx)
        tracked = state.find_object(obj_id)
        tracked.points.pop(frame_idx, None)
        tracked.prompt_outputs.pop(frame_idx, None)
        tracked.forget([frame_idx])
        if not tracked.conditioning():
            state.objects[obj_id] = TrackedObject()
        return self.get_masks(state, frame_idx) if need_output else None

    def remove_object(
        self, state: Session, obj_id: int, strict: bool = False, need_output: bool = True
    ) -> tuple[list[int], list[tuple[int, np.ndarray]]]:
        """Removes an object from the session.

        Args:
            state: The session.
            obj_id: The object.
            strict: Raise an error if there is no such object.
            need_output: Return masks.

        Returns:
            The remaining object ids, and a list with the number and the mask logits [O, 1, H, W] of each frame on
            which the object had a prompt. The list is empty without `need_output`.

        Raises:
            PromptError: There is no such object, and `strict` is True.
        """
        if obj_id not in state.objects and not strict:
            return state.obj_ids, []
        frames = sorted(state.find_object(obj_id).prompt_outputs)
        del state.objects[obj_id]
        if not need_output or not state.objects:
            return state.obj_ids, []
        return state.obj_ids, [(frame, self.get_masks(state, frame)[2]) for frame in frames]

    def reset_state(self, state: Session) -> None:
        """Removes all objects. The video stays open.

        Args:
            state: The session.
        """
        state.objects.clear()

    def get_masks(self, state: Session, frame_idx: int) -> FrameMasks:
        """Reads the masks that the session holds for a frame. Nothing is computed but their size.

        Args:
            state: The session.
            frame_idx: The frame, from 0.

        Returns:
            The frame's number, the ids of all O objects, and their mask logits, [O, 1, H, W] float32: those of prompts
            and of tracking, as far as `keep` of `init_state` stores them, and -1024 for objects that have none.

        Raises:
            PromptError: There is no such frame.
        """
        return self._runner.stored_masks(state, state.check_frame(frame_idx))


def _check_target(state: Session, frame_idx: int, obj_id: int) -> tuple[int, int, str]:
    """Frame and object of a prompt, and how errors name them."""
    frame_idx = state.check_frame(frame_idx)
    if isinstance(obj_id, bool) or not isinstance(obj_id, int | np.integer):
        raise PromptError(f"obj_id is {obj_id!r}; expected an integer.")
    return frame_idx, int(obj_id), f"object {obj_id}, frame {frame_idx}"
