"""Evaluation on videos during training: its metrics are those of `vos` and `scores`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetam_jax import save
from edgetam_jax.cli import main as cli
from edgetam_jax.data.datasets import open_dataset
from edgetam_jax.errors import FrameError
from edgetam_jax.evaluation.scores import Score, average, score_dataset
from edgetam_jax.training import trainer
from edgetam_jax.training.recipe import EvaluationConfig, Recipe
from edgetam_jax.training.trainer import MODEL, train
from tests.unit.data.footage import make_videos
from tests.unit.evaluation.folders import ids_of, make_davis, make_mose, make_sav, save_frames, square
from tests.unit.training.network import tiny_model
from tests.unit.training.runs import MOVING, make_recipe, of_training, small_steps

pytestmark = of_training


def on(recipe: Recipe, path: Path, **options: Any) -> Recipe:
    return dataclasses.replace(recipe, steps=3, evaluation=EvaluationConfig(every=2, path=str(path), **options))


@pytest.mark.slow
def test_metrics_match_vos_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the moving average, on the first videos of the split only."""
    videos = make_videos(make_videos(tmp_path / "own", {"a": 5, "b": 4, "c": 9}, "valid"), {"d": 3}, "train")
    recipe, evaluated = on(make_recipe(tmp_path), videos, videos=2), []
    save(tiny_model(2), tmp_path / "start.safetensors", force=True)  # follows things better than others by chance

    def validate(model: Any, dataset: Any) -> Score:
        evaluated.append(model.params[MOVING])
        return trainer_validate(model, dataset)

    trainer_validate = trainer.validate
    monkeypatch.setattr(trainer, "validate", validate)
    out = tmp_path / "out"
    with small_steps():
        model = train(recipe, out)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert ["validation_jf" in line for line in lines] == [False, True, True]
    assert np.any(evaluated[0] != evaluated[1])
    np.testing.assert_array_equal(evaluated[1], model.params[MOVING])

    assert cli.main(["vos", str(videos), str(tmp_path / "masks"), "--model", str(out / MODEL)]) == 0
    objects = score_dataset(open_dataset(videos), tmp_path / "masks")
    wanted = average(one for one in objects if one.video in "ab")
    assert 0.2 < wanted.j.mean < wanted.f.mean < 0.4 and wanted.jf != average(objects).jf
    found = {name: x for name, x in lines[-1].items() if name.startswith(("validation", "held_out"))}
    assert found == {"validation_jf": wanted.jf, "validation_j": wanted.j.mean, "validation_f": wanted.f.mean}
    (board,) = (out / "tensorboard").iterdir()
    assert all(name.encode() in board.read_bytes() for name in found)


def test_datasets_that_cannot_be_used_are_refused_before_training(tmp_path: Path) -> None:
    recipe, ids = make_recipe(tmp_path), ids_of({1: square(1, 1)})
    own = make_videos(tmp_path / "own", {"a": 3}, "valid")
    first_only = make_mose(tmp_path / "first-only", "a", 5, {0: ids})
    empty = make_davis(tmp_path / "empty", {"a": [ids * 0] * 4})
    later = make_davis(tmp_path / "later", {"a": [ids, ids, ids[:6], ids]})
    masks = {"000": {t: square(1, 1) for t in range(4)}, "001": {0: square(1, 5)}}
    short = make_sav(tmp_path / "short", "a", 4, masks)
    other = make_mose(tmp_path / "other", "a", 0, dict.fromkeys(range(3), ids))
    (other / "valid" / "JPEGImages" / "a").rmdir()
    save_frames(other / "valid" / "JPEGImages" / "a", 3, (20, 30))
    for path, split, message in (
        (tmp_path / "nowhere", None, "nowhere is not a folder; expected a dataset"),
        (tmp_path / "images", None, "images is no dataset that is known here"),
        (own, "test", "there is no split test; there are valid"),
        (first_only, None, "a: 1 frames are annotated, and the first and last do not count"),
        (short, None, "a: 1 frames are annotated, and the first and last do not count"),
        (empty, None, "a: its annotations show no object"),
        (later, None, r"00002.png is \(6, 16\), the video \(12, 16\)"),
        (other, None, r"the mask of object 1 is \(12, 16\), the video \(20, 30\)"),
    ):
        with pytest.raises(FrameError, match=message):
            train(on(recipe, path, split=split), tmp_path / "out")
    assert not (tmp_path / "out").exists()
