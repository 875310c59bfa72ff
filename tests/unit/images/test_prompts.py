"""Prompts on still images: their arrays, and the errors for wrong ones."""

from typing import Any

import jax
import numpy as np
import pytest

from edgetam_jax import ImagePrompts, Prompt
from edgetam_jax.errors import PromptError
from edgetam_jax.images.prompts import prompts_from_arrays

NAN = float("nan")
SIDE = 4
SIZE = 60, 80
LOGITS = np.linspace(-9, 9, SIDE**2).reshape(SIDE, SIDE)
BOX = [8, 6, 40, 30]
CLICK: dict[str, Any] = {"points": [[20, 15]], "labels": [1]}


def test_layout() -> None:
    prompts = ImagePrompts.build(
        [
            [Prompt(**CLICK), Prompt(mask=LOGITS), Prompt(points=[[80, 60], [0, 0]], labels=[0, 1], box=BOX)],
            [Prompt(box=BOX, mask=LOGITS)],
        ],
        [SIZE, (30, 40)],
    )
    assert prompts.valid.tolist() == [[True, True, True, False], [True, False, False, False]]
    assert prompts.has_mask.tolist() == [[False, True, False, False], [True, False, False, False]]
    closed, none = [-1] + 6 * [-2], 8 * [-2]
    assert prompts.labels.tolist() == [
        [[1, *closed], none, [2, 3, 0, 1, -1, -2, -2, -2], none],
        [[2, 3, *closed[:-1]], none, none, none],
    ]
    assert (
        prompts.points[0, 2, :5].tolist()
        == np.array([[8 / 80, 0.1], [0.5, 0.5], [1, 1], [0, 0], [0, 0]], "f4").tolist()
    )
    assert prompts.points[1, 0, 1].tolist() == [1, 1]
    np.testing.assert_array_equal(prompts.masks[0, 1], LOGITS.astype(np.float32))
    assert not prompts.masks[0, 0].any()
    assert all(isinstance(leaf, jax.Array) for leaf in prompts)


def test_one_image_has_no_axis() -> None:
    prompts = ImagePrompts.build([Prompt(**CLICK)] * 3, SIZE)
    assert prompts.valid.tolist() == [True, True, True, False]
    assert prompts.masks.shape == (4, 0, 0)


def test_one_size_for_all_images() -> None:
    prompts = ImagePrompts.build([[Prompt(**CLICK)], [], [Prompt(**CLICK)]], SIZE)
    assert prompts.valid.tolist() == [[True], [False], [True]]


def test_shares() -> None:
    relative = ImagePrompts.build([Prompt(points=[[0.25, 0.25]], labels=[1])])
    np.testing.assert_array_equal(relative.points, ImagePrompts.build([Prompt(**CLICK)], SIZE).points)


@pytest.mark.parametrize(
    ("prompts", "size", "message"),
    [
        ([], SIZE, "no prompt"),
        ([[], []], SIZE, "no prompt"),
        ([Prompt()], SIZE, "prompt 0: it holds neither"),
        ([Prompt(**CLICK), {"points": 1}], SIZE, "image 0, a Prompt where a list"),
        ([[Prompt(**CLICK)], [CLICK]], SIZE, "image 1, prompt 0 is a dict"),
        ([Prompt(**CLICK, frame=1)], SIZE, "for videos"),
        ([Prompt(**CLICK, obj_id=1)], SIZE, "for videos"),
        ([Prompt(points=[[81, 0]], labels=[1])], SIZE, "lies outside"),
        ([Prompt(box=[0, 0, 40, 61])], SIZE, "lies outside"),
        ([Prompt(**CLICK)], None, "from 0 to 1"),
        ([Prompt(box=[30, 0, 20, 9])], SIZE, "x0 < x1"),
        ([Prompt(points=[[1, 1]], labels=[2])], SIZE, "labels are"),
        ([Prompt(points=[[1, NAN]], labels=[1])], SIZE, "not finite"),
        ([Prompt(mask=LOGITS[0])], SIZE, r"shape \(4,\)"),
        ([Prompt(mask=NAN * LOGITS)], SIZE, "not finite"),
        ([Prompt(mask="a")], SIZE, "cannot be read"),
        ([Prompt(mask=LOGITS, labels=[1])], SIZE, "one of them is missing"),
        ([Prompt(mask=LOGITS), Prompt(mask=LOGITS[1:])], SIZE, "different sizes"),
        ([[Prompt(**CLICK)]], [SIZE, SIZE], "about 1 images, and 2 sizes"),
        ([Prompt(**CLICK)], (60, 80, 3), r"\(height, width\)"),
        ([Prompt(**CLICK)], (0, 80), r"\(height, width\)"),
    ],
)
def test_wrong_prompts(prompts: Any, size: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        ImagePrompts.build(prompts, size)


POINTS, LABELS = np.ones((2, 3, 2)), np.ones((2, 3))
MASK = LOGITS[None]


@pytest.mark.parametrize(
    ("arrays", "count"),
    [
        ({"points": POINTS[0], "labels": LABELS[0]}, 1),
        ({"points": POINTS, "labels": LABELS}, 2),
        ({"points": POINTS, "labels": LABELS, "boxes": [BOX, BOX]}, 2),
        ({"points": POINTS[0], "labels": LABELS[0], "boxes": BOX}, 1),
        ({"boxes": [BOX] * 3}, 3),
        ({"boxes": np.array([[BOX]] * 3)}, 3),
        ({"masks": MASK}, 1),
        ({"masks": [MASK] * 3}, 3),
        ({"points": POINTS, "labels": LABELS, "masks": MASK}, 2),
        ({"points": POINTS[0], "labels": LABELS[0], "masks": [MASK] * 3}, 3),
    ],
)
def test_arrays(arrays: dict[str, Any], count: int) -> None:
    prompts = prompts_from_arrays(*(arrays.get(name) for name in ("points", "labels", "boxes", "masks")), SIDE)
    assert len(prompts) == count
    for prompt in prompts:
        fields = (("points", prompt.points, (3, 2)), ("boxes", prompt.box, (4,)), ("masks", prompt.mask, (SIDE, SIDE)))
        for name, value, shape in fields:
            assert (None if value is None else np.shape(value)) == (shape if name in arrays else None)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no prompt"),
        ({"points": np.ones((0, 3, 2)), "labels": np.ones((0, 3))}, "no prompt"),
        ({"points": POINTS}, "go together"),
        ({"labels": LABELS}, "go together"),
        ({"points": [1, 1], "labels": [1]}, r"point_coords has shape \(2,\)"),
        ({"points": np.ones((2, 3)), "labels": LABELS[0]}, r"point_coords has shape \(2, 3\)"),
        ({"points": [[1, 1], [1]], "labels": [1, 1]}, "point_coords cannot be read"),
        ({"points": POINTS, "labels": LABELS[0]}, r"point_labels has shape \(3,\)"),
        ({"boxes": [1, 2, 3]}, r"box has shape \(3,\)"),
        ({"points": POINTS[0], "labels": LABELS[0], "boxes": [BOX, BOX]}, "2 boxes, and points for 1"),
        ({"masks": LOGITS}, r"mask_input has shape \(4, 4\)"),
        ({"masks": MASK[:, 1:]}, r"expected logits \[1, 4, 4\]"),
        ({"masks": np.repeat(MASK, 3, 0)}, r"mask_input has shape \(3, 4, 4\)"),
        ({"points": POINTS, "labels": LABELS, "masks": [MASK] * 3}, "numbers of prompts differ"),
    ],
)
def test_wrong_arrays(arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        prompts_from_arrays(*(arrays.get(name) for name in ("points", "labels", "boxes", "masks")), SIDE)
