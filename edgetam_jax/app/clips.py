"""The work on one clip. What was said and found is in the predictor's session; here are its uses."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgetam_jax.app.pointing import MIDDLE, NOTHING, Mark, Said
from edgetam_jax.cli.outputs import Clip, FrameResult, color_ids, writing
from edgetam_jax.cli.track import FPS
from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.media.palette import object_colors
from edgetam_jax.media.video import Video, open_video
from edgetam_jax.media.video_writer import FrameTiming
from edgetam_jax.tracking.predictor import VideoPredictor
from edgetam_jax.tracking.session import Session
from edgetam_jax.types import Label

MAX_FRAMES = 600
MAX_PIXELS = 3840 * 2160  # of a frame
MAX_OBJECTS = 8
# Objects and prompted frames that the compiled programs have room for from the start, so that few are compiled.
ROOM, SLOTS = 2, 2


@dataclasses.dataclass
class ClipWork:
    folder: Path  # for its files alone
    name: str
    video: Video
    predictor: VideoPredictor
    session: Session
    runs: int = 0  # how often it was tracked

    def close(self) -> None:
        self.video.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def open_clip(predictor: VideoPredictor, path: Path, folder: Path) -> ClipWork:
    """Opens a clip that is not too long or large, and compiles what the first click in its size needs."""
    video = open_video(path)
    try:
        check_clip(video)
        session = predictor.init_state(video, keep="logits")
        session.capacity, session.prompt_slots = ROOM, SLOTS
        work = ClipWork(folder, path.stem, video, predictor, session)
        mark(work, 0, 1, MIDDLE)
        forget(work, 1)
    except BaseException:
        video.close()
        raise
    return work


def check_clip(video: Video) -> None:
    if len(video) > MAX_FRAMES:
        raise FrameError(
            f"the clip has {len(video)} frames; the app takes up to {MAX_FRAMES}. Cut it, or use edgetam-jax track."
        )
    if video.height * video.width > MAX_PIXELS:
        raise FrameError(f"the clip is {video.width}x{video.height}; the app takes up to 3840x2160. Scale it down.")


def mark(work: ClipWork, frame: int, obj_id: int, mark: Mark) -> None:
    """A click on or off an object, or a box around it. One that cannot be used changes nothing."""
    if not 1 <= obj_id <= MAX_OBJECTS:
        raise PromptError(f"there is no object {obj_id}; the app tracks up to {MAX_OBJECTS}.")
    _say(work, frame, obj_id, said_about(work, frame, obj_id).with_mark(mark, work.session.size))


def said_about(work: ClipWork, frame: int, obj_id: int) -> Said:
    tracked = work.session.objects.get(obj_id)
    if tracked is None or frame not in tracked.points:
        return NOTHING
    xy, labels = (array.tolist() for array in tracked.points[frame])
    corners = 2 if labels[0] == Label.BOX_START else 0
    box = (*xy[0], *xy[1]) if corners else None
    return Said(tuple(map(tuple, xy[corners:])), tuple(labels[corners:]), box)


def _say(work: ClipWork, frame: int, obj_id: int, said: Said) -> None:
    prompt = said.prompt
    work.predictor.add_new_points_or_box(work.session, frame, obj_id, prompt.points, prompt.labels, box=prompt.box)


def undo(work: ClipWork, frame: int, obj_id: int) -> None:
    """Takes back the latest click on this frame; where none is left, the box."""
    said = said_about(work, frame, obj_id)
    if said == NOTHING:
        raise PromptError(f"nothing was said about object {obj_id} on frame {frame}; there is nothing to take back.")
    others = {at: said_about(work, at, obj_id) for at in work.session.objects[obj_id].points if at != frame}
    work.predictor.clear_all_prompts_in_frame(work.session, frame, obj_id, need_output=False)
    again = {frame: said.without_latest()}
    if not work.session.objects[obj_id].conditioning():  # the predictor has dropped the corrections too
        again |= others
    for at, left in again.items():
        if left != NOTHING:
            _say(work, at, obj_id, left)
    if not work.session.objects[obj_id].prompt_outputs:
        forget(work, obj_id)


def forget(work: ClipWork, obj_id: int) -> None:
    """All that was said about an object, and found."""
    work.predictor.remove_object(work.session, obj_id, need_output=False)


def track(work: ClipWork) -> Iterator[tuple[int, int]]:
    """Tracks the whole clip, backward from the first prompt too. Yields how many frames of how many are done."""
    objects, total, done = work.session.objects.values(), len(work.video), 0
    prompted = [frame for tracked in objects for frame in tracked.conditioning()]
    if not prompted:
        raise PromptError("nothing to track: click an object or draw a box around it first.")
    start = min(prompted)
    for reverse in (False, True):
        for frame, *_ in work.predictor.propagate_in_video(work.session, start, reverse=reverse):
            done += not (reverse and frame == start)
            yield done, total


def picture(work: ClipWork, frame: int) -> np.ndarray:
    """A frame with its masks, and what was said about it."""
    seen = _seen(work, frame, work.video[frame])
    shown = seen.picture
    for obj_id, color in zip(seen.obj_ids, object_colors(color_ids(seen.obj_ids)), strict=True):
        said = said_about(work, frame, obj_id)
        if said != NOTHING:
            shown = said.drawn_on(shown, color)
    return shown


def _seen(work: ClipWork, frame: int, pixels: np.ndarray) -> FrameResult:
    _, obj_ids, logits = work.predictor.get_masks(work.session, frame)
    return FrameResult(frame, pixels, obj_ids, logits[:, 0] > 0)


def write_results(work: ClipWork) -> tuple[Path, Path]:
    """An MP4 with the masks drawn on it, and a zip of palette PNGs whose values are the objects' numbers."""
    work.runs += 1  # a name of its own, for browsers keep files by their names
    film, layers = work.folder / f"{work.name}-tracked-{work.runs}.mp4", work.folder / f"{work.name}-masks-{work.runs}"
    clip = Clip(work.session.size, FrameTiming(work.video.fps or FPS, work.video.seconds), work.session.obj_ids)
    with writing([film, layers], clip, force=True) as add:
        for frame, pixels in enumerate(work.video.frames()):
            add(_seen(work, frame, pixels))
    packed = Path(shutil.make_archive(str(layers), "zip", layers))
    shutil.rmtree(layers)
    return film, packed
