"""The interactive predictor: what users may do at any time, and what a wrong call leaves behind."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetam_jax import Prompt, Prompts, VideoPredictor, track
from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.model import Model
from edgetam_jax.ops.masks import fill_holes, remove_islands
from edgetam_jax.ops.resize import resize_logits
from edgetam_jax.tracking.session import Session
from edgetam_jax.types import NO_OBJECT
from tests.parity.pairs import make_pair, with_score_bias
from tests.support.oracle import TINY

FRAMES, HEIGHT, WIDTH = 12, 60, 80
CLICK: dict[str, Any] = {"points": [[30, 25]], "labels": [1]}
BOX: dict[str, Any] = {"box": [40, 20, 70, 55]}


@pytest.fixture(scope="module")
def model(tiny_original: Any) -> Model:
    """Random weights, biased so that objects are found on most frames."""
    return with_score_bias(make_pair(tiny_original, TINY).model, lambda bias: bias + 2.0)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    rng = np.random.default_rng(0)
    still = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return np.stack([np.roll(np.asarray(still), 2 * t, 1) for t in range(FRAMES)])


@pytest.fixture
def predictor(model: Model) -> VideoPredictor:
    return VideoPredictor(model)


@pytest.fixture
def state(predictor: VideoPredictor, frames: np.ndarray) -> Session:
    return predictor.init_state(frames)


def masks(predictor: VideoPredictor, state: Session, **kwargs: Any) -> dict[int, dict[int, np.ndarray]]:
    """{object: {frame: logits}} of one pass."""
    found: dict[int, dict[int, np.ndarray]] = {}
    for frame, ids, logits in predictor.propagate_in_video(state, **kwargs):
        assert logits.shape == (len(ids), 1, HEIGHT, WIDTH)
        for obj_id, mask in zip(ids, logits[:, 0], strict=True):
            found.setdefault(obj_id, {})[frame] = mask
    return found


def assert_same_tracks(got: dict[int, np.ndarray], want: dict[int, np.ndarray]) -> None:
    assert got.keys() == want.keys()
    for frame, mask in want.items():
        np.testing.assert_allclose(got[frame], mask, rtol=0, atol=1e-4, err_msg=f"frame {frame}")


def tracked_alone(
    predictor: VideoPredictor, frames: np.ndarray, frame: int, prompt: dict[str, Any]
) -> dict[int, np.ndarray]:
    state = predictor.init_state(frames)
    predictor.add_new_points_or_box(state, frame, 1, **prompt)
    return masks(predictor, state)[1]


def test_equals_track(predictor: VideoPredictor, state: Session, frames: np.ndarray, model: Model) -> None:
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    predictor.add_new_points_or_box(state, 0, 2, **BOX)
    found = masks(predictor, state)
    tracks = track(frames, Prompts.build([Prompt(**CLICK), Prompt(**BOX)]), model)
    want = np.asarray(resize_logits(tracks.logits, (HEIGHT, WIDTH)))
    assert (want != NO_OBJECT).any()
    for row, obj_id in enumerate((1, 2)):
        assert_same_tracks(found[obj_id], dict(enumerate(want[:, row])))


def test_objects_do_not_see_each_other(predictor: VideoPredictor, state: Session, frames: np.ndarray) -> None:
    """Prompted on different frames, an object tracks as if it were alone."""
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    predictor.add_new_points_or_box(state, 4, 2, **BOX)
    assert_same_tracks(masks(predictor, state)[1], tracked_alone(predictor, frames, 0, CLICK))
    later = masks(predictor, state, start_frame_idx=4)[2]
    want = tracked_alone(predictor, frames, 4, BOX)
    np.testing.assert_allclose(later[4], want[4], rtol=0, atol=1e-4)


def test_objects_come_and_go_without_compiling(
    predictor: VideoPredictor, state: Session, frames: np.ndarray, compilations: list[str]
) -> None:
    for obj_id, prompt in enumerate((CLICK, BOX, CLICK)):
        predictor.add_new_points_or_box(state, obj_id, obj_id, **prompt)
    masks(predictor, state)
    before = len(compilations)
    predictor.add_new_points_or_box(state, 3, 7, **BOX)
    assert masks(predictor, state, start_frame_idx=3).keys() == {0, 1, 2, 7}
    assert predictor.remove_object(state, 1)[0] == [0, 2, 7]
    predictor.add_new_points_or_box(state, np.int64(3), 9, **CLICK)
    longer = predictor.init_state(np.concatenate([frames, frames]))
    for obj_id in range(4):
        predictor.add_new_points_or_box(longer, 0, obj_id, **CLICK)
    assert len(masks(predictor, longer)[0]) == 2 * FRAMES
    assert len(compilations) == before


def test_taking_prompts_and_objects_away_compiles_nothing(
    predictor: VideoPredictor, state: Session, compilations: list[str]
) -> None:
    for frame, obj_id in ((0, 1), (3, 1), (5, 1), (0, 2), (0, 3)):
        predictor.add_new_points_or_box(state, frame, obj_id, **CLICK)
    masks(predictor, state, max_frame_num_to_track=1)
    before = len(compilations)
    # The shapes that fewer prompts and objects would need are in no other test.
    predictor.clear_all_prompts_in_frame(state, 3, 1)
    assert len(masks(predictor, state, max_frame_num_to_track=1)) == 3
    predictor.remove_object(state, 3)
    assert len(masks(predictor, state, max_frame_num_to_track=1)) == 2
    predictor.reset_state(state)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    assert len(masks(predictor, state, max_frame_num_to_track=1)) == 1
    assert len(compilations) == before


def test_correction_on_a_prompted_frame_stays(predictor: VideoPredictor, state: Session) -> None:
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    first = masks(predictor, state)[1]
    shown = predictor.add_new_points_or_box(state, 0, 1, points=[[60, 40]], labels=[0], clear_old_points=False)[2]
    second = masks(predictor, state)[1]
    np.testing.assert_array_equal(second[0], shown[0, 0])
    assert np.abs(second[0] - first[0]).max() > 0.1
    assert any(np.abs(second[t] - first[t]).max() > 1e-3 for t in range(1, FRAMES))


def test_correction_on_a_tracked_frame_stays(predictor: VideoPredictor, state: Session) -> None:
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    masks(predictor, state)
    shown = predictor.add_new_points_or_box(state, 5, 1, points=[[50, 30], [10, 10]], labels=[1, 0])[2]
    np.testing.assert_array_equal(masks(predictor, state)[1][5], shown[0, 0])
    np.testing.assert_array_equal(predictor.get_masks(state, 5)[2], shown)


def test_a_prompt_during_a_pass_waits_for_the_next(
    predictor: VideoPredictor, state: Session, frames: np.ndarray
) -> None:
    before = tracked_alone(predictor, frames, 0, CLICK)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    found, shown = {}, np.zeros(0)
    for frame, _, logits in predictor.propagate_in_video(state):
        found[frame] = logits[0, 0]
        if frame == 3:
            shown = predictor.add_new_points_or_box(state, 6, 1, **BOX)[2]
            predictor.add_new_points_or_box(state, 6, 2, **BOX)
    assert_same_tracks(found, before)
    assert np.abs(shown[0, 0] - before[6]).max() > 0.1
    np.testing.assert_array_equal(predictor.get_masks(state, 6)[2][0], shown[0])
    after = predictor.init_state(frames)
    predictor.add_new_points_or_box(after, 0, 1, **CLICK)
    predictor.add_new_points_or_box(after, 6, 1, **BOX)
    assert_same_tracks(masks(predictor, state)[1], masks(predictor, after)[1])


def test_a_prompt_taken_back_during_a_pass_is_gone(predictor: VideoPredictor, state: Session) -> None:
    for frame in (0, 6):
        predictor.add_new_points_or_box(state, frame, 1, **CLICK)
    for frame, *_ in predictor.propagate_in_video(state, max_frame_num_to_track=7):
        if frame == 1:
            predictor.clear_all_prompts_in_frame(state, 6, 1)
    assert state.objects[1].track_outputs.keys() == state.objects[1].visited.keys() - {0} == {1, 2, 3, 4, 5, 7}


def test_going_back_starts_at_the_last_prompt(predictor: VideoPredictor, state: Session) -> None:
    for frame in (2, 5):
        predictor.add_new_points_or_box(state, frame, 1, **CLICK)
    assert list(masks(predictor, state, reverse=True)[1]) == [5, 4, 3, 2, 1, 0]


def test_starting_in_the_middle_goes_on_from_what_is_known(predictor: VideoPredictor, state: Session) -> None:
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    whole = masks(predictor, state)[1]
    again = masks(predictor, state, start_frame_idx=8)[1]
    assert_same_tracks(again, {t: whole[t] for t in range(8, FRAMES)})


@pytest.mark.parametrize("keep", ["bits", "rle"])
def test_kept_as_signs(predictor: VideoPredictor, frames: np.ndarray, keep: Any) -> None:
    state = predictor.init_state(frames, keep=keep)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    list(predictor.propagate_in_video(state))
    logits = predictor.init_state(frames)
    predictor.add_new_points_or_box(logits, 0, 1, **CLICK)
    list(predictor.propagate_in_video(logits))
    for frame, found in logits.objects[1].track_outputs.items():
        kept = predictor.get_masks(state, frame)[2]
        assert set(np.unique(kept)) <= set(np.unique(np.clip(kept, -10, 10)))
        want = np.asarray(
            resize_logits(np.where(found.mask > 0, 10.0, -10.0).astype(np.float32)[None], (HEIGHT, WIDTH))
        )
        np.testing.assert_allclose(kept[0], want, atol=1e-5)


def test_keeping_nothing_bounds_what_is_held(predictor: VideoPredictor, frames: np.ndarray) -> None:
    long = np.concatenate([frames] * 4)
    state, full = predictor.init_state(long, keep="nothing"), predictor.init_state(long)
    for each in (state, full):
        predictor.add_new_points_or_box(each, 0, 1, **CLICK)
    found, want = masks(predictor, state)[1], masks(predictor, full)[1]
    assert_same_tracks(found, want)
    assert len(state.objects[1].track_outputs) <= TINY.pointers
    assert all(entry.mask is None for entry in state.objects[1].track_outputs.values())
    assert len(full.objects[1].track_outputs) == len(long) - 1
    last = len(long) - 1
    assert_same_tracks(masks(predictor, state, start_frame_idx=last)[1], {last: want[last]})


def test_no_overlap(model: Model, frames: np.ndarray) -> None:
    predictor = VideoPredictor(model, non_overlap_masks=True)
    state = predictor.init_state(frames)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    _, _, logits = predictor.add_new_points_or_box(state, 0, 2, points=[[32, 25]], labels=[1])
    assert ((logits > 0).sum(0) <= 1).all()
    assert (logits > 0).any((1, 2, 3)).all()


def test_holes_are_filled_in_what_is_shown_and_remembered(model: Model, frames: np.ndarray) -> None:
    plain, filled = (VideoPredictor(model, fill_hole_area=area) for area in (0, 10**6))
    shown = []
    for predictor in (plain, filled):
        state = predictor.init_state(frames)
        shown.append(predictor.add_new_points_or_box(state, 0, 1, **CLICK)[2])
        shown.append(state.objects[1].prompt_outputs[0].output.memory.tokens)
    assert (shown[0] <= 0).any()
    assert (shown[2] > 0).all()
    assert np.abs(shown[1] - shown[3]).max() > 1e-3


def test_tracked_masks_are_cleaned_and_remembered_as_they_came(model: Model, frames: np.ndarray) -> None:
    areas = 20, 30
    given = np.zeros((HEIGHT, WIDTH), bool)
    given[10:50, 20:60] = True
    hole = np.s_[26:33, 36:43]
    given[hole] = False
    plain, clean = VideoPredictor(model), VideoPredictor(model, fill_hole_area=areas[0], island_area=areas[1])
    shown, found, kept = [], [], []
    for predictor in (plain, clean):
        state = predictor.init_state(frames)
        shown.append(predictor.add_new_mask(state, 0, 1, given)[2][0, 0])
        found.append(masks(predictor, state, max_frame_num_to_track=4)[1])
        kept.append(np.stack([entry.mask for entry in state.objects[1].track_outputs.values()]))
    assert (shown[1][hole] <= 0).any()
    np.testing.assert_array_equal(found[1][0], shown[1])  # as it was given, with its hole
    filled = np.asarray(fill_holes(kept[0], areas[0]))
    want = np.asarray(remove_islands(filled, areas[1]))
    assert (filled != kept[0]).any()
    assert (want != filled).any()
    np.testing.assert_allclose(kept[1], want, rtol=0, atol=1e-4)
    for frame, mask in enumerate(resize_logits(want, (HEIGHT, WIDTH)), start=1):
        np.testing.assert_allclose(found[1][frame], mask, rtol=0, atol=1e-4, err_msg=f"frame {frame}")


def test_wrong_calls_on_objects(predictor: VideoPredictor, state: Session) -> None:
    with pytest.raises(PromptError, match="nothing to track"):
        predictor.propagate_in_video(state)
    predictor.add_new_points_or_box(state, 2, 1, **CLICK)
    with pytest.raises(PromptError, match="no object 5"):
        predictor.clear_all_prompts_in_frame(state, 2, 5)
    with pytest.raises(PromptError, match="no object 5"):
        predictor.remove_object(state, 5, strict=True)
    assert predictor.remove_object(state, 5) == ([1], [])
    for count in (-1, 1.5, "a", True):
        with pytest.raises(PromptError, match="max_frame_num_to_track is"):
            predictor.propagate_in_video(state, max_frame_num_to_track=count)  # pyright: ignore[reportArgumentType]
    predictor.clear_all_prompts_in_frame(state, 2, 1)
    with pytest.raises(PromptError, match="nothing to track"):
        predictor.propagate_in_video(state)
    with pytest.raises(PromptError, match="keep is"):
        predictor.init_state(np.zeros((1, 8, 8, 3), np.uint8), keep="everything")  # pyright: ignore[reportArgumentType]
    with pytest.raises(FrameError):
        predictor.init_state(np.zeros((0, 8, 8, 3), np.uint8))


def test_an_iterator_goes_forward_only(predictor: VideoPredictor, frames: np.ndarray) -> None:
    state = predictor.init_state(iter(frames))
    predictor.add_new_points_or_box(state, 2, 1, **CLICK)
    with pytest.raises(PromptError, match="iterator cannot be tracked backward"):
        predictor.propagate_in_video(state, reverse=True)
    assert masks(predictor, state, max_frame_num_to_track=1)[1].keys() == {2, 3}


def test_one_frame(predictor: VideoPredictor, frames: np.ndarray) -> None:
    state = predictor.init_state(frames[:1])
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    assert masks(predictor, state)[1].keys() == {0}
