"""Actions of the page's buttons: they take a session's key and its inputs, and return what the page shows.

No browser is needed to call them.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgetam_jax.app import clips, images
from edgetam_jax.app.app_state import AppState
from edgetam_jax.app.gestures import Gesture
from edgetam_jax.app.sessions import AppSession
from edgetam_jax.errors import EdgeTAMError
from edgetam_jax.media.video import open_video

ProgressCallback = Callable[[int, int], None]  # takes the numbers of frames done and of all frames


class FrameView(NamedTuple):
    picture: np.ndarray  # [H, W, 3] uint8
    note: str  # one or two sentences


class ClipView(NamedTuple):
    picture: np.ndarray
    note: str
    last_frame: int


class TrackedView(NamedTuple):
    picture: np.ndarray
    note: str
    video: Path
    masks: Path


class ImageView(NamedTuple):
    picture: np.ndarray
    note: str
    masks: Path | None


@contextlib.contextmanager
def _action(state: AppState, key: str) -> Iterator[AppSession]:
    session = state.sessions.get(key)
    state.wait_until_ready()
    with session.action():
        yield session


def open_clip(state: AppState, key: str, upload: Path | None) -> ClipView:
    """Opens an upload, which moves to a folder of the session, or the example. If that fails, the last clip stays."""
    with _removing_upload(state, upload), _action(state, key) as session:
        folder = session.new_folder()
        try:
            path = state.example_path() if upload is None else Path(shutil.move(upload, folder))
            clip = clips.open_clip(state.predictor, path, folder)
        except BaseException:
            shutil.rmtree(folder)
            raise
        session.set_clip(clip)
        video = clip.video
        rate = "" if video.fps is None else f", {video.fps:g} a second"
        note = f"{len(video)} frames of {video.width}x{video.height}{rate}. Click an object, or drag a box around it."
        return ClipView(clips.draw_frame(clip, 0), note, len(video) - 1)


@contextlib.contextmanager
def _removing_upload(state: AppState, upload: Path | None) -> Iterator[None]:
    """Removes the upload at the end.

    Gradio lets a browser name any file that it may serve, so files of the app itself are refused.
    """
    if upload is not None and upload.resolve().is_relative_to(state.root.resolve()):
        raise EdgeTAMError("this file is not an upload; upload a file.")
    if upload is not None and not upload.is_file():
        raise EdgeTAMError("the upload is gone; upload it again.")
    try:
        yield
    finally:
        if upload is not None:
            upload.unlink(missing_ok=True)


def show_frame(state: AppState, key: str, frame: int) -> np.ndarray:
    """The picture [H, W, 3] of a frame, also while the clip is being tracked."""
    session = state.sessions.get(key)
    with session.action(read_only=True):
        return clips.draw_frame(session.require_clip(), frame)


def prompt_clip(state: AppState, key: str, frame: int, obj_id: int, gesture: Gesture) -> FrameView:
    with _action(state, key) as session:
        clip = session.require_clip()
        clips.add_gesture(clip, frame, obj_id, gesture)
        note = f"Object {obj_id} on frame {frame}. Correct it, add another object, or track."
        return FrameView(clips.draw_frame(clip, frame), note)


def undo_clip(state: AppState, key: str, frame: int, obj_id: int) -> FrameView:
    with _action(state, key) as session:
        clip = session.require_clip()
        clips.undo(clip, frame, obj_id)
        return FrameView(clips.draw_frame(clip, frame), f"Taken back: object {obj_id} on frame {frame}.")


def remove_object(state: AppState, key: str, frame: int, obj_id: int) -> FrameView:
    with _action(state, key) as session:
        clip = session.require_clip()
        clips.remove_object(clip, obj_id)
        return FrameView(clips.draw_frame(clip, frame), f"Object {obj_id} is removed.")


def track(state: AppState, key: str, frame: int, report_progress: ProgressCallback) -> TrackedView:
    """Tracks to the end of the clip, or until the user stops it or leaves. Masks of the frames done are kept."""
    session, done, total = state.sessions.get(key), 0, 0
    state.wait_until_ready()
    with session.tracking_action():
        clip = session.require_clip()
        for done, total in clips.track(clip):
            report_progress(done, total)
            if session.stop.is_set():
                break
        session.check_active()
        video, masks = clips.write_results(clip)
        count, stopped = len(clip.session.objects), "" if done == total else f"Stopped after {done} of {total} frames. "
        note = f"Tracked {count} object{'s' * (count > 1)}. {stopped}Go to a frame and click to correct it."
        return TrackedView(clips.draw_frame(clip, frame), note, video, masks)


def stop(state: AppState, key: str) -> str:
    session = state.sessions.get(key)
    session.stop.set()
    return "Stopping after this frame." if session.tracking else "Nothing is being tracked."


def open_image(state: AppState, key: str, upload: Path | None) -> ImageView:
    """Opens an upload, or the first frame of the example."""
    with _removing_upload(state, upload), _action(state, key) as session:
        if upload is not None:
            session.image = images.open_image(state.model, upload, upload.stem)
        else:
            with open_video(state.example_path()) as video:
                session.image = images.open_image(state.model, video[0], "example")
        image = session.image
        height, width, _ = image.pixels.shape
        size = f"{width}x{height} pixels{', scaled down' * image.is_scaled}"
        note = f"{size}. Click an object, drag a box around it, or find everything."
        return _image_view(session, note, images.no_masks(image))


def prompt_image(state: AppState, key: str, gesture: Gesture) -> ImageView:
    with _action(state, key) as session:
        masks = images.add_gesture(session.require_image(), gesture)
        return _image_view(session, "Correct it with more clicks, or take the mask.", masks)


def undo_image(state: AppState, key: str) -> ImageView:
    with _action(state, key) as session:
        return _image_view(session, "Taken back.", images.undo(session.require_image()))


def segment_everything(state: AppState, key: str, points_per_side: int) -> ImageView:
    with _action(state, key) as session:
        masks = images.segment_everything(session.require_image(), points_per_side)
        return _image_view(session, f"{len(masks)} masks, from {points_per_side**2} points.", masks)


def _image_view(session: AppSession, note: str, masks: np.ndarray) -> ImageView:
    image, folder = session.require_image(), session.new_masks_folder()
    file = images.write_masks(image, masks, folder) if len(masks) else None
    return ImageView(images.draw_image(image, masks), note, file)
