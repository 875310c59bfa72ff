"""What the interactive predictor refuses before it computes anything, and that nothing changes then."""

from typing import Any

import numpy as np
import pytest

from edgetam_jax import VideoPredictor
from edgetam_jax.errors import CheckpointError, EdgeTAMError, PromptError
from edgetam_jax.model import Model
from edgetam_jax.tracking.session import Session
from tests.parity.pairs import make_pair
from tests.support.oracle import TINY

FRAMES, HEIGHT, WIDTH = 12, 60, 80
CLICK: dict[str, Any] = {"points": [[30, 25]], "labels": [1]}


@pytest.fixture(scope="module")
def model(tiny_original: Any) -> Model:
    return make_pair(tiny_original, TINY).model


@pytest.fixture
def predictor(model: Model) -> VideoPredictor:
    return VideoPredictor(model)


@pytest.fixture
def state(predictor: VideoPredictor) -> Session:
    return predictor.init_state(np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"frame_idx": FRAMES}, "no frame 12"),
    ({"frame_idx": -1}, "expected a frame number"),
    ({"obj_id": "cat"}, "expected an integer"),
    ({"points": [[30, 25]], "labels": None}, "go together"),
    ({"points": None, "labels": None}, "neither points nor a box"),
    ({"points": [[30, 25], [1, 2]], "labels": [1]}, "2 points and 1 labels"),
    ({"points": [], "labels": []}, "empty"),
    ({"labels": [2]}, "expected 1"),
    ({"points": [[80.5, 25]]}, "outside the frame"),
    ({"points": [[-1, 25]]}, "outside the frame"),
    ({"points": [[float("nan"), 25]]}, "not finite"),
    ({"points": [[0.4, 1.2]], "normalize_coords": False}, "outside the frame"),
    ({"box": [40, 20, 30, 55]}, "x0 < x1"),
    ({"box": [40, 20, 90, 55]}, "outside the frame"),
    ({"box": [40, 20, 70, 55], "clear_old_points": False}, "starts anew"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for _, message in WRONG])
def test_wrong_points_change_nothing(
    predictor: VideoPredictor, state: Session, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        predictor.add_new_points_or_box(state, **{"frame_idx": 0, "obj_id": 1, **CLICK, **change})
    assert not state.objects


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((HEIGHT, WIDTH + 1)), "the mask is"),
        (np.ones((1, HEIGHT, WIDTH)), "expected .height, width"),
        (np.zeros((0, 0)), "expected .height, width"),
        (np.zeros((HEIGHT, WIDTH)), "empty"),
        (np.full((HEIGHT, WIDTH), np.nan), "not finite"),
    ],
)
def test_wrong_masks_change_nothing(predictor: VideoPredictor, state: Session, mask: np.ndarray, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        predictor.add_new_mask(state, 0, 1, mask)
    assert not state.objects


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"preprocess": "x"}, "preprocess is 'x'"),
        ({"fill_hole_area": -1}, "fill_hole_area is -1"),
        ({"fill_hole_area": 1.5}, "fill_hole_area is 1.5"),
        ({"island_area": -2}, "island_area is -2"),
        ({"island_area": "8"}, "island_area is '8'"),
        ({"island_area": True}, "island_area is True"),
    ],
)
def test_wrong_settings(model: Model, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeTAMError, match=message):
        VideoPredictor(model, **setting)


def test_a_model_for_still_images_cannot_track(model: Model) -> None:
    still = Model({name: part for name, part in model.params.items() if name != "memory_attention"}, TINY)
    with pytest.raises(CheckpointError, match="still images only"):
        VideoPredictor(still)
