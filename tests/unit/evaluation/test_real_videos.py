"""Evaluation on annotated videos: what is prompted, scored and reported."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetam_jax import Model, VideoPredictor, save
from edgetam_jax.cli import main as cli
from edgetam_jax.data.datasets import open_dataset
from edgetam_jax.errors import FrameError
from edgetam_jax.evaluation import real_videos
from edgetam_jax.evaluation.baselines import match_box, repeat_mask
from edgetam_jax.evaluation.real_videos import evaluate_videos
from edgetam_jax.evaluation.summary import evaluate_track
from tests.parity.pairs import minimal_model
from tests.unit.evaluation.folders import HEIGHT, WIDTH, ids_of, make_davis, save_ids, square

MOVING = [square(1 + t, 2, 5) for t in range(6)]
EMPTY = np.zeros((HEIGHT, WIDTH), bool)


@pytest.fixture(scope="module")
def model() -> Model:
    return minimal_model(score_bias=3.0)


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """One object that moves, and two of which the second is hidden on a frame. Frames are noise."""
    two = [ids_of({1: MOVING[t], 2: square(9, 7, 4) if t != 3 else EMPTY}) for t in range(6)]
    root = make_davis(tmp_path / "davis", {"a": [ids_of({1: mask}) for mask in MOVING], "b": two})
    rng = np.random.default_rng(0)
    for path in sorted((root / "JPEGImages").rglob("*.jpg")):
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(path)
    return root


def test_objects_are_prompted_three_ways(davis: Path, model: Model) -> None:
    """As a user would do it with the predictor, each by itself."""
    dataset = open_dataset(davis)
    results = dict(evaluate_videos(model, dataset))
    assert list(results) == ["a", "b"] and [len(results[name]["click"]) for name in "ab"] == [1, 2]
    predictor = VideoPredictor(model)
    frames = np.stack([np.asarray(Image.open(path)) for path in dataset.video("a").frames])
    for kind, prompt in (
        ("click", {"points": [[3, 4]], "labels": [1]}),
        ("box", {"box": [1, 2, 5, 6]}),
        ("mask", None),
    ):
        state = predictor.init_state(frames)
        if prompt is None:
            predictor.add_new_mask(state, 0, 1, MOVING[0])
        else:
            predictor.add_new_points_or_box(state, 0, 1, **prompt)
        masks = np.stack([logits[0, 0] > 0 for _, _, logits in predictor.propagate_in_video(state, 0)])
        want = evaluate_track(masks, np.stack(MOVING), 0)
        got = results["a"][kind][0]
        np.testing.assert_array_equal(got.j, want.j)
        np.testing.assert_array_equal(got.f, want.f)
        assert got.first == want.first and got.present is not None and len(got.present) == 4
    for name, method in (("held still", repeat_mask), ("box's best match", match_box)):
        want = evaluate_track(method(frames, MOVING[0]), np.stack(MOVING), 0)
        np.testing.assert_array_equal(results["a"][name][0].j, want.j)
    hidden = results["b"]["mask"][1]
    assert hidden.visible.tolist() == [True, True, False, True] and hidden.returned.tolist() == [False] * 3 + [True]


def test_perfect_masks_have_perfect_scores(davis: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def track(predictor: Any, frames: np.ndarray, first: Any) -> tuple[np.ndarray, np.ndarray]:
        truth = (
            np.stack(MOVING) if first.mask[2, 1] else np.stack([square(9, 7, 4) if t != 3 else EMPTY for t in range(6)])
        )
        return np.repeat(truth[:, None], 3, 1), np.repeat(truth.any((1, 2))[:, None], 3, 1)

    monkeypatch.setattr(real_videos, "_track", track)
    for _, metrics in evaluate_videos(model, open_dataset(davis)):
        for kind in ("click", "box", "mask"):
            for one in metrics[kind]:
                assert one.j.tolist() == one.f.tolist() == [1.0] * 4 and one.first == 1
                np.testing.assert_array_equal(one.present, one.visible)


def test_report(davis: Path, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save(model, tmp_path / "model.safetensors")
    out = tmp_path / "results.json"
    arguments = [str(tmp_path / "model.safetensors"), "--clips", "0", "--videos", str(davis), "--out", str(out)]
    assert cli.main(["held-out", *arguments]) == 0
    told = capsys.readouterr()
    assert "2/2" in told.err and "davis" in told.out and "box's best match" in told.out
    document = json.loads(out.read_text())
    videos = document["videos"]["davis"]
    assert videos["results"]["mask"]["objects"] == 3 and "results" not in document
    assert list(videos["jf_of_videos"]) == ["a", "b"] and set(videos["jf_of_videos"]["a"]) == set(videos["results"])
    each = [one.j.mean() for _, metrics in evaluate_videos(model, open_dataset(davis)) for one in metrics["box"]]
    np.testing.assert_allclose(videos["results"]["box"]["score"]["j"]["mean"], np.mean(each))


def test_what_cannot_be_evaluated(davis: Path, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = ["--out", str(tmp_path / "results.json")]
    for folder, message in (
        (tmp_path / "no", "is not a folder"),
        (davis / "ImageSets", "no dataset that is known here"),
    ):
        assert cli.main(["held-out", "nano", "--videos", str(folder), *out]) == 2
        assert message in capsys.readouterr().err
    save_ids(davis / "Annotations" / "480p" / "a" / "00002.png", np.ones((8, 8)))
    with pytest.raises(FrameError, match=r"a: masks are \[\(8, 8\)\], the frames \(12, 16\)"):
        list(evaluate_videos(model, open_dataset(davis)))
    short = make_davis(tmp_path / "short", {"a": [ids_of({1: MOVING[0]})] * 2})
    with pytest.raises(FrameError, match="no object has annotated frames to score"):
        list(evaluate_videos(model, open_dataset(short)))
