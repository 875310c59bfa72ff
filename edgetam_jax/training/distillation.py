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

from edgetam_jax.errors import CheckpointError, ConfigError
from edgetam_jax.files import replacing
from edgetam_jax.model import Model
from edgetam_jax.training.example import Example
from edgetam_jax.training.lesson import Lesson, take_lesson
from edgetam_jax.training.simulate import Plan
from edgetam_jax.training.talk import Course


@dataclasses.dataclass(frozen=True)
class DistillationWeights:
    embedding: float = 1.0
    conditioned: float = 1.0

    def __post_init__(self) -> None:
        if not min(self.embedding, self.conditioned) >= 0:
            raise ConfigError(f"the weights of distillation are {self}; expected 0 or more.")


class Features(NamedTuple):
    """What a teacher made of B clips."""

    embedding: Array  # [T, B, H, W, C] of the frames
    conditioned: Array  # [T, B, O, H, W, C] after memory attention


class Teacher(Protocol):
    """Anything that takes the same lessons: a model, another framework's model, or a folder of stored features."""

    def __call__(self, step: int, examples: Example, plan: Plan, key: Array) -> Features: ...


def model_teacher(model: Model, course: Course) -> Teacher:
    @jax.jit
    def look(model: Model, examples: Example, plan: Plan, key: Array) -> Features:
        lesson = take_lesson(model, examples, plan, key, course, remat=False)
        return Features(lesson.embedding, lesson.conditioned)

    return lambda step, examples, plan, key: look(model, examples, plan, key)


def stored_teacher(folder: Path) -> Teacher:
    """Features that `store` wrote, one file a step of the same run: same recipe, same seed."""

    def look(step: int, examples: Example, plan: Plan, key: Array) -> Features:
        path = _path(folder, step)
        try:
            features = Features(**{name: jnp.asarray(value) for name, value in load_file(path).items()})
        except (OSError, SafetensorError, TypeError) as error:
            raise CheckpointError(
                f"{path} does not hold a teacher's features ({error}). Store them for every step of this recipe."
            ) from error
        expected = (examples.frames.shape[1], examples.frames.shape[0])
        if features.embedding.shape[:2] != expected:
            raise CheckpointError(
                f"{path} is about {features.embedding.shape[1]} clips of {features.embedding.shape[0]} frames, "
                f"this step about {expected[1]} of {expected[0]}. Store the features with this recipe."
            )
        return features

    return look


def store(folder: Path, step: int, features: Features) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(_path(folder, step), force=True) as partial:
        save_file({name: np.ascontiguousarray(value) for name, value in features._asdict().items()}, partial)


def _path(folder: Path, step: int) -> Path:
    return folder / f"{step:08d}.safetensors"


def imitation(lesson: Lesson, features: Features, weights: DistillationWeights) -> Array:
    """The mean squared error of a student's lesson. What the teacher saw in more detail is averaged.

    After memory attention, of the objects that were asked for.
    """
    embedding = jnp.square(lesson.embedding - _fit(features.embedding, lesson.embedding.shape)).mean()
    conditioned = jnp.square(lesson.conditioned - _fit(features.conditioned, lesson.conditioned.shape)).mean(
        (-3, -2, -1)
    )
    asked = jnp.where(lesson.asked, conditioned, 0).sum() / jnp.maximum(lesson.asked.sum(), 1)
    return weights.embedding * embedding + weights.conditioned * asked


def _fit(taught: Array, shape: tuple[int, ...]) -> Array:
    if taught.shape[-1] != shape[-1]:
        raise ConfigError(
            f"the teacher's features have {taught.shape[-1]} channels, the student's {shape[-1]}; "
            "choose a teacher with the student's hidden_dim."
        )
    if taught.shape == shape:
        return taught
    return jax.image.resize(taught, shape, "linear", antialias=True)
