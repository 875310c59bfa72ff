"""The image predictor: what it takes and returns, and what a wrong call leaves behind."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from edgetam_jax import ImagePredictor
from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.images import predictor as image
from edgetam_jax.model import Model
from tests.parity.pairs import normal
from tests.support.oracle import TINY
from tests.support.tolerances import assert_telling

HEIGHT, WIDTH = 60, 80
SIDE = TINY.mask_size
CLICK: dict[str, Any] = {"point_coords": [[30, 25]], "point_labels": [1]}
CLICKS: dict[str, Any] = {"point_coords": [[[30, 25], [9, 9]], [[60, 50], [2, 2]]], "point_labels": [[1, 0], [1, 1]]}
BOX: dict[str, Any] = {"box": [40, 20, 70, 55]}
MASK = 5 * normal(0, 1, SIDE, SIDE)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


@pytest.fixture
def predictor(model: Model, photo: np.ndarray) -> ImagePredictor:
    predictor = ImagePredictor(model)
    predictor.set_image(photo)
    return predictor


def assert_equal(got: Any, want: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize(
    ("prompt", "multimask", "shape"),
    [
        (CLICK, True, (3,)),
        (BOX, False, (1,)),
        ({**CLICK, **BOX, "mask_input": MASK}, False, (1,)),
        ({"mask_input": MASK}, False, (1,)),
        ({"box": [BOX["box"]]}, True, (3,)),
        (CLICKS, False, (2, 1)),
        ({"box": [BOX["box"], [1, 2, 3, 4]], "mask_input": MASK}, False, (2, 1)),
    ],
)
def test_shapes(predictor: ImagePredictor, prompt: dict[str, Any], multimask: bool, shape: tuple[int, ...]) -> None:
    masks, ious, logits = predictor.predict(**prompt, multimask_output=multimask)
    assert masks.shape == (*shape, HEIGHT, WIDTH)
    assert ious.shape == shape
    assert logits.shape == (*shape, SIDE, SIDE)
    assert all(x.dtype == np.float32 and x.flags.writeable for x in (masks, ious, logits))
    assert set(np.unique(masks)) == {0, 1}
    assert_telling("logits", logits, both_signs=True)
    assert np.abs(logits).max() <= 32


def test_masks_are_where_logits_exceed_the_threshold(model: Model, photo: np.ndarray) -> None:
    predictor = ImagePredictor(model, mask_threshold=3.0)
    predictor.set_image(photo)
    masks, _, low = predictor.predict(**CLICK)
    logits, _, same = predictor.predict(**CLICK, return_logits=True)
    assert_equal(masks, (logits > 3).astype(np.float32))
    assert_equal(low, same)
    assert ((logits > 0) & (logits <= 3)).any()


def test_relative_coordinates(predictor: ImagePredictor) -> None:
    relative = {"point_coords": [[30 / 80, 25 / 60]], "point_labels": [1], "box": [0.5, 1 / 3, 70 / 80, 55 / 60]}
    got = predictor.predict(**relative, normalize_coords=False)
    assert_equal(got, predictor.predict(**CLICK, **BOX))


def test_a_mask_is_where_refinement_starts(predictor: ImagePredictor) -> None:
    _, ious, logits = predictor.predict(**CLICK)
    again = predictor.predict(**CLICK, mask_input=logits[[ious.argmax()]], multimask_output=False)
    fresh = predictor.predict(**CLICK, multimask_output=False)
    assert np.abs(again[2] - fresh[2]).max() > 1


@pytest.mark.parametrize("prompts", [CLICKS, {"mask_input": [MASK, -MASK]}], ids=["clicks", "masks"])
def test_prompts_at_once_are_prompts_one_by_one(predictor: ImagePredictor, prompts: dict[str, Any]) -> None:
    together = predictor.predict(**prompts, multimask_output=False)
    for index in range(2):
        alone = predictor.predict(**{name: x[index] for name, x in prompts.items()}, multimask_output=False)
        assert_equal(alone, tuple(x[index] for x in together))


def test_a_batch_is_its_images_one_by_one(predictor: ImagePredictor, photo: np.ndarray) -> None:
    images = [photo, np.ascontiguousarray(photo[:40].swapaxes(0, 1))]
    boxes = [None, [[5, 5, 30, 30], [0, 0, 39, 79]]]
    predictor.set_image_batch(images)
    embeddings = predictor.get_image_embedding()
    assert embeddings.shape == (2, TINY.hidden_dim, TINY.embedding_size, TINY.embedding_size)
    masks, ious, logits = predictor.predict_batch(
        [CLICK["point_coords"], None], [CLICK["point_labels"], None], boxes, return_logits=True
    )
    assert [len(part) for part in (masks, ious, logits)] == [2, 2, 2]
    assert masks[1].shape == (2, 3, 80, 40)
    for index, prompt in enumerate((CLICK, {"box": boxes[1]})):
        predictor.set_image(images[index])
        assert_equal(predictor.get_image_embedding()[0], embeddings[index])
        assert_equal(predictor.predict(**prompt, return_logits=True), (masks[index], ious[index], logits[index]))


def images_of(photo: np.ndarray, folder: Path) -> Iterator[tuple[str, Any, np.ndarray]]:
    """Images of many kinds, each with the RGB image that it counts as."""
    gray = photo[..., 0]
    as_gray = np.repeat(gray[..., None], 3, -1)
    rgba = np.concatenate([photo, gray[..., None]], -1)
    palette = Image.fromarray(photo).quantize(16)
    yield "gray array", gray, as_gray
    yield "RGBA array", rgba, photo
    yield "float array", photo / 255, photo
    yield "JAX array", jnp.asarray(photo), photo
    yield "gray", Image.fromarray(gray), as_gray
    yield "RGBA", Image.fromarray(rgba), photo
    yield "palette", palette, np.asarray(palette.convert("RGB"))
    yield "16 bits", Image.fromarray(gray.astype(np.uint16) * 256 + 77), as_gray
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(np.rot90(photo)).save(folder / "turned.png", exif=exif)
    yield "file", folder / "turned.png", photo
    yield "file's name", str(folder / "turned.png"), photo
    yield "opened file", Image.open(folder / "turned.png"), np.rot90(photo)


def test_images_of_any_kind(predictor: ImagePredictor, photo: np.ndarray, tmp_path: Path) -> None:
    for name, image_, rgb in images_of(photo, tmp_path):
        predictor.set_image(rgb)
        want = predictor.get_image_embedding()
        predictor.set_image(image_)
        np.testing.assert_array_equal(predictor.get_image_embedding(), want, err_msg=name)
        assert predictor.predict(**{"box": [1, 1, 50, 50]})[0].shape[1:] == rgb.shape[:2], name


def test_preprocessing_can_be_chosen(model: Model, predictor: ImagePredictor, photo: np.ndarray) -> None:
    other = ImagePredictor(model, preprocess="hf")
    other.set_image(photo)
    difference = np.abs(other.get_image_embedding() - predictor.get_image_embedding()).max()
    assert 0 < difference < 1
    with pytest.raises(FrameError, match="preprocessing rule"):
        ImagePredictor(model, preprocess="HF").set_image(photo)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (129, 128)])
def test_images_of_any_size(predictor: ImagePredictor, size: tuple[int, int]) -> None:
    predictor.set_image(np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8))
    masks, _, _ = predictor.predict([[1, 1]], [1])
    assert masks.shape == (3, *size)


def test_an_interactive_session_compiles_a_handful_of_programs(
    model: Model, photo: np.ndarray, compilations: list[str]
) -> None:
    """For the first click, for up to six corrections, and for the masks of either at the image's size."""
    # Another configuration (of what images do not use) and threshold: no other test has compiled these programs.
    predictor = ImagePredictor(Model(model.params, dataclasses.replace(TINY, pointers=3)), mask_threshold=0.25)
    predictor.set_image(photo)
    before = len(compilations)
    rng = np.random.default_rng(0)

    def session() -> None:
        points = rng.uniform(0, 60, (7, 2))
        _, ious, logits = predictor.predict(points[:1], [1])
        best = logits[[ious.argmax()]]
        for count in range(2, 8):
            *_, best = predictor.predict(points[:count], [1] * count, mask_input=best, multimask_output=False)

    session()
    assert len(compilations) - before == 4
    before = len(compilations)
    session()
    predictor.set_image(photo[::-1])
    session()
    predictor.set_image_batch([photo] * 3)
    predictor.predict_batch([[[1, 1]]] * 3, [[1]] * 3)
    assert len(compilations) == before


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({}, "no prompt"),
        ({"point_coords": [[1, 1]]}, "one of them is missing"),
        ({"point_labels": [1]}, "one of them is missing"),
        ({"point_coords": [[1, 1]], "point_labels": [2]}, "expected 1"),
        ({"point_coords": [[1, 1]], "point_labels": [1, 1]}, "one for each point"),
        ({"point_coords": np.zeros((0, 2)), "point_labels": []}, "empty"),
        ({"point_coords": [[np.nan, 1]], "point_labels": [1]}, "not finite"),
        ({"point_coords": [[81, 1]], "point_labels": [1]}, "outside the frame of 80x60"),
        ({"point_coords": [[30, 25]], "point_labels": [1], "normalize_coords": False}, "from 0 to 1"),
        ({"box": [40, 20, 30, 30]}, "x0 < x1"),
        ({"box": [[1, 1, 5, 5], [40, 20, 30, 30]]}, "prompt 1: box"),
        ({"box": [0, 0, 80, 61]}, "outside"),
        ({"mask_input": np.zeros((1, SIDE, SIDE + 1))}, r"expected logits \[1, 32, 32\]"),
        ({"mask_input": np.full((1, SIDE, SIDE), np.inf)}, "not finite"),
    ],
)
def test_wrong_prompts_change_nothing(predictor: ImagePredictor, prompt: dict[str, Any], message: str) -> None:
    want = predictor.predict(**BOX)
    with pytest.raises(PromptError, match=message):
        predictor.predict(**prompt)
    assert_equal(predictor.predict(**BOX), want)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((0, 5, 3), np.uint8), "empty"),
        (np.full((5, 5, 3), 1.5), "expected 0 to 1"),
        (np.full((5, 5, 3), np.nan), "NaN"),
        (np.full((5, 5, 3), 300), "expected 0 to 255"),
        (np.zeros((3, 5, 5), np.uint8), "channels last"),
        (np.zeros((2, 5, 5, 3), np.uint8), "one by one"),
        (None, "values are object"),
        ("missing.png", "no such file"),
    ],
)
def test_wrong_images_change_nothing(predictor: ImagePredictor, photo: np.ndarray, wrong: Any, message: str) -> None:
    want = predictor.predict(**BOX)
    with pytest.raises(FrameError, match=message):
        predictor.set_image(wrong)
    with pytest.raises(FrameError, match=f"image 1: .*{message}"):
        predictor.set_image_batch([photo, wrong])
    assert_equal(predictor.predict(**BOX), want)


def test_wrong_batches(predictor: ImagePredictor, photo: np.ndarray) -> None:
    for wrong, message in (([], "empty"), (photo, "expected a list"), (Image.fromarray(photo), "expected a list")):
        with pytest.raises(FrameError, match=message):
            predictor.set_image_batch(wrong)
    with pytest.raises(PromptError, match="call predict, or set_image_batch first"):
        predictor.predict_batch([[[1, 1]]], [[1]])
    predictor.set_image_batch([photo, photo])
    with pytest.raises(PromptError, match="call predict_batch, or set_image first"):
        predictor.predict(**CLICK)
    with pytest.raises(PromptError, match="box_batch has 1 entries; expected one for each of the 2 images"):
        predictor.predict_batch(box_batch=[[1, 1, 2, 2]])
    with pytest.raises(PromptError, match="image 1: there is no prompt"):
        predictor.predict_batch(box_batch=[[1, 1, 2, 2], None])
    assert len(predictor.predict_batch(box_batch=[[1, 1, 2, 2]] * 2)[0]) == 2


def test_without_an_image(model: Model, predictor: ImagePredictor) -> None:
    predictor.reset_predictor()
    for each in (ImagePredictor(model), predictor):
        for call in (each.predict, each.predict_batch, each.get_image_embedding):
            with pytest.raises(PromptError, match="no image is set; call set_image"):
                call()


def test_from_the_hub(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "from_pretrained", {"someone/model": model}.__getitem__)
    predictor = ImagePredictor.from_pretrained("someone/model", mask_threshold=1.0)
    assert predictor.model is model and predictor.mask_threshold == 1
