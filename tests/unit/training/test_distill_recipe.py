"""The recipe that distils EDGETAM into its variant at half the size, run small.

Sizes, paths and numbers of steps are replaced, users correct nothing, and one parameter moves: to compile is what takes
time here.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetam_jax import load
from edgetam_jax.checkpoint import save
from edgetam_jax.model import Model
from edgetam_jax.training.recipe import Recipe, read_recipe
from edgetam_jax.training.trainer import MODEL, store_features, train
from tests.unit.training.footage import make_videos
from tests.unit.training.network import SIZE, TINY, tiny_model
from tests.unit.training.runs import MOVING, of_training

RECIPE = Path(__file__).parents[3] / "recipes" / "distill-512.toml"
STEPS = 3
pytestmark = of_training


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """One checkpoint is where the student starts, and teaches it at twice the size; as the recipe has it."""
    folder, whole = tmp_path_factory.mktemp("distil"), read_recipe(RECIPE)
    checkpoint = folder / "edgetam.safetensors"
    save(Model(tiny_model().params, TINY.resized(2 * SIZE)), checkpoint)
    (data,) = whole.data
    videos = make_videos(folder / "MOSE", {"a": 3, "b": 3, "c": 4})
    return dataclasses.replace(
        whole,
        start=str(checkpoint),
        teacher=str(checkpoint),
        image_size=SIZE,
        frame_size=whole.frame_size * SIZE // whole.image_size,
        mask_size=whole.mask_size * SIZE // whole.image_size,
        data=(dataclasses.replace(data, path=str(videos), frames=1),),
        steps=STEPS,
        batch=2,
        accumulate=2,
        user=dataclasses.replace(whole.user, corrections=0),
        optimizer=dataclasses.replace(whole.optimizer, rate=1e-2, warmup=1, rates=((".", 0.0), (f"^{MOVING}$", 1.0))),
    )


@pytest.fixture(scope="module")
def taught(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("taught")
    train(recipe, out)
    return out


def metrics(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: x for name, x in line.items() if name not in ("seconds", "data_share")} for line in lines]


def test_a_student_at_half_the_size_of_its_teacher_learns(taught: Path) -> None:
    found = metrics(taught)
    assert [line["step"] for line in found] == list(range(STEPS))
    assert all(line["imitation"] > 1 and line["gradient"] > 0 for line in found)
    student = load(taught / MODEL)
    assert student.config == TINY
    assert np.abs(student.params[MOVING] - tiny_model().params[MOVING]).max() > 1e-3


def test_stored_features_teach_as_their_teacher_does(taught: Path, recipe: Recipe, tmp_path: Path) -> None:
    store_features(recipe, tmp_path / "features")
    train(dataclasses.replace(recipe, teacher=str(tmp_path / "features")), tmp_path / "out")
    for live, stored in zip(metrics(taught), metrics(tmp_path / "out"), strict=True):
        assert stored == pytest.approx(live, rel=1e-6, abs=1e-6)
