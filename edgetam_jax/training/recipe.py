"""Recipes: all that a training run follows from, in a TOML file.

recipe = read_recipe("recipes/nano/1-images-128.toml")
"""

import dataclasses
import tomllib
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
from edgetam_jax.training.optimizer import Optimizer
from edgetam_jax.training.train_step import Norm, Settings

LARGEST = 1 << 31  # below it are the seeds that all random numbers take, and more than any size in pixels


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """On held-out synthetic clips, see `evaluation.held_out`, or on videos, see `evaluation.validation`."""

    every: int = 0  # steps; 0: never
    clips: int = 10
    frames: int = 16
    path: str = ""  # a dataset of videos instead of synthetic clips
    split: str | None = None  # of it, the one for validation
    videos: int = 10  # the first of the split

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
            raise ConfigError(f"evaluation is on {self.path}, but never; say after how many steps: every.")
        if self.split is not None and not self.path:
            raise ConfigError(f"evaluation is on the split {self.split} of no dataset; give its path, or no split.")


@dataclasses.dataclass(frozen=True)
class Recipe:
    start: str = ""  # a checkpoint of any kind; or nothing, and `network` says what starts from random parameters
    network: str = "nano"
    image_size: int = 256  # of the network
    frame_size: int = 0  # side of the frames that it is shown, and of their masks; 0: its image size
    steps: int = 1000
    batch: int = 4  # clips a step
    seed: int = 0
    norm: Norm = "frozen"
    accumulate: int = 1
    dtype: Dtype = "float32"
    shard_parameters: bool = False
    save_every: int = 200  # steps
    mask_size: int = 0  # side of the masks that the loss compares; 0: that of the frames
    user: User = dataclasses.field(default_factory=User)
    losses: LossWeights = dataclasses.field(default_factory=LossWeights)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    synthetic: SyntheticConfig = dataclasses.field(default_factory=SyntheticConfig)
    data: tuple[DataConfig, ...] = ()  # datasets instead of synthetic clips
    teacher: str = ""  # a checkpoint, or a folder of features that `store_features` wrote
    distillation: DistillationWeights = dataclasses.field(default_factory=DistillationWeights)
    evaluation: Evaluation = dataclasses.field(default_factory=Evaluation)

    def __post_init__(self) -> None:
        if self.network not in PRESETS:
            raise ConfigError(f"network is {self.network!r}; expected one of {sorted(PRESETS)}.")
        if self.norm not in get_args(Norm):
            raise ConfigError(f"norm is {self.norm!r}; expected one of {get_args(Norm)}.")
        for name in ("steps", "batch", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1.")
        for name in ("seed", "frame_size", "mask_size"):
            if not 0 <= getattr(self, name) < LARGEST:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 to {LARGEST - 1}.")
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
        _ = self.course  # is possible
        if not self.start:
            _ = PRESETS[self.network].resized(self.image_size)
        if not self.data:
            _ = self.synthetic.clip(self.frame_size or self.image_size)

    @property
    def frames(self) -> int:
        return self.data[0].frames if self.data else self.synthetic.frames

    @property
    def course(self) -> RolloutConfig:
        return RolloutConfig(self.user, self.losses, self.mask_size or None, self.dtype)

    def settings(self, config: Config) -> Settings:
        """For a network of this configuration."""
        return Settings(config, self.course, self.optimizer, self.norm, self.accumulate, self.distillation)


def read_recipe(path: str | Path) -> Recipe:
    try:
        values = tomllib.loads(Path(path).read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no recipe that can be read ({error}); expected a TOML file.") from error
    return recipe_from_dict(values, str(path))


def recipe_from_dict(values: dict[str, Any], where: str = "recipe") -> Recipe:
    values = dict(values)
    data = values.pop("data", [])
    if not isinstance(data, list):
        raise ConfigError(f"{where}: data is {data!r}; expected a list of tables, [[data]].")
    sets = tuple(_dataset(entry, f"{where}: data {number}") for number, entry in enumerate(data))
    return dataclass_from_dict(Recipe, values, where, data=sets)


def _dataset(values: Any, where: str) -> DataConfig:
    if not isinstance(values, dict) or not isinstance(values.get("path"), str):
        raise ConfigError(f"{where} has no path; expected the folder of a dataset.")
    return dataclass_from_dict(DataConfig, values, where)
