"""SAM 2's protocols with a simulated user (arXiv:2408.00714, appendix on zero-shot video).

The user knows the true masks, and clicks inside the largest error of a mask, as far from the error's border as
possible. Offline, the video is tracked in several passes, and before each pass the user corrects one more frame: the
one with the lowest IoU. Online, it is tracked once; the user pauses at a frame whose IoU is low and corrects it, and
the masks of earlier frames stay as they are.

Objects are tracked one at a time, so that they do not influence each other. No frame is prompted by its true mask, so
all annotated frames are scored.

`after_clicks` measures the IoU on a single image after each click.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from edgetam_jax.data.simulated_user import User, correction
from edgetam_jax.errors import PromptError
from edgetam_jax.evaluation.measures import boundary_accuracy, region_similarity
from edgetam_jax.tracking.predictor import VideoPredictor
from edgetam_jax.tracking.session import Session
from edgetam_jax.types import Label

OBJECT = 1  # its id in the session
CLICKS = 3  # on each corrected frame
FRAMES = 8  # corrected at most
MIN_IOU = 0.75  # below it, the user pauses an online run to correct the frame

Truth = Mapping[int, np.ndarray]  # masks [H, W] bool by annotated frame

_correction = jax.jit(partial(correction, user=User(aim="centre", from_truth=0.0)))


class Click(NamedTuple):
    x: int
    y: int
    positive: bool


class PassResult(NamedTuple):
    """One pass over a video, after some frames have been corrected."""

    clicked: tuple[int, ...]  # the corrected frames, in order
    frames: tuple[int, ...]  # the annotated frames, from the first that shows the object
    j: np.ndarray  # [T] on `frames`
    f: np.ndarray  # [T]

    @property
    def jf(self) -> float:
        return float((self.j.mean() + self.f.mean()) / 2)


def next_click(mask: np.ndarray, truth: np.ndarray) -> Click | None:
    """The click that corrects a mask [H, W]; None if it equals the true one."""
    if (mask == truth).all():
        return None
    click = _correction(jax.random.key(0), truth, mask)
    return Click(int(click.point[0]), int(click.point[1]), bool(click.label == Label.POSITIVE))


def offline(
    predictor: VideoPredictor, video: Any, truth: Truth, frames: int = FRAMES, clicks: int = CLICKS
) -> list[PassResult]:
    """The result of each pass; there are fewer than `frames` if all masks become right."""
    state = predictor.init_state(video)
    annotated = _from_first(truth, state)
    target, clicked, results = annotated[0], [], []
    while target is not None and len(clicked) < frames:
        _correct(predictor, state, target, truth[target], clicks)
        clicked.append(target)
        j_and_f = {}
        for frame, _, logits in predictor.propagate_in_video(state, annotated[0]):
            if frame in truth:
                j_and_f[frame] = _j_and_f(logits, truth[frame])
        results.append(_pass_result(clicked, annotated, j_and_f))
        wrong = [frame for frame in annotated if frame not in clicked and j_and_f[frame][0] < 1]
        target = min(wrong, key=lambda frame: j_and_f[frame][0], default=None)
    return results


def online(
    predictor: VideoPredictor,
    video: Any,
    truth: Truth,
    frames: int = FRAMES,
    clicks: int = CLICKS,
    min_iou: float = MIN_IOU,
) -> PassResult:
    """The result of one pass, in which up to `frames` frames are corrected, the first included."""
    state = predictor.init_state(video)
    annotated = _from_first(truth, state)
    clicked, j_and_f = [annotated[0]], {}
    _correct(predictor, state, annotated[0], truth[annotated[0]], clicks)

    def track_until_correction(start: int) -> int | None:
        """Tracks up to the next frame that the user corrects, and returns it; None at the end of the video."""
        for frame, _, logits in predictor.propagate_in_video(state, start):
            if frame not in truth:
                continue
            j_and_f[frame] = _j_and_f(logits, truth[frame])
            if j_and_f[frame][0] < min_iou and frame not in clicked and len(clicked) < frames:
                _correct(predictor, state, frame, truth[frame], clicks)
                clicked.append(frame)
                return frame
        return None

    frame: int | None = annotated[0]
    while frame is not None:
        frame = track_until_correction(frame)
    return _pass_result(clicked, annotated, j_and_f)


def after_clicks(predictor: VideoPredictor, image: np.ndarray, truth: np.ndarray, clicks: int = CLICKS) -> list[float]:
    """The IoU after each click, on an image [H, W, 3] with a true mask [H, W] that is not empty."""
    state = predictor.init_state(image[None])
    _from_first({0: truth}, state)
    masks = _masks_after_clicks(predictor, state, 0, truth, clicks)
    ious = [float(region_similarity(mask, truth)) for mask in masks]
    return ious + [1.0] * (clicks - len(ious))  # a mask that is right gets no more clicks


def _correct(predictor: VideoPredictor, state: Session, frame: int, truth: np.ndarray, clicks: int) -> None:
    for _ in _masks_after_clicks(predictor, state, frame, truth, clicks):
        pass


def _masks_after_clicks(
    predictor: VideoPredictor, state: Session, frame: int, truth: np.ndarray, clicks: int
) -> Iterator[np.ndarray]:
    """The mask after each click; every click corrects the mask after the one before."""
    logits = predictor.get_masks(state, frame)[2]
    mask = logits[0, 0] > 0 if len(logits) else np.zeros(truth.shape, bool)
    for _ in range(clicks):
        click = next_click(mask, truth)
        if click is None:
            return
        point, label = [[click.x, click.y]], [int(click.positive)]
        logits = predictor.add_new_points_or_box(state, frame, OBJECT, point, label, clear_old_points=False)[2]
        mask = logits[0, 0] > 0
        yield mask


def _from_first(truth: Truth, state: Session) -> list[int]:
    """The annotated frames, from the first that shows the object; raises if the truth does not fit the video."""
    for frame, mask in truth.items():
        if mask.shape != state.size:
            raise PromptError(f"frame {frame}: the true mask is {mask.shape}, the video {state.size} (height, width).")
    shown = [frame for frame in sorted(truth) if truth[frame].any()]
    if not shown:
        raise PromptError("the object is on none of the annotated frames, so that it cannot be clicked on.")
    return [frame for frame in sorted(truth) if frame >= shown[0]]


def _j_and_f(logits: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    mask = logits[0, 0] > 0
    return float(region_similarity(mask, truth)), float(boundary_accuracy(mask, truth))


def _pass_result(clicked: list[int], annotated: list[int], j_and_f: Mapping[int, tuple[float, float]]) -> PassResult:
    if missing := [frame for frame in annotated if frame not in j_and_f]:
        raise PromptError(f"the frames {missing} are annotated, but the video has none of these numbers.")
    j, f = np.array([j_and_f[frame] for frame in annotated]).T
    return PassResult(tuple(clicked), tuple(annotated), j, f)
