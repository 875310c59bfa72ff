"""A user who is played by the truth, after SAM 2 (arXiv:2408.00714, appendix on zero-shot video).

The user clicks where the mask is most wrong: in the middle of the error, as far from its border as possible. Offline,
the whole video is tracked again and again, and before each pass one more frame is corrected, the worst. Online, it is
tracked once, and the user stops it where a mask is bad; what was seen stays as it was.

One object at a time: masks of others do not change its own. No frame is given, so all annotated ones are scored.

`after_clicks` is about a single image: how good is the mask after each click?
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
CLICKS = 3  # on each frame that is corrected
FRAMES = 8  # that are corrected at most
GOOD = 0.75  # the IoU below which the user stops an online run

Truth = Mapping[int, np.ndarray]  # [H, W] bool by frame, of those that are annotated

_correction = jax.jit(partial(correction, user=User(aim="centre", from_truth=0.0)))


class Click(NamedTuple):
    x: int
    y: int
    positive: bool


class Outcome(NamedTuple):
    """How good the masks were after some frames had been clicked on."""

    clicked: tuple[int, ...]  # in the order in which it was done
    frames: tuple[int, ...]  # that are annotated, from the first with the object on
    j: np.ndarray  # [T] on those
    f: np.ndarray  # [T]

    @property
    def jf(self) -> float:
        return float((self.j.mean() + self.f.mean()) / 2)


def next_click(found: np.ndarray, truth: np.ndarray) -> Click | None:
    """Where two masks [H, W] differ most; None if they do not."""
    if (found == truth).all():
        return None
    click = _correction(jax.random.key(0), truth, found)
    return Click(int(click.point[0]), int(click.point[1]), bool(click.label == Label.POSITIVE))


def offline(
    predictor: VideoPredictor, video: Any, truth: Truth, frames: int = FRAMES, clicks: int = CLICKS
) -> list[Outcome]:
    """The outcome of each pass; fewer than `frames` if all masks become right."""
    state = predictor.init_state(video)
    annotated = _from_first(truth, state)
    target, clicked, outcomes = annotated[0], [], []
    while target is not None and len(clicked) < frames:
        _correct(predictor, state, target, truth[target], clicks)
        clicked.append(target)
        quality = {}
        for frame, _, logits in predictor.propagate_in_video(state, annotated[0]):
            if frame in truth:
                quality[frame] = _quality(logits, truth[frame])
        outcomes.append(_outcome(clicked, annotated, quality))
        wrong = [frame for frame in annotated if frame not in clicked and quality[frame][0] < 1]
        target = min(wrong, key=lambda frame: quality[frame][0], default=None)
    return outcomes


def online(
    predictor: VideoPredictor,
    video: Any,
    truth: Truth,
    frames: int = FRAMES,
    clicks: int = CLICKS,
    good: float = GOOD,
) -> Outcome:
    """The outcome of one pass, in which up to `frames` frames are clicked on, the first included."""
    state = predictor.init_state(video)
    annotated = _from_first(truth, state)
    clicked, quality = [annotated[0]], {}
    _correct(predictor, state, annotated[0], truth[annotated[0]], clicks)

    def watch(start: int) -> int | None:
        """Until the user stops, and corrects what is there: on which frame?"""
        for frame, _, logits in predictor.propagate_in_video(state, start):
            if frame not in truth:
                continue
            quality[frame] = _quality(logits, truth[frame])
            if quality[frame][0] < good and frame not in clicked and len(clicked) < frames:
                _correct(predictor, state, frame, truth[frame], clicks)
                clicked.append(frame)
                return frame
        return None

    at: int | None = annotated[0]
    while at is not None:
        at = watch(at)
    return _outcome(clicked, annotated, quality)


def after_clicks(predictor: VideoPredictor, image: np.ndarray, truth: np.ndarray, clicks: int = CLICKS) -> list[float]:
    """The IoU after each of them, on an image [H, W, 3] with a mask [H, W] that is not empty."""
    state = predictor.init_state(image[None])
    _from_first({0: truth}, state)
    found = [float(region_similarity(mask, truth)) for mask in _answers(predictor, state, 0, truth, clicks)]
    return found + [1.0] * (clicks - len(found))  # who is right is not clicked on


def _correct(predictor: VideoPredictor, state: Session, frame: int, truth: np.ndarray, clicks: int) -> None:
    for _ in _answers(predictor, state, frame, truth, clicks):
        pass


def _answers(
    predictor: VideoPredictor, state: Session, frame: int, truth: np.ndarray, clicks: int
) -> Iterator[np.ndarray]:
    """The mask after one click after the other, each at what the one before has left wrong."""
    known = predictor.get_masks(state, frame)[2]
    found = known[0, 0] > 0 if len(known) else np.zeros(truth.shape, bool)
    for _ in range(clicks):
        click = next_click(found, truth)
        if click is None:
            return
        point, label = [[click.x, click.y]], [int(click.positive)]
        logits = predictor.add_new_points_or_box(state, frame, OBJECT, point, label, clear_old_points=False)[2]
        found = logits[0, 0] > 0
        yield found


def _from_first(truth: Truth, state: Session) -> list[int]:
    """The annotated frames, from the first that shows the object."""
    for frame, mask in truth.items():
        if mask.shape != state.size:
            raise PromptError(f"frame {frame}: the true mask is {mask.shape}, the video {state.size} (height, width).")
    there = [frame for frame in sorted(truth) if truth[frame].any()]
    if not there:
        raise PromptError("the object is on none of the annotated frames; nobody could click on it.")
    return [frame for frame in sorted(truth) if frame >= there[0]]


def _quality(logits: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    found = logits[0, 0] > 0
    return float(region_similarity(found, truth)), float(boundary_accuracy(found, truth))


def _outcome(clicked: list[int], annotated: list[int], quality: Mapping[int, tuple[float, float]]) -> Outcome:
    if missing := [frame for frame in annotated if frame not in quality]:
        raise PromptError(f"the frames {missing} are annotated, but the video has none of these numbers.")
    j, f = np.array([quality[frame] for frame in annotated]).T
    return Outcome(tuple(clicked), tuple(annotated), j, f)
