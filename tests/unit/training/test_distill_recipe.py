"""The recipe that distills EDGETAM into its variant at half the size, with small sizes.

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
from edgetam_jax.training.distillation import TeacherFeatures, model_teacher, stored_teacher
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
    """As in the original recipe, one checkpoint is the student's start and, at twice the size, the teacher."""
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


def test_storing_continues_where_it_was_stopped(recipe: Recipe, tmp_path: Path) -> None:
    recipe, broken = dataclasses.replace(recipe, teacher=""), [1]

    def compute(step: int, examples: Example, plan: Plan, keys: jax.Array) -> TeacherFeatures:
        if step in broken:
            broken.remove(step)
            raise KeyboardInterrupt
        return TeacherFeatures(jax.numpy.asarray(examples.frames), plan.prompts.points)

    with pytest.raises(KeyboardInterrupt):
        store_features(recipe, tmp_path / "stopped", compute)
    for name in ("stopped", "whole"):
        store_features(recipe, tmp_path / name, compute)
    stopped, whole = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("stopped", "whole"))
    assert stopped == whole and len(set(whole.values())) == STEPS


@pytest.mark.slow
def test_stored_features_are_those_of_the_teacher(recipe: Recipe, tmp_path: Path) -> None:
    """They are equal bit by bit, so the student's losses are too; and the student is trained."""
    features, seen = tmp_path / "features", []
    store_features(recipe, features)
    both = stored_teacher(features), model_teacher(load(recipe.teacher), recipe.rollout_config)

    def compute(step: int, examples: Example, plan: Plan, keys: jax.Array) -> TeacherFeatures:
        seen.append(tuple(teacher(step, examples, plan, keys) for teacher in both))
        return seen[-1][0]

    with pytest.raises(TrainingError, match="another one is given; choose one of them"):
        train(recipe, tmp_path / "out", teacher=compute)
    by_step = {}
    recipe = dataclasses.replace(recipe, teacher="")
    model = train(recipe, tmp_path / "out", by_step.__setitem__, compute)
    assert len(seen) == len(by_step) == STEPS
    for stored, computed in seen:
        assert stored.conditioned.shape[-3] == 2 * TINY.embedding_size
        assert stored.embedding.dtype == computed.embedding.dtype == recipe.dtype
        jax.tree.map(np.testing.assert_array_equal, stored, computed)
    assert all(metrics["imitation"] > 1 and metrics["gradient"] > 0 for metrics in by_step.values())
    assert model.config == TINY
    assert np.abs(model.params[MOVING] - tiny_model().params[MOVING]).max() > 1e-3
