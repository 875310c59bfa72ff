"""The distillation loss, and teachers whose features are stored."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgetam_jax.data.example import Example
from edgetam_jax.data.simulated_user import Plan
from edgetam_jax.errors import CheckpointError, ConfigError
from edgetam_jax.training.distillation import (
    DistillationWeights,
    TeacherFeatures,
    distillation_loss,
    features_path,
    save_features,
    stored_teacher,
)
from edgetam_jax.training.rollout import Rollout

T, B, N, H, C = 2, 3, 2, 4, 8
WEIGHTS = DistillationWeights(embedding=2.0, conditioned=3.0)
KEYS = jax.random.split(jax.random.key(0), B)
EXAMPLES = Example(np.zeros((B, T, 8, 8, 3), np.uint8), np.zeros((B, T, N, 8, 8), bool), np.ones((B, N), bool))
NOTHING: Any = None
PLAN = Plan(NOTHING, NOTHING)


def random_features(seed: int, side: int = H, channels: int = C) -> TeacherFeatures:
    rng = np.random.default_rng(seed)
    each = rng.standard_normal((T, B, side, side, channels)), rng.standard_normal((T, B, N, side, side, channels))
    return TeacherFeatures(*(jnp.asarray(x, jnp.float32) for x in each))


def rollout_of(features: TeacherFeatures) -> Rollout:
    tracked = np.ones((T, B, N), bool)
    tracked[0, 1] = tracked[1, :, 0] = False
    return Rollout(NOTHING, NOTHING, NOTHING, jnp.asarray(tracked), NOTHING, *features)


def loss_of(
    student: TeacherFeatures, teacher: TeacherFeatures, weights: DistillationWeights = WEIGHTS, objects: int = 4
) -> float:
    return float(distillation_loss(rollout_of(student), teacher, weights, B, jnp.asarray(objects)))


def test_equal_features_have_no_loss() -> None:
    assert loss_of(random_features(0), random_features(0)) == 0
    assert loss_of(random_features(0), random_features(1)) > 1


def test_it_is_the_mean_squared_error() -> None:
    """Over all clips and frames; after memory attention over the tracked objects."""
    student, teacher = random_features(0), random_features(1)
    (e, c), (te, tc) = (jax.tree.map(np.asarray, x) for x in (student, teacher))
    tracked = np.asarray(rollout_of(student).tracked)
    conditioned = np.square(c - tc).mean((-3, -2, -1))[tracked].sum() / T / 4
    want = 2 * np.square(e - te).mean() + 3 * conditioned
    assert loss_of(student, teacher) == pytest.approx(want, rel=1e-5)
    only = DistillationWeights(embedding=0.0, conditioned=1.0)
    assert loss_of(student, teacher, only) == pytest.approx(conditioned, rel=1e-5)


def test_untracked_objects_do_not_contribute() -> None:
    student, teacher = random_features(0), random_features(1)
    silent = ~rollout_of(student).tracked[..., None, None, None]
    changed = teacher._replace(conditioned=jnp.where(silent, 100.0, teacher.conditioned))
    assert loss_of(student, teacher) == loss_of(student, changed)


def test_finer_features_are_averaged() -> None:
    """Features that repeat each cell of the student's grid give the same loss as their average."""
    student, teacher = random_features(0), random_features(1)
    finer = jax.tree.map(lambda x: jnp.repeat(jnp.repeat(x, 8, -3), 8, -2), teacher)
    averaged = TeacherFeatures(*(jax.image.resize(x, (*x.shape[:-3], H, H, C), "linear") for x in finer))
    assert loss_of(student, finer) == pytest.approx(loss_of(student, averaged), rel=1e-5)


def test_channels_have_to_match() -> None:
    with pytest.raises(ConfigError, match="teacher's features have 4 channels, the student's 8; choose a teacher"):
        loss_of(random_features(0), random_features(0, channels=4))


def test_a_batch_without_objects_has_only_the_embedding_loss() -> None:
    student, teacher = random_features(0), random_features(1)
    untracked = rollout_of(student)._replace(tracked=jnp.zeros((T, B, N), bool))
    found = float(distillation_loss(untracked, teacher, WEIGHTS, B, jnp.asarray(0)))
    assert found == pytest.approx(2 * float(jnp.square(student.embedding - teacher.embedding).mean()), rel=1e-5)


def test_stored_features_are_read_exactly(tmp_path: Path) -> None:
    teacher = random_features(1)
    save_features(tmp_path, 5, KEYS, teacher)
    found = stored_teacher(tmp_path)(5, EXAMPLES, PLAN, KEYS)
    jax.tree.map(np.testing.assert_array_equal, found, teacher)
    assert isinstance(found, TeacherFeatures)


def test_stored_features_of_other_clips_are_refused(tmp_path: Path) -> None:
    teacher = stored_teacher(tmp_path)
    save_features(tmp_path, 0, KEYS, random_features(1))
    other_keys = jax.random.split(jax.random.key(1), B)
    shorter = jax.tree.map(lambda x: x[:, :1], EXAMPLES)._replace(valid=EXAMPLES.valid)
    for examples, keys in ((EXAMPLES, other_keys), (shorter, KEYS), (EXAMPLES, KEYS[:2])):
        with pytest.raises(CheckpointError, match=r"about other clips than step 0 .* Store the features with this"):
            teacher(0, examples, PLAN, keys)
    with pytest.raises(CheckpointError, match=r"00000001\.safetensors does not hold a teacher's features"):
        teacher(1, EXAMPLES, PLAN, KEYS)
    features_path(tmp_path, 2).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="does not hold a teacher's features"):
        teacher(2, EXAMPLES, PLAN, KEYS)


def test_stored_features_are_read_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ConfigError, match="only a run of one process"):
        stored_teacher(tmp_path)
