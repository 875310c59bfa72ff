"""`--verify` on the published examples of still images: prompts, and the comparison with published numbers."""

import pathlib
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image

from convert import verify
from convert.goldens import gate_image, load_goldens
from convert.verify import Prediction
from edgetam_jax.checkpoints.mapping import VIDEO_PARTS
from edgetam_jax.model import Model
from tests.parity.pairs import make_pair
from tests.support.checkpoints import SMALL, small_model

POINTS = {"points": [[90, 60], [20, 30]], "labels": [1, 0]}
BOX = {"box": [10, 20, 120, 100]}


def test_every_check_can_be_run() -> None:
    data = load_goldens()
    assert len(data["checks"]) == 33
    for i, check in enumerate(data["checks"]):
        assert check["image"] in {*data["images"], "gate"}
        assert check["preprocess"] in data["tolerances"]
        assert "box" in check or len(check["points"]) == len(check["labels"]) > 0
        assert len(check["ious"]) == (3 if check["multimask"] else 1)
        assert "mask" not in check or "mask_iou" in data["tolerances"][check["preprocess"]]
        before = [other["name"] for other in data["checks"][:i] if other["image"] == check["image"]]
        assert "mask_from" not in check or before.count(check["mask_from"]) == 1
    titles = [verify.check_title(check) for check in verify.checks()]
    assert len(set(titles)) == len(titles) == 33 + 6


def test_what_cannot_be_run_is_listed() -> None:
    images = {"photo.png": np.zeros((2, 2, 3), np.uint8)}
    rows = list(verify.verify(small_model(), images))
    assert all(row.passed is None for row in rows)
    got = [row.got for row in rows]
    assert got[0] == "unknown picture"
    assert got.count("needs gate") == 7
    assert got.count("needs bedroom.mp4") == 6
    assert len(rows) == 1 + 33 + 6


def check_of(preprocess: str, **values: Any) -> dict[str, Any]:
    return {"preprocess": preprocess, **values}


def test_compare_prediction() -> None:
    logits = np.stack([np.full((4, 4), float(i)) for i in range(3)])
    prediction = Prediction(logits, np.array([0.5, 0.9, 0.1]))

    def passed(check: dict[str, Any]) -> list[bool | None]:
        return [row.passed for row in verify.compare_prediction(check, prediction, (4, 4))]

    assert passed(check_of("hf", ious=[0.504, 0.896, 0.1], order="token")) == [True]
    assert passed(check_of("image", ious=[0.504, 0.896, 0.1], order="token")) == [False]
    assert passed(check_of("hf", ious=[0.9, 0.5, 0.1], order="sorted")) == [True]
    assert passed(check_of("hf", ious=[0.9, 0.5, 0.1], order="token")) == [False]
    ious = {"ious": [0.5, 0.9, 0.1]}
    assert passed(check_of("hf", **ious, logits=[[1.2, 1.0], [1.0, 0.8]])) == [True, True]
    assert passed(check_of("hf", **ious, logits=[[1.2, 1.0], [1.0, 1.4]])) == [True, False]
    assert passed(check_of("image", **ious, mask=[0, 16])) == [True, True]
    assert passed(check_of("image", **ious, mask=[1, 15])) == [True, False]


@pytest.fixture(scope="module")
def originals(small_original: Any) -> tuple[Any, Model]:
    """The original's image predictor, and the same weights here."""
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    with warnings.catch_warnings(action="ignore"):  # torch's, about its own compiler
        predictor = SAM2ImagePredictor(small_original)
    size = SMALL.embedding_size  # else it takes every image for one of 1024
    predictor._bb_feat_sizes = [(4 * size, 4 * size), (2 * size, 2 * size), (size, size)]
    return predictor, make_pair(small_original, SMALL).model


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    random = np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(random).resize((150, 110), Image.Resampling.BICUBIC)).copy()


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("prompt", [POINTS, BOX, POINTS | BOX], ids=["points", "box", "both"])
def test_predicts_as_the_originals_predictor(
    originals: tuple[Any, Model], photo: np.ndarray, prompt: dict[str, Any], multimask: bool
) -> None:
    predictor, model = originals
    predictor.set_image(photo)
    _, ious, logits = predictor.predict(
        np.array(prompt["points"]) if "points" in prompt else None,
        np.array(prompt["labels"]) if "labels" in prompt else None,
        np.array(prompt["box"]) if "box" in prompt else None,
        multimask_output=multimask,
        return_logits=True,
    )
    got = predict(model, photo, "image", prompt | {"multimask": multimask})
    assert logits.std() > 1
    np.testing.assert_allclose(got.logits.clip(-32, 32), logits, atol=1e-4)
    np.testing.assert_allclose(got.ious, ious, atol=1e-5)


def predict(
    model: Model, image: np.ndarray, rule: str, check: dict[str, Any], mask: np.ndarray | None = None
) -> Prediction:
    return verify.predict(model, verify._encode(model, image, rule), image.shape[:2], check, mask)


def test_predicts_as_the_hugging_face_port(
    originals: tuple[Any, Model], photo: np.ndarray, tmp_path: pathlib.Path
) -> None:
    """With what only it does: a filled up point, and a mask without clamping."""
    from transformers import EdgeTamModel

    from edgetam_jax.checkpoints.writers import write_hf
    from edgetam_jax.ops.pixels import preprocess

    model = originals[1]
    image_only = {name: part for name, part in model.params.items() if name not in VIDEO_PARTS}
    write_hf(image_only, SMALL, tmp_path / "hf", False, True)
    port = EdgeTamModel.from_pretrained(tmp_path / "hf").eval()
    pixels = torch.from_numpy(np.array(preprocess(jnp.asarray(photo), SMALL.image_size, "hf"))).permute(2, 0, 1)[None]
    scale = SMALL.image_size / np.array([150, 110], np.float32)
    points, labels = [[90, 60], [-10, -10]], [1, -10]

    def run_port(**prompt: Any) -> tuple[np.ndarray, np.ndarray]:
        coords = torch.from_numpy(np.array(points, np.float32) * scale)[None, None]
        with torch.no_grad():
            out = port(pixels, input_points=coords, input_labels=torch.tensor(labels)[None, None], **prompt)
        return out.pred_masks[0, 0].numpy(), out.iou_scores[0, 0].numpy()

    logits, ious = run_port(multimask_output=True)
    got = predict(model, photo, "hf", {"points": points, "labels": labels, "multimask": True})
    np.testing.assert_allclose(got.logits, logits, atol=1e-4)
    np.testing.assert_allclose(got.ious, ious, atol=1e-5)
    mask = 3 * logits[0]
    assert np.abs(mask).max() > 32
    logits, ious = run_port(multimask_output=False, input_masks=torch.from_numpy(mask)[None, None])
    got = predict(model, photo, "hf", {"points": points, "labels": labels, "multimask": False}, mask)
    np.testing.assert_allclose(got.logits, logits, atol=2e-4)
    np.testing.assert_allclose(got.ious, ious, atol=1e-5)


def test_a_whole_run(originals: tuple[Any, Model], monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks made of the network's own outputs pass; the same checks of other weights fail."""
    model, gate = originals[1], gate_image()
    first = {
        "name": "first",
        "image": "gate",
        "preprocess": "hf",
        "points": [[607, 403]],
        "labels": [1],
        "multimask": True,
    }
    second = {**first, "name": "second", "mask_from": "first", "multimask": False}
    prediction = predict(model, gate, "hf", first)
    again = predict(model, gate, "hf", second, prediction.logits[np.argmax(prediction.ious)])

    def filled(check: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
        best = prediction.logits[np.argmax(prediction.ious)]
        return check | {"ious": prediction.ious.tolist(), "logits": best[:3, :3].tolist()}

    monkeypatch.setitem(load_goldens(), "checks", [filled(first, prediction), filled(second, again)])
    monkeypatch.setitem(load_goldens(), "video_checks", [])
    rows = list(verify.verify(model, {"gate": gate}))
    assert [row.check for row in rows] == [
        f"gate, {name}: {what}" for name in ("first", "second") for what in ("IoU", "logits of the corner")
    ]
    assert [row.passed for row in rows] == [True] * 4
    assert False in [row.passed for row in verify.verify(small_model(), {"gate": gate})]
