"""Recipes: everything that determines a training run, in a TOML file.

recipe = read_recipe("recipes/synthetic-128.toml", ["steps=100", "optimizer.learning_rate=1e-4"])
"""

import dataclasses
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from edgetam_jax.config import PRESETS, Config, dataclass_from_dict
from edgetam_jax.data import DataConfig
from edgetam_jax.data.simulated_user import User
from edgetam_jax.data.synthetic.batches import SyntheticConfig
from edgetam_jax.data.synthetic.config import MIN_SIDE
from edgetam_jax.errors import ConfigError
from edgetam_jax.training.distillation import DistillationWeights
from edgetam_jax.training.interaction import Dtype, RolloutConfig
from edgetam_jax.training.losses import LossWeights
from edgetam_jax.training.optimizer import OptimizerConfig
from edgetam_jax.training.train_step import Norm, TrainStepConfig

LIMIT = 1 << 31  # of seeds, which are 32-bit, and of sizes in pixels
# Former names of keys, by table.
RENAMED = {
    "optimizer": {
        "rate": "learning_rate",
        "final_rate": "final_lr_ratio",
        "rates": "lr_multipliers",
        "clip": "max_grad_norm",
        "average": "ema_decay",
    }
}


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation during training: on held-out synthetic clips (`evaluation.held_out`) or videos (`.validation`).

    Attributes:
        every: Number of steps between evaluations. 0 for none.
        clips: Number of synthetic clips.
        frames: Number of frames of each synthetic clip, at least 3.
        path: A dataset of videos, instead of synthetic clips.
        split: Split of the dataset. By default the one for validation.
        videos: Number of videos, the first ones of the split.

    Raises:
        ConfigError: A value is out of range, or two of them contradict each other.
    """

    every: int = 0
    clips: int = 10
    frames: int = 16
    path: str = ""
    split: str | None = None
    videos: int = 10

    def __post_init__(self) -> None:
        if self.every < 0 or self.clips < 1 or self.frames < 3:
            raise ConfigError(
                f"evaluation is every {self.every} steps on {self.clips} clips of {self.frames} frames; expected 0 or "
                "more, at least 1, and at least 3: the first and the last frame do not count."
            )
        if self.videos < 1:
            raise ConfigError(f"evaluation is on {self.videos} videos; expected at least 1.")
        if not isinstance(self.split, str | None):
            raise ConfigError(f"split is {self.split!r}; expected the name of one, or none.")
        if self.path and not self.every:
            raise ConfigError(f"evaluation has the path {self.path}, but every is 0; set every to a number of steps.")
        if self.split is not None and not self.path:
            raise ConfigError(f"evaluation has the split {self.split}, but no path; set path, or leave split out.")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that determines a training run. The defaults are those of a TOML file that leaves a key out.

    Attributes:
        start: A checkpoint of any kind. Without one, `network` is trained from scratch.
        network: A preset of `config.PRESETS`.
        image_size: Input size of the network in pixels.
        frame_size: Side of the frames and their masks in pixels. 0 for the image size.
        steps: Number of steps.
        batch: Number of clips in a step.
        seed: Seed of all random numbers.
        norm: "frozen" trains with the stored statistics of BatchNorm, "batch" with those of the batch.
        accumulate: Number of parts of a batch that are computed one after the other, to save memory.
        dtype: Type of the forward and backward pass: "float32" or "bfloat16".
        shard_parameters: Distribute parameters and optimizer state over devices.
        save_every: Number of steps between checkpoints.
        mask_size: Side of the masks that losses compare, in pixels. 0 for that of the frames.
        user: How objects are prompted and corrected.
        losses: Weights of the losses.
        optimizer: The optimizer and its schedule.
        synthetic: The synthetic clips.
        data: Datasets instead of synthetic clips, or beside them by `synthetic.weight`.
        teacher: A checkpoint to distill from, or a folder of features that `store_features` wrote.
        distillation: Weights of the distillation losses.
        evaluation: Evaluation during training.

    Raises:
        ConfigError: A value is out of range, or two of them contradict each other.
    """

    start: str = ""
    network: str = "nano"
    image_size: int = 256
    frame_size: int = 0
    steps: int = 1000
    batch: int = 4
    seed: int = 0
    norm: Norm = "frozen"
    accumulate: int = 1
    dtype: Dtype = "float32"
    shard_parameters: bool = False
    save_every: int = 200
    mask_size: int = 0
    user: User = dataclasses.field(default_factory=User)
    losses: LossWeights = dataclasses.field(default_factory=LossWeights)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    synthetic: SyntheticConfig = dataclasses.field(default_factory=SyntheticConfig)
    data: tuple[DataConfig, ...] = ()
    teacher: str = ""
    distillation: DistillationWeights = dataclasses.field(default_factory=DistillationWeights)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        if self.network not in PRESETS:
            raise ConfigError(f"network is {self.network!r}; expected one of {sorted(PRESETS)}.")
        if self.norm not in get_args(Norm):
            raise ConfigError(f"norm is {self.norm!r}; expected one of {get_args(Norm)}.")
        for name in ("steps", "batch", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1.")
        for name in ("seed", "frame_size", "mask_size"):
            if not 0 <= getattr(self, name) < LIMIT:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 to {LIMIT - 1}.")
        if self.frame_size % 2 or 0 < self.frame_size < MIN_SIDE:
            raise ConfigError(
                f"frame_size is {self.frame_size}; expected an even number from {MIN_SIDE} on, or 0: the image size."
            )
        if self.accumulate < 1 or self.batch % self.accumulate:
            raise ConfigError(f"accumulate is {self.accumulate}; expected a divisor of the batch, {self.batch}.")
        if self.norm == "batch" and (self.frames > 1 or self.accumulate > 1):
            raise ConfigError(
                f'norm is "batch" with {self.frames} frames and accumulate {self.accumulate}; statistics of the batch '
                'are for whole batches of single frames. Use norm = "frozen".'
            )
        _ = self.rollout_config  # checks its fields
        if not self.start:
            _ = PRESETS[self.network].resized(self.image_size)
        shape = self.synthetic.frames, self.synthetic.objects
        if self.data and self.synthetic.weight and shape != (self.data[0].frames, self.data[0].objects):
            raise ConfigError(
                f"synthetic clips have {self.synthetic.frames} frames and {self.synthetic.objects} objects, data has "
                f"{self.data[0].frames} and {self.data[0].objects}; a mixed batch needs the same of both."
            )
        if not self.data or self.synthetic.weight:
            _ = self.synthetic.clip(self.frame_size or self.image_size)

    @property
    def frames(self) -> int:
        """Number of frames of a clip."""
        return self.data[0].frames if self.data else self.synthetic.frames

    @property
    def rollout_config(self) -> RolloutConfig:
        """The part of the recipe that concerns a rollout."""
        return RolloutConfig(self.user, self.losses, self.mask_size or None, self.dtype)

    def train_step_config(self, model: Config) -> TrainStepConfig:
        """The part of the recipe that concerns a step.

        Args:
            model: The network's configuration.

        Returns:
            The static arguments of a step.
        """
        return TrainStepConfig(
            model, self.rollout_config, self.optimizer, self.norm, self.accumulate, self.distillation
        )


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe from a TOML file.

    Args:
        path: The file.
        overrides: Assignments such as `optimizer.learning_rate=1e-5`, with TOML values, which replace or add keys.

    Returns:
        The recipe.

    Raises:
        ConfigError: The file or an assignment cannot be read, a key is unknown, or a value cannot be used.
    """
    try:
        values = tomllib.loads(Path(path).read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a recipe that can be read ({error}); expected a TOML file.") from error
    for assignment in overrides:
        values = _merge(values, _parse_assignment(assignment))
    return recipe_from_dict(values, f"{path} with --set" if overrides else str(path))


def recipe_from_dict(values: dict[str, Any], where: str = "recipe") -> Recipe:
    """Builds a recipe from the content of a TOML file.

    Args:
        values: The content, as nested dictionaries.
        where: Where it is from, for error messages.

    Returns:
        The recipe.

    Raises:
        ConfigError: A key is unknown or has a former name, or a value cannot be used.
    """
    for table, names in RENAMED.items():
        entries = values.get(table)
        if isinstance(entries, dict) and (old := [name for name in names if name in entries]):
            renamed = ", ".join(f"{name} is now {names[name]}" for name in old)
            raise ConfigError(f"{where}.{table} has former names of keys: {renamed}. Rename them in the recipe.")
    values = dict(values)
    data = values.pop("data", [])
    if not isinstance(data, list):
        raise ConfigError(f"{where}: data is {data!r}; expected a list of tables, [[data]].")
    datasets = tuple(_dataset(entry, f"{where}: data {number}") for number, entry in enumerate(data))
    return dataclass_from_dict(Recipe, values, where, data=datasets)


def with_current_names(values: dict[str, Any]) -> dict[str, Any]:
    """Renames former names of keys as in `RENAMED`.

    Args:
        values: A stored recipe as nested dictionaries.

    Returns:
        The same with current names.
    """
    renamed = {
        table: {names.get(name, name): value for name, value in values[table].items()}
        for table, names in RENAMED.items()
        if table in values
    }
    return values | renamed


def _dataset(values: Any, where: str) -> DataConfig:
    if not isinstance(values, dict) or not isinstance(values.get("path"), str):
        raise ConfigError(f"{where} has no path; expected the folder of a dataset.")
    return dataclass_from_dict(DataConfig, values, where)


def _parse_assignment(text: str) -> dict[str, Any]:
    """`table.key=value` as nested dictionaries."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        values, reason = {}, f" ({error})"
    else:
        reason = ""
    if not values or "=" not in text:
        raise ConfigError(
            f"--set {text} cannot be read{reason}; expected KEY=VALUE with a TOML value, such as "
            'optimizer.learning_rate=1e-5, or dtype="bfloat16" with the quotes of a string.'
        )
    return values


def _merge(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries in which the values of `overrides` replace those of `values`."""
    merged = dict(values)
    for key, value in overrides.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
