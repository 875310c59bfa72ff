"""`VideoPredictor` beside the original's predictor: the same calls on the same JPEG files, every return compared."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from edgetam_jax.errors import PromptError
from edgetam_jax.tracking.predictor import VideoPredictor
from edgetam_jax.tracking.session import Session
from tests.parity.pairs import Pair, with_score_bias
from tests.support.tolerances import NO_OBJECT, TRACKED_LOGITS_ATOL, assert_telling

FRAMES, HEIGHT, WIDTH = 20, 96, 128


def write_frames(folder: Path, count: int, height: int, width: int) -> Path:
    """A textured background, and two textured disks that move across it."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    ground = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)) // 2
    spots = rng.integers(100, 255, (2, height // 4, width // 4, 3)).repeat(4, 1).repeat(4, 2)
    y, x = np.mgrid[:height, :width]
    folder.mkdir()
    for t in range(count):
        frame = ground.copy()
        for texture, (cx, cy, radius) in zip(
            spots, ((0.3 + 0.015 * t, 0.4, 0.2), (0.7 - 0.01 * t, 0.6, 0.15)), strict=True
        ):
            disk = (x / width - cx) ** 2 + (y / height - cy) ** 2 < radius**2
            frame[disk] = np.roll(texture, 2 * t, 1)[disk]
        Image.fromarray(frame).save(folder / f"{t:05d}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frames(tmp_path_factory.mktemp("video") / "frames", FRAMES, HEIGHT, WIDTH)


class Both:
    """Two predictors on one video. Every method calls both and compares what they return."""

    def __init__(self, pair: Pair, folder: Path, soft_memory: bool = False) -> None:
        self.theirs, self.ours = pair.torch, VideoPredictor(pair.model, soft_memory=soft_memory)
        self.their_state = self.theirs.init_state(str(folder))
        self.state: Session = self.ours.init_state(folder)
        self.compared: list[np.ndarray] = []

    def click(self, *args: Any, **kwargs: Any) -> None:
        self._same(
            self.ours.add_new_points_or_box(self.state, *args, **kwargs),
            self.theirs.add_new_points_or_box(self.their_state, *args, **kwargs),
        )

    def mask(self, *args: Any) -> None:
        self._same(self.ours.add_new_mask(self.state, *args), self.theirs.add_new_mask(self.their_state, *args))

    def track(self, **kwargs: Any) -> list[int]:
        ours = list(self.ours.propagate_in_video(self.state, **kwargs))
        theirs = list(self.theirs.propagate_in_video(self.their_state, **kwargs))
        assert [frame for frame, *_ in ours] == [frame for frame, *_ in theirs]
        for got, want in zip(ours, theirs, strict=True):
            self._same(got, want)
        return [frame for frame, *_ in ours]

    def clear(self, *args: Any) -> None:
        self._same(
            self.ours.clear_all_prompts_in_frame(self.state, *args),
            self.theirs.clear_all_prompts_in_frame(self.their_state, *args),
            masks=False,
        )

    def remove(self, obj_id: int) -> None:
        assert self.ours.remove_object(self.state, obj_id)[0] == self.theirs.remove_object(self.their_state, obj_id)[0]

    def reset(self) -> None:
        self.ours.reset_state(self.state)
        self.theirs.reset_state(self.their_state)

    def _same(self, got: Any, want: Any, masks: bool = True) -> None:
        frame, ids, logits = got
        assert (frame, ids) == (want[0], list(want[1]))
        if masks:
            reference = want[2].numpy()
            assert logits.shape == reference.shape
            error = np.abs(logits - reference).max()
            assert error <= TRACKED_LOGITS_ATOL, f"frame {frame}: largest error {error:.3g}"
            self.compared.append(reference)

    def check_telling(self) -> None:
        """The references together: objects are present in most, and masks have both signs."""
        every = np.concatenate([x.reshape(-1, HEIGHT * WIDTH) for x in self.compared])
        present = every[~(every == NO_OBJECT).all(-1)]
        assert len(present) > len(every) / 3
        assert_telling("masks", present, both_signs=True)


@pytest.fixture(scope="module")
def pair(tiny_pair: Pair) -> Iterator[Pair]:
    """Object scores are shifted, so that objects are found on most frames and lost on some."""
    layer = tiny_pair.torch.sam_mask_decoder.pred_obj_score_head.layers[-1]
    before = layer.bias.clone()
    layer.bias.add_(2.5)
    yield Pair(tiny_pair.torch, with_score_bias(tiny_pair.model, lambda _: layer.bias.numpy().copy()))
    layer.bias.copy_(before)


@pytest.fixture
def both(pair: Pair, folder: Path) -> Both:
    return Both(pair, folder)


def disk(cx: float, cy: float, radius: float) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (x - cx) ** 2 + (y - cy) ** 2 < radius**2


def one_click(both: Both) -> None:
    both.click(0, 1, points=[[40, 40]], labels=[1])
    assert both.track() == list(range(FRAMES))


def box(both: Both) -> None:
    both.click(0, 1, box=[20, 15, 70, 60])
    both.track(max_frame_num_to_track=3)


def several_clicks(both: Both) -> None:
    both.click(0, 1, points=[[40, 40], [80, 50], [10, 80]], labels=[1, 0, 0])
    both.track(max_frame_num_to_track=3)


def box_and_click(both: Both) -> None:
    both.click(0, 1, points=[[40, 40]], labels=[1], box=[20, 15, 70, 60])
    both.track(max_frame_num_to_track=2)


def relative_coordinates(both: Both) -> None:
    both.click(0, 1, points=[[0.3, 0.4]], labels=[1], normalize_coords=False)
    both.track(max_frame_num_to_track=1)


def mask_prompt(both: Both) -> None:
    both.mask(0, 1, disk(40, 40, 20))
    both.track(max_frame_num_to_track=4)


def correcting_click(both: Both) -> None:
    both.click(0, 1, points=[[40, 40]], labels=[1])
    both.click(0, 1, points=[[60, 60]], labels=[0], clear_old_points=False)
    both.click(0, 1, points=[[30, 30], [90, 60]], labels=[1, 0])
    both.track(max_frame_num_to_track=3)


def click_after_mask(both: Both) -> None:
    both.mask(0, 1, disk(40, 40, 20))
    both.click(0, 1, points=[[60, 60]], labels=[1])
    both.track(max_frame_num_to_track=2)


def two_frames(both: Both) -> None:
    both.click(0, 1, points=[[40, 40]], labels=[1])
    both.click(6, 1, box=[30, 15, 80, 60])
    both.track(max_frame_num_to_track=9)


def two_objects(both: Both) -> None:
    both.click(0, 1, points=[[40, 40]], labels=[1])
    both.click(0, 7, box=[70, 40, 110, 80])
    both.track(max_frame_num_to_track=8)


def three_objects(both: Both) -> None:
    both.click(2, 3, points=[[40, 40]], labels=[1])
    both.mask(2, 1, disk(80, 50, 15))
    both.click(2, 2, box=[70, 40, 110, 80])
    both.track(max_frame_num_to_track=3)


def backward(both: Both) -> None:
    both.click(12, 1, points=[[60, 40]], labels=[1])
    assert both.track(reverse=True) == list(range(12, -1, -1))


def both_directions(both: Both) -> None:
    both.click(8, 1, box=[40, 15, 90, 60])
    both.track()
    both.track(reverse=True, start_frame_idx=8)


def start_before_the_prompt(both: Both) -> None:
    both.click(4, 1, points=[[40, 40]], labels=[1])
    both.track(start_frame_idx=0, max_frame_num_to_track=8)


def start_after_the_prompt(both: Both) -> None:
    both.click(0, 1, points=[[40, 40]], labels=[1])
    both.track(max_frame_num_to_track=9)
    both.track(start_frame_idx=8, max_frame_num_to_track=5)


def correct_a_tracked_frame(both: Both) -> None:
    both.click(0, 1, points=[[40, 40]], labels=[1])
    both.track(max_frame_num_to_track=8)
    both.click(5, 1, points=[[50, 45], [90, 60]], labels=[1, 0])
    both.track(max_frame_num_to_track=9)


def correct_on_the_way_back(both: Both) -> None:
    both.click(12, 1, points=[[60, 40]], labels=[1])
    both.track(reverse=True, max_frame_num_to_track=8)
    both.click(8, 1, points=[[50, 45], [90, 60]], labels=[1, 0])
    both.track(reverse=True, max_frame_num_to_track=8)


def clear_prompts(both: Both) -> None:
    both.click(0, 1, points=[[40, 40]], labels=[1])
    both.click(5, 1, points=[[50, 45]], labels=[1])
    both.track(max_frame_num_to_track=7)
    both.clear(5, 1)
    both.track(max_frame_num_to_track=7)


def remove_an_object(both: Both) -> None:
    both.click(0, 1, points=[[40, 40]], labels=[1])
    both.click(0, 2, box=[70, 40, 110, 80])
    both.track(max_frame_num_to_track=3)
    both.remove(1)
    both.track(max_frame_num_to_track=3)


def reset(both: Both) -> None:
    both.click(0, 1, points=[[100, 80]], labels=[1])
    both.track(max_frame_num_to_track=2)
    both.reset()
    both.click(1, 4, points=[[40, 40]], labels=[1])
    both.track(max_frame_num_to_track=3)


SESSIONS: list[Callable[[Both], None]] = [
    one_click,
    box,
    several_clicks,
    box_and_click,
    relative_coordinates,
    mask_prompt,
    correcting_click,
    click_after_mask,
    two_frames,
    two_objects,
    three_objects,
    backward,
    both_directions,
    start_before_the_prompt,
    start_after_the_prompt,
    correct_a_tracked_frame,
    correct_on_the_way_back,
    clear_prompts,
    remove_an_object,
    reset,
]


def test_correction_of_a_prompted_frame(both: Both) -> None:
    """The original forgets it when it tracks again, unless all corrections stay for good; here this one does."""
    both.click(0, 1, points=[[40, 40]], labels=[1])
    both.track(max_frame_num_to_track=3)
    with mock.patch.object(both.theirs, "add_all_frames_to_correct_as_cond", True):
        both.click(0, 1, points=[[60, 60]], labels=[0], clear_old_points=False)
    both.track(max_frame_num_to_track=3)
    both.check_telling()


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.__name__)
def test_session(both: Both, session: Callable[[Both], None]) -> None:
    session(both)
    both.check_telling()


def test_soft_memory(pair: Pair, folder: Path) -> None:
    """As the original runs where it is evaluated: prompted masks are not cut before they are remembered."""
    both = Both(pair, folder, soft_memory=True)
    with mock.patch.object(both.theirs, "binarize_mask_from_pts_for_mem_enc", False):
        both.mask(0, 1, disk(40, 40, 20))
        both.click(0, 7, points=[[80, 60]], labels=[1])
        both.track(max_frame_num_to_track=3)
    both.check_telling()
    cut = VideoPredictor(pair.model)
    state = cut.init_state(folder)
    cut.add_new_mask(state, 0, 1, disk(40, 40, 20))
    cut.add_new_points_or_box(state, 0, 7, points=[[80, 60]], labels=[1])
    others = [logits for *_, logits in cut.propagate_in_video(state, max_frame_num_to_track=3)]
    for object_index in (0, 1):  # each of them is another otherwise
        apart = [np.abs(a - b)[object_index].max() for a, b in zip(others, both.compared[-4:], strict=True)]
        assert apart[0] <= TRACKED_LOGITS_ATOL and max(apart) > 5 * TRACKED_LOGITS_ATOL


def test_no_further_frames(both: Both) -> None:
    both.click(0, 1, points=[[40, 40]], labels=[1])
    assert both.track(max_frame_num_to_track=0) == [0]
    assert both.track(reverse=True) == []
    with pytest.raises(PromptError, match="no frame 20"):
        both.ours.propagate_in_video(both.state, start_frame_idx=FRAMES)
