"""One clip of the app: its video, and the tracking session that holds all prompts and masks."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgetam_jax.app.gestures import CENTER_CLICK, EMPTY, Gesture, ObjectPrompt
from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.media.outputs import FrameResult, OutputSpec, color_ids, frame_timing, open_writers
from edgetam_jax.media.palette import object_colors
from edgetam_jax.media.video import Video, open_video
from edgetam_jax.tracking.predictor import VideoPredictor
from edgetam_jax.tracking.session import Session
from edgetam_jax.types import Label

MAX_FRAMES = 600
MAX_PIXELS = 3840 * 2160  # of a frame
MAX_OBJECTS = 8
# Objects and prompted frames that the compiled programs hold from the start, so that few programs are compiled.
CAPACITY, SLOTS = 2, 2


@dataclasses.dataclass
class OpenClip:
    folder: Path  # holds the clip's files and nothing else
    name: str
    video: Video
    predictor: VideoPredictor
    session: Session
    exports: int = 0  # number of exported results

    def close(self) -> None:
        self.video.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def open_clip(predictor: VideoPredictor, path: Path, folder: Path) -> OpenClip:
    """Opens a clip within the app's limits, and compiles what the first click on a clip of its size needs."""
    video = open_video(path)
    try:
        check_limits(video)
        session = predictor.init_state(video, keep="logits")
        session.capacity, session.prompt_slots = CAPACITY, SLOTS
        clip = OpenClip(folder, path.stem, video, predictor, session)
        add_gesture(clip, 0, 1, CENTER_CLICK)
        remove_object(clip, 1)
    except BaseException:
        video.close()
        raise
    return clip


def check_limits(video: Video) -> None:
    if len(video) > MAX_FRAMES:
        raise FrameError(
            f"the clip has {len(video)} frames; the app takes up to {MAX_FRAMES}. Cut it, or use edgetam-jax track."
        )
    if video.height * video.width > MAX_PIXELS:
        raise FrameError(f"the clip is {video.width}x{video.height}; the app takes up to 3840x2160. Scale it down.")


def add_gesture(clip: OpenClip, frame: int, obj_id: int, gesture: Gesture) -> None:
    """Adds a click or a box to the prompt of an object on a frame. An invalid one changes nothing."""
    if not 1 <= obj_id <= MAX_OBJECTS:
        raise PromptError(f"there is no object {obj_id}; the app tracks up to {MAX_OBJECTS}.")
    _set_prompt(clip, frame, obj_id, prompt_at(clip, frame, obj_id).with_gesture(gesture, clip.session.size))


def prompt_at(clip: OpenClip, frame: int, obj_id: int) -> ObjectPrompt:
    """The prompt of an object on a frame; `EMPTY` if there is none."""
    tracked = clip.session.objects.get(obj_id)
    if tracked is None or frame not in tracked.points:
        return EMPTY
    xy, labels = (array.tolist() for array in tracked.points[frame])
    corners = 2 if labels[0] == Label.BOX_START else 0
    box = (*xy[0], *xy[1]) if corners else None
    return ObjectPrompt(tuple(map(tuple, xy[corners:])), tuple(labels[corners:]), box)


def _set_prompt(clip: OpenClip, frame: int, obj_id: int, prompt: ObjectPrompt) -> None:
    points, labels, box = prompt.to_prompt().points, prompt.to_prompt().labels, prompt.box
    clip.predictor.add_new_points_or_box(clip.session, frame, obj_id, points, labels, box=box)


def undo(clip: OpenClip, frame: int, obj_id: int) -> None:
    """Removes the last point of an object on a frame; its box if it has no points."""
    prompt = prompt_at(clip, frame, obj_id)
    if prompt == EMPTY:
        raise PromptError(f"object {obj_id} has no prompt on frame {frame}; there is nothing to take back.")
    others = {at: prompt_at(clip, at, obj_id) for at in clip.session.objects[obj_id].points if at != frame}
    clip.predictor.clear_all_prompts_in_frame(clip.session, frame, obj_id, need_output=False)
    prompts = {frame: prompt.without_last()}
    if not clip.session.objects[obj_id].conditioning():  # then the predictor has dropped the corrections too
        prompts |= others
    for at, remaining in prompts.items():
        if remaining != EMPTY:
            _set_prompt(clip, at, obj_id, remaining)
    if not clip.session.objects[obj_id].prompt_outputs:
        remove_object(clip, obj_id)


def remove_object(clip: OpenClip, obj_id: int) -> None:
    """Removes an object's prompts and masks."""
    clip.predictor.remove_object(clip.session, obj_id, need_output=False)


def track(clip: OpenClip) -> Iterator[tuple[int, int]]:
    """Tracks the whole clip, backward from the first prompt too. Yields the number of frames done, and of all."""
    objects, total, done = clip.session.objects.values(), len(clip.video), 0
    prompted = [frame for tracked in objects for frame in tracked.conditioning()]
    if not prompted:
        raise PromptError("nothing to track: click an object or draw a box around it first.")
    start = min(prompted)
    for reverse in (False, True):
        for frame, *_ in clip.predictor.propagate_in_video(clip.session, start, reverse=reverse):
            done += not (reverse and frame == start)
            yield done, total


def draw_frame(clip: OpenClip, frame: int) -> np.ndarray:
    """A frame [H, W, 3] with its masks and prompts."""
    result = _result_at(clip, frame, clip.video[frame])
    picture = result.picture
    for obj_id, color in zip(result.obj_ids, object_colors(color_ids(result.obj_ids)), strict=True):
        prompt = prompt_at(clip, frame, obj_id)
        if prompt != EMPTY:
            picture = prompt.draw_on(picture, color)
    return picture


def _result_at(clip: OpenClip, frame: int, pixels: np.ndarray) -> FrameResult:
    _, obj_ids, logits = clip.predictor.get_masks(clip.session, frame)
    return FrameResult(frame, pixels, obj_ids, logits[:, 0] > 0)


def write_results(clip: OpenClip) -> tuple[Path, Path]:
    """Writes an MP4 with the masks drawn on it, and a zip of palette PNGs whose values are object ids."""
    clip.exports += 1  # a new name each time, because browsers cache files by name
    video = clip.folder / f"{clip.name}-tracked-{clip.exports}.mp4"
    masks = clip.folder / f"{clip.name}-masks-{clip.exports}"
    spec = OutputSpec(clip.session.size, frame_timing(clip.video), clip.session.obj_ids)
    with open_writers([video, masks], spec, force=True) as add:
        for frame, pixels in enumerate(clip.video.frames()):
            add(_result_at(clip, frame, pixels))
    archive = Path(shutil.make_archive(str(masks), "zip", masks))
    shutil.rmtree(masks)
    return video, archive
