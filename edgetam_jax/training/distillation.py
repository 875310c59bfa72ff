"""Distillation after EdgeTAM: a student imitates what a teacher sees in frames, and what it makes of its memory."""

import dataclasses
from pathlib import Path
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from edgetam_jax.data.example import Example
from edgetam_jax.data.simulated_user import Plan
from edgetam_jax.errors import CheckpointError, ConfigError
from edgetam_jax.media.atomic import replacing
from edgetam_jax.model import Model
from edgetam_jax.training.interaction import RolloutConfig
from edgetam_jax.training.losses import check_weights
from edgetam_jax.training.rollout import Rollout, rollout


@dataclasses.dataclass(frozen=True)
class DistillationWeights:
    embedding: float = 1.0
    conditioned: float = 1.0

    def __post_init__(self) -> None:
        check_weights(self, "distillation")


class Features(NamedTuple):
    """What a teacher made of B clips."""

    embedding: Array  # [T, B, H, W, C] of the frames
    conditioned: Array  # [T, B, O, H, W, C] after memory attention


class Teacher(Protocol):
    """Anything that takes the same lessons: a model, another framework's model, or a folder of stored features."""

    def __call__(self, step: int, examples: Example, plan: Plan, keys: Array) -> Features: ...


def model_teacher(model: Model, course: RolloutConfig) -> Teacher:
    @jax.jit
    def look(model: Model, examples: Example, plan: Plan, keys: Array) -> Features:
        lesson = rollout(model, examples, plan, keys, course, remat=False)
        return Features(lesson.embedding, lesson.conditioned)

    return lambda step, examples, plan, keys: look(model, examples, plan, keys)


def stored_teacher(folder: Path) -> Teacher:
    """Features that `store` wrote, one file a step of the same run."""
    if jax.process_count() > 1:
        raise ConfigError(
            f"{folder} holds a teacher's features, which only a run of one process reads. With several, name the "
            "teacher's checkpoint, and each process looks at its own clips."
        )

    def look(step: int, examples: Example, plan: Plan, keys: Array) -> Features:
        path = stored_path(folder, step)
        try:
            values = load_file(path)
            of, features = values.pop("keys"), Features(**{name: jnp.asarray(x) for name, x in values.items()})
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} does not hold a teacher's features ({error}). Store them for every step of this recipe."
            ) from error
        if features.embedding.shape[:2] != examples.frames.shape[1::-1] or not np.array_equal(of, _key_data(keys)):
            raise CheckpointError(
                f"{path} is about other clips than step {step} of this recipe: another seed, batch or length. "
                "Store the features with this recipe."
            )
        return features

    return look


def store(folder: Path, step: int, keys: Array, features: Features) -> None:
    values = {"keys": _key_data(keys), **features._asdict()}
    with replacing(stored_path(folder, step), force=True) as partial:
        save_file({name: np.ascontiguousarray(value) for name, value in values.items()}, partial)


def stored_path(folder: Path, step: int) -> Path:
    return folder / f"{step:08d}.safetensors"


def _key_data(keys: Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(keys))


def distillation_loss(
    lesson: Rollout, features: Features, weights: DistillationWeights, clips: int, objects: Array
) -> Array:
    """The mean squared error of a student's lesson, which is about a part of a batch of `clips` and `objects`.

    Of frames the mean over clips; after memory attention that over objects, where they were asked for. What the teacher
    saw in more detail is averaged.
    """
    embedding = _distance(lesson.embedding, features.embedding)  # [T, B]
    conditioned = jnp.where(lesson.asked, _distance(lesson.conditioned, features.conditioned), 0)  # [T, B, O]
    return weights.embedding * embedding.mean(0).sum() / clips + weights.conditioned * conditioned.mean(
        0
    ).sum() / jnp.maximum(objects, 1)


def _distance(learnt: Array, taught: Array) -> Array:
    """The mean square over the last three axes, [H, W, C]."""
    if taught.shape[-1] != learnt.shape[-1]:
        raise ConfigError(
            f"the teacher's features have {taught.shape[-1]} channels, the student's {learnt.shape[-1]}; "
            "choose a teacher with the student's hidden_dim."
        )
    shape = (*taught.shape[:-3], *learnt.shape[-3:])
    taught = jax.image.resize(taught.astype(jnp.float32), shape, "linear", antialias=True)
    return jnp.square(learnt.astype(jnp.float32) - taught).mean((-3, -2, -1))
