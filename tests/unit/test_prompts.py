"""Prompts: how they are laid out, and what is said about wrong ones."""

from typing import Any

import jax
import numpy as np
import pytest

from edgetam_jax.config import Config
from edgetam_jax.errors import EdgeTAMError, FrameError, PromptError
from edgetam_jax.model import Model
from edgetam_jax.prompts import Prompt, Prompts, bucket, check_against_video, closed
from edgetam_jax.tracking.scan import track
from edgetam_jax.types import Label

NAN = float("nan")
HEIGHT, WIDTH = 6, 8
MASK = np.eye(HEIGHT, WIDTH)


def test_layout() -> None:
    prompts = Prompts.build(
        [
            Prompt(points=[[1, 2], [3, 4], [5, 5]], labels=[1, 0, 1], box=[0, 1, 7, 5], frame=4, obj_id=7),
            Prompt(mask=MASK, frame=2, obj_id=9),
            Prompt(points=[1, 2], labels=[0], frame=0, obj_id=7),
        ]
    )
    assert prompts.obj_ids.tolist() == [7, 9]
    assert prompts.frames.tolist() == [[4, 0], [2, 0]]
    assert prompts.valid.tolist() == [[True, True], [True, False]]
    assert prompts.is_mask.tolist() == [[False, False], [True, False]]
    assert prompts.labels.tolist() == [
        [[2, 3, 1, 0, 1, -1, -2, -2], [0, -1, -2, -2, -2, -2, -2, -2]],
        [[-1, -2, -2, -2, -2, -2, -2, -2], [-2] * 8],
    ]
    assert prompts.points[0, 0, :6].tolist() == [[0, 1], [7, 5], [1, 2], [3, 4], [5, 5], [0, 0]]
    np.testing.assert_array_equal(prompts.masks[1, 0], MASK > 0)
    assert prompts.masks.shape == (2, 2, HEIGHT, WIDTH) and int(prompts.masks.sum()) == HEIGHT
    assert all(isinstance(leaf, jax.Array) for leaf in prompts)


def test_without_masks_there_is_no_room_for_them() -> None:
    assert Prompts.build([Prompt(box=[0, 0, 1, 1])]).masks.shape == (1, 1, 0, 0)


def test_objects_without_a_name_are_each_their_own() -> None:
    prompts = Prompts.build([Prompt(box=[0, 0, 1, 1], obj_id=i) for i in (None, 4, None)])
    assert prompts.obj_ids.tolist() == [5, 4, 6]


def test_empty_rows() -> None:
    prompts = Prompts.build([Prompt(box=[0, 0, 1, 1], obj_id=4)], num_objects=3)
    assert prompts.obj_ids.tolist() == [4, 0, 1]
    assert prompts.valid.tolist() == [[True], [False], [False]]


def test_rows_of_a_running_state() -> None:
    prompts = Prompts.build([Prompt(box=[0, 0, 1, 1], obj_id=i) for i in (2, 9)], obj_ids=(9, 5, 2))
    assert prompts.obj_ids.tolist() == [9, 5, 2]
    assert prompts.valid.tolist() == [[True], [False], [True]]


def test_points_are_closed_and_filled_up() -> None:
    points, labels = closed(np.ones((2, 2), np.float32), np.array([1, 0], np.int32), 5)
    assert points.shape == (5, 2)
    assert labels.tolist() == [Label.POSITIVE, Label.NEGATIVE, Label.NOT_A_POINT, Label.ABSENT, Label.ABSENT]


@pytest.mark.parametrize(("count", "room"), [(1, 4), (4, 4), (5, 8), (8, 8), (9, 16)])
def test_bucket(count: int, room: int) -> None:
    assert bucket(count) == room


BOX = [0, 0, 5, 5]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "neither points nor a box nor a mask"),
        ({"points": [[1, 1]]}, "points and labels go together"),
        ({"labels": [1]}, "points and labels go together"),
        ({"points": [[1, 1]], "labels": [1, 1]}, "1 points and 2 labels"),
        ({"points": [], "labels": []}, "list of points is empty"),
        ({"points": [[1, 1]], "labels": [2]}, "labels are .*expected 1"),
        ({"points": [[1, 1]], "labels": [-1]}, "labels are"),
        ({"points": [[1, 1]], "labels": [0.5]}, "labels are"),
        ({"points": [[1, 1]], "labels": [NAN]}, "not finite"),
        ({"points": [[1, NAN]], "labels": [1]}, "not finite"),
        ({"points": [[1, float("inf")]], "labels": [1]}, "not finite"),
        ({"points": [[1, 2, 3]], "labels": [1]}, "shape"),
        ({"points": [[1, 2, 3, 4]], "labels": [1, 1]}, "shape"),
        ({"points": [["a", "b"]], "labels": [1]}, "cannot be read as numbers"),
        ({"points": [[1, 2], [3]], "labels": [1, 1]}, "cannot be read as numbers"),
        ({"box": [5, 0, 1, 5]}, "x0 < x1"),
        ({"box": [0, 5, 5, 1]}, "x0 < x1"),
        ({"box": [2, 2, 2, 5]}, "x0 < x1"),
        ({"box": [0, 0, 5]}, "x0 < x1"),
        ({"box": [0, 0, 5, NAN]}, "not finite"),
        ({"mask": np.zeros((0, 4))}, "shape"),
        ({"mask": np.zeros((1, 4, 4))}, "shape"),
        ({"mask": np.zeros((4, 4))}, "empty"),
        ({"mask": np.full((4, 4), NAN)}, "not finite"),
        ({"mask": MASK, "box": BOX}, "a mask replaces points and boxes"),
        ({"mask": MASK, "points": [[1, 1]], "labels": [1]}, "a mask replaces points and boxes"),
        ({"box": BOX, "frame": -1}, "frame is -1"),
        ({"box": BOX, "frame": 1.5}, "frame is 1.5"),
        ({"box": BOX, "frame": True}, "frame is True"),
        ({"box": BOX, "obj_id": "dog"}, "obj_id is 'dog'"),
        ({"box": BOX, "obj_id": True}, "obj_id is True"),
        ({"box": BOX, "obj_id": 1 << 40}, "obj_id is"),
    ],
)
def test_wrong_prompts(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=f"prompt 1: .*{message}"):
        Prompts.build([Prompt(box=BOX, obj_id=3), Prompt(**fields)])


@pytest.mark.parametrize(
    ("prompts", "rows", "message"),
    [
        ([], {}, "there is no prompt"),
        ([Prompt(box=BOX, obj_id=1), Prompt(mask=MASK, obj_id=1)], {}, "prompt 1: object 1 has a prompt on frame 0"),
        ([Prompt(mask=MASK), Prompt(mask=MASK.T)], {}, "different sizes"),
        ([Prompt(box=BOX), Prompt(box=BOX)], {"num_objects": 1}, "2 objects, more than num_objects=1"),
        ([Prompt(box=BOX, obj_id=3)], {"obj_ids": [1, 2]}, r"objects \[3\]"),
        ([Prompt(box=BOX)], {"obj_ids": [1, 2]}, r"objects \[None\]"),
        ([Prompt(box=BOX, obj_id=1)], {"obj_ids": [1, 1]}, "each once"),
    ],
)
def test_prompts_that_do_not_go_together(prompts: list[Prompt], rows: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Prompts.build(prompts, **rows)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(box=BOX, frame=3), "frame 3: there is no such frame; the video has 3"),
        (Prompt(points=[[8.5, 1]], labels=[1]), "lies outside the frame of 8x6"),
        (Prompt(points=[[1, -0.1]], labels=[0]), "lies outside"),
        (Prompt(points=[[7, 7]], labels=[0]), "lies outside"),
        (Prompt(box=[1, 1, 9, 5]), "lies outside"),
        (Prompt(mask=np.ones((8, 6))), r"the mask is \(8, 6\), the frames are \(6, 8\)"),
    ],
)
def test_prompts_that_do_not_fit_the_video(prompt: Prompt, message: str) -> None:
    """Said before anything is computed: the model here could not compute."""
    prompts = Prompts.build([Prompt(box=[0, 0, 1, 1], frame=1), prompt])
    with pytest.raises(PromptError, match=message):
        track(np.zeros((3, HEIGHT, WIDTH, 3), np.uint8), prompts, Model({"memory_attention": {}}, Config()))
    with pytest.raises(ValueError, match=message):
        check_against_video(prompts, 3, (HEIGHT, WIDTH))


def test_prompts_on_the_edge_fit() -> None:
    prompts = Prompts.build([Prompt(points=[[WIDTH, HEIGHT], [0, 0]], labels=[1, 0], frame=2)])
    check_against_video(prompts, 3, (HEIGHT, WIDTH))


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((0, 6, 8, 3), np.uint8),
        np.zeros((2, 0, 8, 3), np.uint8),
        np.zeros((2, 6, 8), np.uint8),
        np.zeros((2, 3, 6, 8), np.uint8),
        np.zeros((2, 6, 8, 2), np.uint8),
        np.full((2, 6, 8, 3), NAN),
        np.full((2, 6, 8, 3), 300),
        [np.zeros((6, 8, 3), np.uint8), np.zeros((6, 9, 3), np.uint8)],
        [],
        "a.mp4",
    ],
)
def test_wrong_frames(frames: Any) -> None:
    with pytest.raises(FrameError):
        track(frames, Prompts.build([Prompt(box=[0, 0, 1, 1])]), Model({"memory_attention": {}}, Config()))
    assert issubclass(FrameError, EdgeTAMError)


def test_only_prompts_can_be_laid_out() -> None:
    with pytest.raises(PromptError, match="prompt 0 is a dict"):
        Prompts.build([{"box": BOX}])  # pyright: ignore[reportArgumentType]
