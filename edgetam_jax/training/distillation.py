"""Distillation as in EdgeTAM: a student matches a teacher's image embeddings and its memory-conditioned features."""

import dataclasses
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Real
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
    """The weights of the two distillation losses.

    Attributes:
        embedding: Weight of the loss on the image embedding.
        conditioned: Weight of the loss on the embedding conditioned on memory.
    """

    embedding: float = 1.0
    conditioned: float = 1.0

    def __post_init__(self) -> None:
        check_weights(self, "distillation")


class TeacherFeatures(NamedTuple):
    """A teacher's features of B clips."""

    embedding: Float[Array, "T B H W C"]  # of the frames
    conditioned: Float[Array, "T B O H W C"]  # after memory attention


@runtime_checkable  # so that signatures can be checked at run time in tests
class Teacher(Protocol):
    """Anything that computes features of the same rollouts: a model, another framework's model, or a folder."""

    def __call__(self, step: int, examples: Example, plan: Plan, keys: Array) -> TeacherFeatures: ...


def model_teacher(model: Model, config: RolloutConfig) -> Teacher:
    """A teacher that is a model of this package."""

    @jax.jit
    def compute(model: Model, examples: Example, plan: Plan, keys: Array) -> TeacherFeatures:
        result = rollout(model, examples, plan, keys, config, remat=False)
        return TeacherFeatures(result.embedding, result.conditioned)

    return lambda step, examples, plan, keys: compute(model, examples, plan, keys)


def stored_teacher(folder: Path) -> Teacher:
    """A teacher whose features `save_features` wrote, one file for each step of the same recipe.

    Raises:
        ConfigError: The run has several processes.
        CheckpointError: A file of the teacher is missing, broken, or belongs to other clips.
    """
    if jax.process_count() > 1:
        raise ConfigError(
            f"{folder} holds a teacher's features, which only a run of one process can read. With several processes, "
            "set teacher to the teacher's checkpoint; each process then computes the features of its own clips."
        )

    def load(step: int, examples: Example, plan: Plan, keys: Array) -> TeacherFeatures:
        path = features_path(folder, step)
        try:
            values = load_file(path)
            stored_keys = values.pop("keys")
            features = TeacherFeatures(**{name: jnp.asarray(x) for name, x in values.items()})
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} does not hold a teacher's features ({error}). Store them for every step of this recipe."
            ) from error
        same_shape = features.embedding.shape[:2] == examples.frames.shape[1::-1]
        if not same_shape or not np.array_equal(stored_keys, _key_data(keys)):
            raise CheckpointError(
                f"{path} is about other clips than step {step} of this recipe: another seed, batch or length. "
                "Store the features with this recipe."
            )
        return features

    return load


def save_features(folder: Path, step: int, keys: Key[Array, "B"], features: TeacherFeatures) -> None:
    """Writes the features of one step, with the keys that identify its clips."""
    values = {"keys": _key_data(keys), **features._asdict()}
    with replacing(features_path(folder, step), force=True) as partial:
        save_file({name: np.ascontiguousarray(value) for name, value in values.items()}, partial)


def features_path(folder: Path, step: int) -> Path:
    """The file of a step's features."""
    return folder / f"{step:08d}.safetensors"


def _key_data(keys: Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(keys))


def distillation_loss(
    result: Rollout, features: TeacherFeatures, weights: DistillationWeights, clips: int, objects: Real[Array, ""]
) -> Float[Array, ""]:
    """The weighted mean squared error between a student's features and a teacher's.

    The teacher's features are resized to the student's grid, with antialiasing if they are finer.

    Args:
        result: The student's rollout of a part of a batch.
        features: The teacher's, of the same part.
        weights: The weights of the two errors.
        clips: The number of clips in the whole batch, over which the error of embeddings is averaged.
        objects: The number of objects in the whole batch, over which the error of conditioned features is averaged.
            Only tracked objects contribute.

    Raises:
        ConfigError: The numbers of channels differ.
    """
    embedding = _mean_squared_error(result.embedding, features.embedding)  # [T, B]
    conditioned = _mean_squared_error(result.conditioned, features.conditioned)  # [T, B, O]
    conditioned = jnp.where(result.tracked, conditioned, 0)
    embedding_loss = weights.embedding * embedding.mean(0).sum() / clips
    conditioned_loss = weights.conditioned * conditioned.mean(0).sum() / jnp.maximum(objects, 1)
    return embedding_loss + conditioned_loss


def _mean_squared_error(student: Float[Array, "*b H W C"], teacher: Float[Array, "*b H2 W2 C2"]) -> Float[Array, "*b"]:
    if teacher.shape[-1] != student.shape[-1]:
        raise ConfigError(
            f"the teacher's features have {teacher.shape[-1]} channels, the student's {student.shape[-1]}; "
            "choose a teacher with the student's hidden_dim."
        )
    shape = (*teacher.shape[:-3], *student.shape[-3:])
    teacher = jax.image.resize(teacher.astype(jnp.float32), shape, "linear", antialias=True)
    return jnp.square(student.astype(jnp.float32) - teacher).mean((-3, -2, -1))
