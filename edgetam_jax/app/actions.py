"""What the page's buttons do: a visitor's key and what they chose in, what the page shows out. No browser is needed."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgetam_jax.app import clips, images
from edgetam_jax.app.app_state import AppState
from edgetam_jax.app.pointing import Mark
from edgetam_jax.app.sessions import AppSession
from edgetam_jax.errors import EdgeTAMError
from edgetam_jax.media.video import open_video

Report = Callable[[int, int], None]  # is told how many frames of how many are done


class View(NamedTuple):
    picture: np.ndarray
    note: str  # one sentence


class Opened(NamedTuple):
    picture: np.ndarray
    note: str
    last: int  # frame


class Tracked(NamedTuple):
    picture: np.ndarray
    note: str
    film: Path
    masks: Path


class ImageView(NamedTuple):
    picture: np.ndarray
    note: str
    masks: Path | None


@contextlib.contextmanager
def _turn(studio: AppState, key: str) -> Iterator[AppSession]:
    visitor = studio.visitors.find(key)
    studio.wait()
    with visitor.turn():
        yield visitor


def open_clip(studio: AppState, key: str, upload: Path | None) -> Opened:
    """The visitor's file, which moves to a folder of theirs, or the example. The clip of before stays if it fails."""
    with _taken(studio, upload), _turn(studio, key) as visitor:
        folder = visitor.new_folder()
        try:
            path = studio.example() if upload is None else Path(shutil.move(upload, folder))
            work = clips.open_clip(studio.predictor, path, folder)
        except BaseException:
            shutil.rmtree(folder)
            raise
        visitor.put_clip(work)
        video = work.video
        rate = "" if video.fps is None else f", {video.fps:g} a second"
        note = f"{len(video)} frames of {video.width}x{video.height}{rate}. Click an object, or drag a box around it."
        return Opened(clips.picture(work, 0), note, len(video) - 1)


@contextlib.contextmanager
def _taken(studio: AppState, upload: Path | None) -> Iterator[None]:
    """An upload is gone at the end. gradio lets browsers name any file that it may serve, the studio's too."""
    if upload is not None and upload.resolve().is_relative_to(studio.root.resolve()):
        raise EdgeTAMError("this is no upload; upload a file.")
    if upload is not None and not upload.is_file():
        raise EdgeTAMError("the upload is gone; upload it again.")
    try:
        yield
    finally:
        if upload is not None:
            upload.unlink(missing_ok=True)


def show_frame(studio: AppState, key: str, frame: int) -> np.ndarray:
    visitor = studio.visitors.find(key)
    with visitor.turn(looking=True):
        return clips.picture(visitor.the_clip(), frame)


def mark_clip(studio: AppState, key: str, frame: int, obj_id: int, mark: Mark) -> View:
    with _turn(studio, key) as visitor:
        work = visitor.the_clip()
        clips.mark(work, frame, obj_id, mark)
        note = f"Object {obj_id} on frame {frame}. Correct it, add another object, or track."
        return View(clips.picture(work, frame), note)


def undo_clip(studio: AppState, key: str, frame: int, obj_id: int) -> View:
    with _turn(studio, key) as visitor:
        work = visitor.the_clip()
        clips.undo(work, frame, obj_id)
        return View(clips.picture(work, frame), f"Taken back: object {obj_id} on frame {frame}.")


def forget_object(studio: AppState, key: str, frame: int, obj_id: int) -> View:
    with _turn(studio, key) as visitor:
        work = visitor.the_clip()
        clips.forget(work, obj_id)
        return View(clips.picture(work, frame), f"Object {obj_id} is forgotten.")


def track(studio: AppState, key: str, frame: int, report: Report) -> Tracked:
    """Until the end, or until the visitor stops it or leaves; what is tracked by then is kept."""
    visitor, done, total = studio.visitors.find(key), 0, 0
    studio.wait()
    with visitor.tracking_turn():
        work = visitor.the_clip()
        for done, total in clips.track(work):
            report(done, total)
            if visitor.stop.is_set():
                break
        visitor.check_here()
        film, masks = clips.write_results(work)
        count, stopped = len(work.session.objects), "" if done == total else f"Stopped after {done} of {total} frames. "
        note = f"Tracked {count} object{'s' * (count > 1)}. {stopped}Go to a frame and click to correct it."
        return Tracked(clips.picture(work, frame), note, film, masks)


def stop(studio: AppState, key: str) -> str:
    visitor = studio.visitors.find(key)
    visitor.stop.set()
    return "Stopping after this frame." if visitor.tracking else "Nothing is being tracked."


def open_image(studio: AppState, key: str, upload: Path | None) -> ImageView:
    """The visitor's file, or the example's first frame."""
    with _taken(studio, upload), _turn(studio, key) as visitor:
        if upload is not None:
            visitor.image = images.open_image(studio.model, upload, upload.stem)
        else:
            with open_video(studio.example()) as video:
                visitor.image = images.open_image(studio.model, video[0], "example")
        work = visitor.image
        height, width, _ = work.pixels.shape
        size = f"{width}x{height} pixels{', scaled down' * work.scaled}"
        note = f"{size}. Click an object, drag a box around it, or find everything."
        return _view(visitor, note, images.no_masks(work))


def mark_image(studio: AppState, key: str, mark: Mark) -> ImageView:
    with _turn(studio, key) as visitor:
        masks = images.mark(visitor.the_image(), mark)
        return _view(visitor, "Correct it with more clicks, or take the mask.", masks)


def undo_image(studio: AppState, key: str) -> ImageView:
    with _turn(studio, key) as visitor:
        return _view(visitor, "Taken back.", images.undo(visitor.the_image()))


def find_everything(studio: AppState, key: str, points_per_side: int) -> ImageView:
    with _turn(studio, key) as visitor:
        masks = images.find_everything(visitor.the_image(), points_per_side)
        return _view(visitor, f"{len(masks)} masks, from {points_per_side**2} clicks.", masks)


def _view(visitor: AppSession, note: str, masks: np.ndarray) -> ImageView:
    work, folder = visitor.the_image(), visitor.new_masks()
    file = images.write_masks(work, masks, folder) if len(masks) else None
    return ImageView(images.picture(work, masks), note, file)
