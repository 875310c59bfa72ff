"""Endless batches of synthetic examples. Example i of batch n depends on the seed, n and i only."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from edgetam_jax.data.bank import TextureBank, read_bank
from edgetam_jax.data.example import Example
from edgetam_jax.data.synthetic.clips import make_clip
from edgetam_jax.data.synthetic.config import ClipConfig
from edgetam_jax.errors import CheckpointError, ConfigError
from edgetam_jax.ops.tree import map_or_vmap, platform_of, resolve_vectorize


@dataclasses.dataclass(frozen=True)
class SyntheticConfig:
    """How examples are made from synthetic clips.

    Attributes:
        frames: Frames of an example.
        objects: Objects of an example.
        stills: Examples made from each scene, one after the other in time; more than 1 only with one frame.
        distractors: See `ClipConfig`, also for the following.
        occluders: See `ClipConfig`.
        radius: See `ClipConfig`.
        leaving: See `ClipConfig`.
        pace: See `ClipConfig`.
        bank: A file of real textures and things, which `edgetam-jax bank` makes; without one, all clips are synthetic.
        real: See `ClipConfig`.
        weight: Beside datasets, the relative number of synthetic examples; without datasets all are.
        least: The share of the first frame that an object must cover; otherwise its row is not valid.
    """

    frames: int = 8
    objects: int = 3
    stills: int = 1
    distractors: int = 1
    occluders: int = 1
    radius: tuple[float, float] = (0.07, 0.2)
    leaving: float = 0.3
    pace: float = 1.0
    bank: str = ""
    real: float = 1.0
    weight: float = 0.0
    least: float = 0.001

    def __post_init__(self) -> None:
        if self.stills < 1 or (self.stills > 1 and self.frames > 1):
            raise ConfigError(
                f"stills is {self.stills}; expected at least 1, and no more where there are several frames."
            )
        if not 0 <= self.weight < float("inf") or (self.weight and self.stills > 1):
            raise ConfigError(f"weight is {self.weight}; expected 0 or more, and 0 where there are stills of a scene.")
        if not 0 <= self.least < 1:
            raise ConfigError(f"least is {self.least}; expected a share, 0 to 1.")
        _ = self.clip(256)  # checks the other fields

    def clip(self, image_size: int) -> ClipConfig:
        """The configuration of the clips at an image size.

        Args:
            image_size: Side of the frames in pixels.

        Returns:
            The configuration of one clip.
        """
        return ClipConfig(
            frames=self.frames * self.stills,
            height=image_size,
            width=image_size,
            objects=self.objects,
            distractors=self.distractors,
            occluders=self.occluders,
            radius=self.radius,
            leaving=self.leaving,
            pace=self.pace,
            real=self.real,
        )


class SyntheticBatches:
    """An endless iterator like `data.Batches`. Each host makes its own part of every batch."""

    def __init__(
        self, config: SyntheticConfig, image_size: int, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)
    ) -> None:
        host, hosts = shard
        if batch_size % (hosts * config.stills):
            raise ConfigError(
                f"batch is {batch_size}; expected a multiple of {hosts * config.stills}, of the hosts and the stills."
            )
        bank = read_bank(config.bank) if config.bank else None
        self._description = {} if bank is None else {"bank": bank.fingerprint}
        self._key, self._taken = jax.random.key(seed), 0
        vectorize = resolve_vectorize(None, platform_of(self._key))
        self._make = partial(_make, config, image_size, vectorize, None if bank is None else bank.textures)
        count = batch_size // config.stills
        self._numbers = jnp.arange(count)[host * count // hosts : (host + 1) * count // hosts]

    def __next__(self) -> Example:
        self._taken += 1
        return self.take(self._taken - 1, len(self._numbers))

    def take(self, batch: int, count: int) -> Example:
        """The first scenes of a batch, all of their stills included."""
        return self._make(self._key, batch, self._numbers[:count])

    def get_state(self) -> dict[str, Any]:
        return {"batches": self._taken, **self._description}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues after the batch at which a state was taken.

        Raises:
            CheckpointError: The state is of another bank.
        """
        before, now = state.get("bank"), self._description.get("bank")
        if before != now:
            raise CheckpointError(
                f"the bank of textures has the fingerprint {now}, and that of the run was {before}. Continue with the "
                "bank of that run, or start a new one."
            )
        self._taken = state["batches"]

    def close(self) -> None:
        """Does nothing, for there are no threads."""


@partial(jax.jit, static_argnums=(0, 1, 2))
def _make(
    config: SyntheticConfig,
    image_size: int,
    vectorize: bool,
    bank: TextureBank | None,
    key: Array,
    step: int,
    numbers: Array,
) -> Example:
    def make_one(number: Array) -> Example:
        number_key = jax.random.fold_in(jax.random.fold_in(key, step), number)
        clip = make_clip(number_key, config.clip(image_size), bank, vectorize)
        frames = clip.frames.reshape(config.stills, config.frames, *clip.frames.shape[1:])
        masks = clip.masks.reshape(config.stills, config.frames, *clip.masks.shape[1:])
        return Example(frames, masks, masks[:, 0].mean((-2, -1)) >= max(config.least, 1 / image_size**2))

    examples = map_or_vmap(make_one, vectorize)(numbers)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), examples)
