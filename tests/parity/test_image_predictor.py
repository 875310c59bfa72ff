"""`ImagePredictor` beside the original's: the same calls on the same images, every return compared.

The full size runs on drawings. With EDGETAM_MEDIA, a folder with truck.jpg and groceries.jpg, it runs on those.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from sam2.sam2_image_predictor import SAM2ImagePredictor
from scipy import ndimage

from edgetam_jax.images.predictor import ImagePredictor
from tests.parity.pairs import Pair, normal
from tests.support.tolerances import IOU_ATOL, MASK_LOGITS_ATOL, assert_close, assert_telling

Predict = dict[str, Any]


def drawing(width: int, height: int, seed: int) -> np.ndarray:
    """Blurred noise, and a few shapes with sharp edges."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for kind in (draw.ellipse, draw.rectangle, draw.ellipse, draw.rectangle):
        x, y = rng.uniform(0, 0.7, 2) * (width, height)
        colour = tuple(rng.integers(0, 255, 3).tolist())
        kind((x, y, x + rng.uniform(0.1, 0.3) * width, y + rng.uniform(0.1, 0.3) * height), fill=colour)
    grain = rng.normal(0, 8, (height, width, 3))
    smooth = np.asarray(image.filter(ImageFilter.GaussianBlur(0.5)), float)
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def photograph(name: str, width: int, height: int) -> np.ndarray:
    if folder := os.environ.get("EDGETAM_MEDIA"):
        return np.array(Image.open(Path(folder) / name).convert("RGB"))
    return drawing(width, height, seed=len(name))


def original_predictor(pair: Pair, **options: float) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        predictor = SAM2ImagePredictor(pair.torch, **options)
    size = pair.model.config.embedding_size
    predictor._bb_feat_sizes = [(scale * size, scale * size) for scale in (4, 2, 1)]  # fixed for 1024 in the original
    return predictor


class Both:
    """Two predictors. Every method calls both and compares what they return."""

    def __init__(self, pair: Pair, **options: float) -> None:
        self.theirs, self.ours = original_predictor(pair, **options), ImagePredictor(pair.model, **options)
        self.errors = {"logits": 0.0, "ious": 0.0}

    def set(self, image: Any) -> None:
        self.theirs.set_image(image)
        self.ours.set_image(image)

    def set_batch(self, images: list[np.ndarray]) -> None:
        self.theirs.set_image_batch(images)
        self.ours.set_image_batch(images)

    def embedding(self) -> None:
        got, want = self.ours.get_image_embedding(), self.theirs.get_image_embedding().numpy()
        assert_close("embedding", got, want, both_signs=True)

    def predict(self, **prompt: Any) -> tuple[np.ndarray, ...]:
        return self._same(self.ours.predict(**prompt), self.theirs.predict(**_arrays(prompt)), prompt)

    def predict_batch(self, **prompts: Any) -> None:
        theirs = {n: [None if x is None else np.array(x) for x in p] for n, p in prompts.items() if n.endswith("batch")}
        ours, theirs = self.ours.predict_batch(**prompts), self.theirs.predict_batch(**{**prompts, **theirs})
        for got, want in zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True):
            self._same(got, want, prompts)

    def _same(self, got: Sequence[np.ndarray], want: Sequence[np.ndarray], prompt: Predict) -> tuple[np.ndarray, ...]:
        """Returns the original's masks, estimates and logits."""
        assert [x.dtype for x in got] == [x.dtype for x in want]
        masks, ious, logits = want
        self._note("logits", got[2], logits, MASK_LOGITS_ATOL)
        assert_telling("logits", logits, both_signs=True)
        assert got[1].shape == ious.shape
        self._note("ious", got[1], ious, IOU_ATOL)
        assert got[0].shape == masks.shape
        if prompt.get("return_logits"):
            self._note("logits", got[0], masks, MASK_LOGITS_ATOL)
        else:
            assert (got[0] != masks).mean() < 1e-4  # pixels whose logits round to either side of the threshold
        return masks, ious, logits

    def _note(self, name: str, got: np.ndarray, want: np.ndarray, atol: float) -> None:
        assert got.shape == want.shape
        error = float(np.abs(got - want).max())
        assert error <= atol, f"{name}: largest error {error:.3g} exceeds {atol:.3g}"
        self.errors[name] = max(self.errors[name], error)


def _arrays(prompt: Predict) -> Predict:
    return {name: np.array(value) if isinstance(value, list) else value for name, value in prompt.items()}


WIDTH, HEIGHT = 80, 60
PHOTO = drawing(WIDTH, HEIGHT, 0)
CLICK: Predict = {"point_coords": [[30, 25]], "point_labels": [1]}
CLICKS: Predict = {"point_coords": [[30, 25], [60, 10], [12, 40], [79, 59]], "point_labels": [1, 0, 1, 0]}
BOX: Predict = {"box": [10, 12, 55, 50]}
BOXES = [[10, 12, 55, 50], [40, 5, 80, 60]]
PROMPTS: dict[str, Predict] = {
    "click": CLICK,
    "negative click": {**CLICK, "point_labels": [0]},
    "clicks": CLICKS,
    "box": BOX,
    "box with an axis": {"box": [BOX["box"]]},
    "box and click": {**CLICK, **BOX},
    "box and clicks": {**CLICKS, **BOX},
    "mask": {"mask_input": 8 * normal(0, 1, 32, 32)},
    "click and mask": {**CLICK, "mask_input": 8 * normal(1, 1, 32, 32)},
    "shares": {"point_coords": [[0.3, 0.7]], "point_labels": [1], "normalize_coords": False},
    "clicks at once": {"point_coords": [[[30, 25], [9, 9]], [[60, 50], [2, 2]]], "point_labels": [[1, 0], [1, 1]]},
    "boxes at once": {"box": BOXES},
    "boxes and clicks at once": {
        "box": BOXES,
        "point_coords": [[[30, 25]], [[60, 50]]],
        "point_labels": [[1], [0]],
    },
    "one mask for all": {"box": BOXES, "mask_input": 8 * normal(2, 1, 32, 32)},
    "a mask each": {"box": BOXES, "mask_input": 8 * normal(3, 2, 1, 32, 32)},
    "many clicks": {"point_coords": np.random.default_rng(0).uniform(0, 60, (10, 2)), "point_labels": [1, 0] * 5},
}


@pytest.fixture(scope="module")
def tiny(tiny_pair: Pair) -> Both:
    both = Both(tiny_pair)
    both.set(PHOTO)
    return both


@pytest.mark.parametrize("multimask", [True, False], ids=["three masks", "one mask"])
@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(tiny: Both, name: str, multimask: bool) -> None:
    tiny.predict(**PROMPTS[name], multimask_output=multimask, return_logits=True)
    tiny.predict(**PROMPTS[name], multimask_output=multimask)


def test_single_masks_are_kept_and_replaced(tiny: Both) -> None:
    """Else the cases above would see one side of the fallback to the alternatives."""
    replaced = []
    for prompt in map(_arrays, PROMPTS.values()):
        alternatives, single = (tiny.theirs.predict(**prompt, multimask_output=m)[1] for m in (True, False))
        replaced.append(np.ravel(single[..., 0] == alternatives.max(-1)))
    assert 0 < np.concatenate(replaced).mean() < 1


def test_refinement(tiny: Both) -> None:
    _, ious, logits = tiny.predict(**CLICK)
    assert (np.abs(logits) == 32).any()  # clamped
    for count in (2, 3, 4):
        clicks = {name: values[:count] for name, values in CLICKS.items()}
        *_, logits = tiny.predict(**clicks, mask_input=logits[[ious.argmax()]], multimask_output=False)
        ious = np.zeros(1)


def test_images(tiny_pair: Pair) -> None:
    """Shapes that shrink and grow to the network's, and a PIL image."""
    both = Both(tiny_pair)
    for image in (drawing(300, 64, 1), drawing(40, 200, 2), Image.fromarray(drawing(64, 64, 3)), drawing(128, 128, 4)):
        both.set(image)
        both.embedding()
        both.predict(box=[5, 5, 30, 40], return_logits=True)


def test_a_batch(tiny_pair: Pair) -> None:
    both = Both(tiny_pair)
    both.set_batch([PHOTO, drawing(60, 90, 1), drawing(80, 60, 2)])
    both.embedding()
    both.predict_batch(
        point_coords_batch=[CLICK["point_coords"], None, CLICKS["point_coords"]],
        point_labels_batch=[CLICK["point_labels"], None, CLICKS["point_labels"]],
        box_batch=[None, [[5, 5, 30, 40], [20, 30, 60, 90]], BOX["box"]],
        return_logits=True,
    )
    both.predict_batch(
        mask_input_batch=[8 * normal(seed, 1, 32, 32) for seed in range(3)],
        box_batch=[[0.1, 0.2, 0.6, 0.7]] * 3,
        multimask_output=False,
        normalize_coords=False,
    )


def components(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and areas of 8-connected components [N, 1, H, W], in place of the original's CUDA kernel."""
    labels, areas = np.zeros(mask.shape, np.int32), np.zeros(mask.shape, np.int32)
    for index, image in enumerate(mask[:, 0].numpy()):
        labels[index, 0], _ = ndimage.label(image, np.ones((3, 3)))
        sizes = np.bincount(labels[index].ravel())
        sizes[0] = 0
        areas[index, 0] = sizes[labels[index, 0]]
    return torch.from_numpy(labels), torch.from_numpy(areas)


@pytest.mark.parametrize(
    "options",
    [{"max_hole_area": 6}, {"max_hole_area": 3.5, "max_sprinkle_area": 8.0, "mask_threshold": 1.5}],
)
def test_holes_and_sprinkles(tiny: Both, tiny_pair: Pair, options: dict[str, float], monkeypatch: Any) -> None:
    monkeypatch.setattr("sam2.utils.misc.get_connected_components", components)
    both = Both(tiny_pair, **options)
    both.set(PHOTO)
    for prompt in (CLICK, PROMPTS["boxes at once"]):
        cleaned = both.predict(**prompt, return_logits=True)
        both.predict(**prompt)
        raw = tiny.predict(**prompt, return_logits=True)
        assert np.abs(cleaned[0] - raw[0]).max() > 1  # there was something to clean
        np.testing.assert_array_equal(cleaned[2], raw[2])  # the small masks come as they are


def _truck(both: Both) -> None:
    both.set(photograph("truck.jpg", 1800, 1200))
    both.embedding()
    _, ious, logits = both.predict(point_coords=[[500, 375]], point_labels=[1])
    best = logits[[ious.argmax()]]
    both.predict(point_coords=[[500, 375], [1125, 625]], point_labels=[1, 0], mask_input=best, multimask_output=False)
    both.predict(box=[425, 600, 700, 875], return_logits=True, multimask_output=False)
    both.predict(box=[425, 600, 700, 875], point_coords=[[575, 750]], point_labels=[0], multimask_output=False)
    both.predict(mask_input=best, multimask_output=False)


def _groceries(both: Both) -> None:
    both.set(photograph("groceries.jpg", 800, 534))
    both.predict(box=[[75, 275, 310, 480], [425, 100, 700, 375]])
    both.predict(point_coords=[[[400, 300]], [[120, 350]]], point_labels=[[1], [1]], return_logits=True)


@pytest.mark.parametrize("session", [_truck, _groceries], ids=["truck", "groceries"])
def test_the_full_size(full_pair: Pair, session: Callable[[Both], None]) -> None:
    both = Both(full_pair)
    session(both)
    print(f"largest errors: logits {both.errors['logits']:.2g}, estimates {both.errors['ious']:.2g}")
