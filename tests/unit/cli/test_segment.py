"""`edgetam-jax segment` and `masks`: their outputs hold the masks of the predictor and the generator."""

import io
import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edgetam_jax import AutomaticMaskGenerator, ImagePredictor, load
from edgetam_jax.cli import main as cli
from edgetam_jax.cli import masks
from edgetam_jax.media.visualize import overlay
from edgetam_jax.ops.rle import rle_decode
from tests.unit.cli.conftest import SIZE


@pytest.fixture
def photo(frames: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(frames[0]).save(path)
    return path


def run(command: str, photo: Path | str, network: Path, *line: str) -> int:
    return cli.main([command, str(photo), "--model", str(network), *line])


def decoded(records: list[dict]) -> np.ndarray:
    return np.stack([rle_decode(record["segmentation"]) for record in records])


def test_segment(network: Path, photo: Path, frames: np.ndarray, capsys: pytest.CaptureFixture) -> None:
    outs = [part for suffix in ("png", "jpg", "webp", "json", "npz") for part in ("-o", f"out.{suffix}")]
    prompts = ["--point", "2:12,14", "--box", "1:22,12,40,28", "--negative", "1:24,13"]
    assert run("segment", photo, network, *prompts, *outs) == 0
    assert "written: out.npz" in capsys.readouterr().out

    predictor = ImagePredictor(load(network))
    predictor.set_image(frames[0])
    refined, quality, _ = predictor.predict([[24, 13]], [0], [22, 12, 40, 28], multimask_output=False)
    three, ious, _ = predictor.predict([[12, 14]], [1])
    want = np.stack([refined[0], three[ious.argmax()]]) > 0
    with np.load("out.npz") as file:
        assert file["masks"].dtype == bool
        np.testing.assert_array_equal(file["masks"], want)
        assert file["obj_ids"].tolist() == [1, 2]
    records = json.loads(Path("out.json").read_text())
    np.testing.assert_array_equal(decoded(records), want)
    assert [r["predicted_iou"] for r in records] == pytest.approx([quality[0], ious.max()], abs=1e-4)
    ids = np.asarray(Image.open("out.png"))
    np.testing.assert_array_equal(ids == 2, want[1])
    np.testing.assert_array_equal(ids == 1, want[0] & ~want[1])
    for name, form in (("out.jpg", "JPEG"), ("out.webp", "WEBP")):
        with Image.open(name) as picture:
            assert picture.format == form
            drawn = overlay(frames[0], want, obj_ids=[0, 1]).astype(float)
            assert np.abs(np.asarray(picture.convert("RGB")) - drawn).mean() < 16


def test_segment_from_a_mask(network: Path, photo: Path, frames: np.ndarray) -> None:
    """The mask is the network's mask input."""
    mask = np.zeros(SIZE, np.uint8)
    mask[5:25, 10:30] = 255
    Image.fromarray(mask).save("mask.png")
    predicted = []
    for line in ([], ["--mask", "mask.png"]):
        assert (
            run("segment", photo, network, "--point", "12,14", "--negative", "40,3", *line, "-o", "a.npz", "--force")
            == 0
        )
        with np.load("a.npz") as file:
            predicted.append(file["masks"][0])
    side = load(network).config.mask_size
    coverage = np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.BOX)) / 255
    predictor = ImagePredictor(load(network))
    predictor.set_image(frames[0])
    logits = (20 * coverage - 10)[None]
    want, *_ = predictor.predict([[12, 14], [40, 3]], [1, 0], mask_input=logits, multimask_output=False)
    np.testing.assert_array_equal(predicted[1], want[0])
    assert (predicted[0] != predicted[1]).any()


def test_pipes(
    network: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(photo.read_bytes())))
    there = sorted(tmp_path.iterdir())
    assert run("segment", "-", network, "--point", "12,14", "-o", "-") == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["segmentation"]["size"] == list(SIZE)
    assert sorted(tmp_path.iterdir()) == there
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"no image")))
    assert run("segment", "-", network, "--point", "12,14", "-o", "-") == 2
    assert "standard input: not an image" in capsys.readouterr().err


def test_masks(
    network: Path, photo: Path, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    # Masks of random networks have the same box; as duplicates, all but one would be removed.
    generator = partial(AutomaticMaskGenerator, box_nms_thresh=1.0)
    monkeypatch.setattr(masks, "AutomaticMaskGenerator", generator)
    line = ["--points-per-side", "3", "--min-iou", "0", "--min-stability", "0", "-o", "a.json", "-o", "a.png"]
    assert run("masks", photo, network, *line) == 0
    records = json.loads(Path("a.json").read_text())
    want = generator(
        load(network), points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0, output_mode="coco_rle"
    ).generate(frames[0])
    assert records == sorted(want, key=lambda record: -record["area"]) and len(records) > 1
    assert f"{len(records)} masks" in capsys.readouterr().err
    ids = np.asarray(Image.open("a.png"))
    np.testing.assert_array_equal(ids == len(records), decoded(records)[-1])  # the smallest lies on top
    assert run("masks", photo, network, "--points-per-side", "3", "--min-iou", "1") == 0
    with Image.open("photo-masks.jpg") as picture:  # there are no masks
        assert np.abs(np.asarray(picture).astype(float) - frames[0]).mean() < 16


def test_mistakes(network: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Path("empty.jpg").touch()
    Path("cut.png").write_bytes(photo.read_bytes()[:400])
    there = sorted(tmp_path.iterdir())
    for path, line, message in (
        ("none.jpg", [], "no such file"),
        ("empty.jpg", [], "not an image that can be read"),
        ("cut.png", [], "the image is broken"),
        (photo, ["--point", "48,3"], "object 1: [48.0, 3.0] (x, y) lies outside the frame of 47x35"),
        (photo, ["-o", "a.gif"], "use .jpg, .webp, .png, .json, .npz"),
        (photo, ["-o", str(photo)], "exists"),
        (photo, ["--model", "none"], "does not exist"),
    ):
        assert run("segment", path, network, "--point", "12,14", *line) == 2
        assert message in capsys.readouterr().err
    assert run("masks", photo, network, "--points-per-side", "0") == 2
    assert "points_per_side is 0" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == there
