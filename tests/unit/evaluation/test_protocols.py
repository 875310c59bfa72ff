"""The simulated user: where it clicks, and which frames."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from edgetam_jax.errors import PromptError
from edgetam_jax.evaluation.measures import boundary_accuracy, region_similarity
from edgetam_jax.evaluation.protocols import Click, Truth, after_clicks, next_click, offline, online

HEIGHT, WIDTH, FRAMES = 20, 24, 8


def test_clicks_are_farthest_from_the_border() -> None:
    """As scipy finds distances, with the image's edge as a border, of what is missed and of what is wrong."""
    rng = np.random.default_rng(0)
    kinds = set()
    for blur in (0.5, 1, 2, 4) * 5:
        found, truth = (ndimage.gaussian_filter(rng.normal(size=(HEIGHT, WIDTH)), blur) > 0 for _ in range(2))
        errors = {True: truth & ~found, False: found & ~truth}
        depths = {
            kind: np.asarray(ndimage.distance_transform_edt(np.pad(error, 1)))[1:-1, 1:-1]
            for kind, error in errors.items()
        }
        click = next_click(found, truth)
        assert click is not None
        deepest = max(depth.max() for depth in depths.values())
        assert depths[click.positive][click.y, click.x] == pytest.approx(deepest)
        kinds.add(click.positive)
    assert kinds == {True, False}


def test_clicks_in_the_middle_of_the_largest_error() -> None:
    truth = np.zeros((HEIGHT, WIDTH), bool)
    truth[4:13, 6:22] = True
    nothing = np.zeros_like(truth)
    assert next_click(nothing, truth) == Click(10, 8, True)
    assert next_click(truth, truth) is None
    assert next_click(nothing, nothing) is None
    found = truth.copy()
    found[4:7, 6:22] = False  # three rows are missing
    found[15:20, 1:6] = True  # five by five are wrong: fewer, but further from the right ones
    assert next_click(found, truth) == Click(3, 17, False)
    found[15:20, 1:6] = False
    click = next_click(found, truth)
    assert click is not None and (click.y, click.positive) == (5, True)


def box(frame: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:14, 4 + frame : 12 + frame] = True
    return mask


TRUTH: Truth = {frame: box(frame) for frame in range(FRAMES)}


class Session:
    def __init__(self, length: int):
        self.size, self.length = (HEIGHT, WIDTH), length
        self.clicks: dict[int, list[tuple[int, int, int]]] = {}


class Forgetful:
    """Knows a frame once it has three clicks, and loses half a column of the object with every frame after it."""

    def __init__(self) -> None:
        self.state = Session(0)
        self.starts: list[int] = []

    def init_state(self, video: int) -> Session:
        self.state = Session(video)
        return self.state

    def add_new_points_or_box(
        self, state: Session, frame: int, obj_id: int, points: Any, labels: Any, clear_old_points: bool
    ) -> Any:
        assert not clear_old_points and len(points) == len(labels) == 1
        ((x, y),) = points
        assert labels[0] == TRUTH[frame][y, x] != (self.mask(frame)[y, x])  # an error, and named rightly
        state.clicks.setdefault(frame, []).append((x, y, labels[0]))
        return self.get_masks(state, frame)

    def mask(self, frame: int) -> np.ndarray:
        known = [at for at in self.state.clicks if at <= frame]
        if not known:
            return np.zeros((HEIGHT, WIDTH), bool)
        lost = frame - max(known)
        if lost == 0:
            lost = 3 - min(3, len(self.state.clicks[frame]))
        mask = box(frame)
        mask[:, 4 + frame : 4 + frame + lost] = False
        return mask

    def get_masks(self, state: Session, frame: int) -> Any:
        masks = [self.mask(frame)] if state.clicks else []
        return frame, [1] * len(masks), np.where(np.reshape(masks, (-1, 1, HEIGHT, WIDTH)), 1.0, -1.0)

    def propagate_in_video(self, state: Session, start: int) -> Iterator[Any]:
        self.starts.append(start)
        for frame in range(start, state.length):
            yield self.get_masks(state, frame)


def test_offline_corrects_the_worst_frame() -> None:
    predictor: Any = Forgetful()
    passes = offline(predictor, FRAMES, TRUTH, frames=3)
    # The worst is the one furthest from what was clicked: the last, then the middle of what is left.
    assert [one.clicked for one in passes] == [(0,), (0, 7), (0, 7, 6)]
    assert predictor.starts == [0, 0, 0]
    assert [len(clicks) for clicks in predictor.state.clicks.values()] == [3, 3, 3]
    for one, clicked in zip(passes, ((0,), (0, 7), (0, 7, 6)), strict=True):
        lost = np.array([t - max(c for c in clicked if c <= t) for t in range(FRAMES)])
        np.testing.assert_allclose(one.j, 1 - lost / 8)
        assert one.frames == tuple(range(FRAMES)) and one.jf == pytest.approx((one.j.mean() + one.f.mean()) / 2)
    last = TRUTH[5].copy()
    last[:, 9:14] = False
    assert passes[-1].f[5] == boundary_accuracy(last, TRUTH[5]) < 1
    assert passes[0].jf < passes[1].jf < passes[2].jf


def test_offline_ends_when_all_is_right() -> None:
    predictor: Any = Forgetful()
    passes = offline(predictor, 2, {0: box(0), 1: box(1)}, frames=8)
    assert [one.clicked for one in passes] == [(0,), (0, 1)]
    assert passes[-1].jf == 1


def test_online_stops_where_a_mask_is_bad() -> None:
    """One column of eight is lost a frame: three make the IoU 5/8. What was seen before the stop stays."""
    predictor: Any = Forgetful()
    outcome = online(predictor, FRAMES, TRUTH)
    assert outcome.clicked == (0, 3, 6) and predictor.starts == [0, 3, 6]
    np.testing.assert_allclose(outcome.j, 1 - np.array([0, 1, 2, 0, 1, 2, 0, 1]) / 8)
    predictor = Forgetful()
    limited = online(predictor, FRAMES, TRUTH, frames=2)
    assert limited.clicked == (0, 3)
    np.testing.assert_allclose(limited.j, 1 - np.array([0, 1, 2, 0, 1, 2, 3, 4]) / 8)
    assert online(predictor, FRAMES, TRUTH, min_iou=0.5).clicked == (0, 5)


def test_starts_where_the_object_is_seen_and_skips_what_is_not_annotated() -> None:
    nothing = np.zeros((HEIGHT, WIDTH), bool)
    truth = {0: nothing, 2: box(2), 4: box(4), 7: box(7)}
    predictor: Any = Forgetful()
    outcome = online(predictor, FRAMES, truth)
    assert outcome.clicked == (2, 7) and outcome.frames == (2, 4, 7) and predictor.starts == [2, 7]
    np.testing.assert_allclose(outcome.j, [1, 6 / 8, 1])
    assert [one.clicked for one in offline(predictor, FRAMES, truth)] == [(2,), (2, 7), (2, 7, 4)]


def test_fewer_clicks_leave_errors() -> None:
    """A frame that stays bad is not clicked on again."""
    predictor: Any = Forgetful()
    assert online(predictor, FRAMES, TRUTH, clicks=1, min_iou=0.8).clicked == (0, 2, 4, 6)
    one = offline(predictor, 1, {0: box(0)}, clicks=1)[0]
    assert one.j[0] == region_similarity(predictor.mask(0), box(0)) == 6 / 8


def test_after_each_click() -> None:
    """A column of eight is won by each. Who needs no more of them stays right."""
    predictor: Any = Forgetful()
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert after_clicks(predictor, image, box(0), clicks=2) == [6 / 8, 7 / 8]
    assert after_clicks(predictor, image, box(0), clicks=5) == [6 / 8, 7 / 8, 1, 1, 1]
    with pytest.raises(PromptError, match="on none of the annotated frames"):
        after_clicks(predictor, image, box(0) & False)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({0: np.zeros((HEIGHT, WIDTH), bool)}, "on none of the annotated frames"),
        ({0: np.ones((4, 4), bool)}, "the true mask is"),
        ({0: box(0), FRAMES: box(0)}, "the video has none of these"),
    ],
)
def test_a_truth_that_does_not_fit(truth: Truth, message: str) -> None:
    predictor: Any = Forgetful()
    for protocol in (offline, online):
        with pytest.raises(PromptError, match=message):
            protocol(predictor, FRAMES, truth)
