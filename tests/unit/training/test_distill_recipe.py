"""The recipe that distils EDGETAM into its variant at half the size, run small.

Sizes, paths and numbers of steps are replaced, users correct nothing, and one parameter moves: to compile is what takes
time here.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from edgetam_jax import load
from edgetam_jax.checkpoints.api import save
from edgetam_jax.data.example import Example
from edgetam_jax.data.simulated_user import Plan
from edgetam_jax.errors import TrainingError
from edgetam_jax.model import Model
from edgetam_jax.training.distillation import Features, model_teacher, stored_teacher
from edgetam_jax.training.recipe import Recipe, read_recipe
from edgetam_jax.training.trainer import store_features, train
from tests.unit.data.footage import make_videos
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
        optimizer=dataclasses.replace(
            whole.optimizer, learning_rate=1e-2, warmup=1, lr_multipliers=((".", 0.0), (f"^{MOVING}$", 1.0))
        ),
    )


def test_storing_goes_on_where_it_was_stopped(recipe: Recipe, tmp_path: Path) -> None:
    recipe, broken = dataclasses.replace(recipe, teacher=""), [1]

    def look(step: int, examples: Example, plan: Plan, keys: jax.Array) -> Features:
        if step in broken:
            broken.remove(step)
            raise KeyboardInterrupt
        return Features(jax.numpy.asarray(examples.frames), plan.prompts.points)

    with pytest.raises(KeyboardInterrupt):
        store_features(recipe, tmp_path / "stopped", look)
    for name in ("stopped", "whole"):
        store_features(recipe, tmp_path / name, look)
    stopped, whole = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("stopped", "whole"))
    assert stopped == whole and len(set(whole.values())) == STEPS


@pytest.mark.slow
def test_stored_features_teach_as_their_teacher_does(recipe: Recipe, tmp_path: Path) -> None:
    """What a student is told is the same to the bit, so its losses are; and they are of a student that learns."""
    features, told = tmp_path / "features", []
    store_features(recipe, features)
    both = stored_teacher(features), model_teacher(load(recipe.teacher), recipe.course)

    def look(step: int, examples: Example, plan: Plan, keys: jax.Array) -> Features:
        told.append(tuple(teacher(step, examples, plan, keys) for teacher in both))
        return told[-1][0]

    with pytest.raises(TrainingError, match="another one is given; choose one of them"):
        train(recipe, tmp_path / "out", teacher=look)
    reports = {}
    recipe = dataclasses.replace(recipe, teacher="")
    model = train(recipe, tmp_path / "out", reports.__setitem__, look)
    assert len(told) == len(reports) == STEPS
    for stored, said in told:
        assert stored.conditioned.shape[-3] == 2 * TINY.embedding_size
        assert stored.embedding.dtype == said.embedding.dtype == recipe.dtype
        jax.tree.map(np.testing.assert_array_equal, stored, said)
    assert all(report["imitation"] > 1 and report["gradient"] > 0 for report in reports.values())
    assert model.config == TINY
    assert np.abs(model.params[MOVING] - tiny_model().params[MOVING]).max() > 1e-3
