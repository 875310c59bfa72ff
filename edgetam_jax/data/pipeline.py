"""Endless batches of examples, read by threads while the network learns; the same ones however many threads there are.

    data = batches(DataConfig("DAVIS", frames=8), image_size=1024, batch_size=8, seed=0)
    example = next(data)                # on each host its part of the batch
    data.set_state(saved)               # what `data.get_state()` gave: goes on after that batch

An example follows from the seed, the epoch and the number of its video alone.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from edgetam_jax.data.example import Example
from edgetam_jax.data.examples import DataConfig, make_example
from edgetam_jax.data.footage import NothingShownError, Source
from edgetam_jax.data.layouts import open_training_data
from edgetam_jax.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import grain


_TRIES = 20


class Place(NamedTuple):
    """Where an example comes from; with the seed, all that it depends on."""

    dataset: int
    epoch: int
    index: int


class Reader:
    """Makes the example of a place. Works in any thread or process."""

    def __init__(self, configs: Sequence[DataConfig], image_size: int, seed: int) -> None:
        self._configs, self._image_size, self._seed = configs, image_size, seed
        self._sources: list[Source] = [open_training_data(config.path, config.split) for config in configs]

    @property
    def lengths(self) -> list[int]:
        """How many videos or images each dataset has."""
        return [len(source) for source in self._sources]

    def __call__(self, place: Place) -> Example:
        """Where a video or image shows nothing that is large enough to learn from, another, drawn at random."""
        rng = np.random.default_rng([self._seed, *place])
        config, source, index = self._configs[place.dataset], self._sources[place.dataset], place.index
        for _ in range(_TRIES):
            try:
                return make_example(source[index], config, self._image_size, rng)
            except NothingShownError:
                index = int(rng.integers(len(source)))
        return make_example(source[index], config, self._image_size, rng)


class Batches:
    """An endless iterator of batches. Its state, which JSON can hold, is how many were taken, and of what data."""

    def __init__(self, examples: "grain.MapDataset[Example]", share: int, threads: int, what: dict[str, Any]) -> None:
        self._examples, self._share, self._threads, self._what = examples, share, threads, what
        self._start(0)

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Example:
        batch = next(self._iterator)
        self._taken += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        return {"batches": self._taken, **self._what}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on after the batch at which the state was taken, whatever the number of hosts then and now."""
        state = dict(state)
        taken = state.pop("batches", None)
        if not isinstance(taken, int) or taken < 0 or state != self._what:
            raise CheckpointError(
                f"the state is of other data: {state}, here {self._what}. Go on with the data, the seed and the batch "
                "size of that run, or begin anew."
            )
        self.close()
        self._start(taken)

    def close(self) -> None:
        """Ends the threads."""
        self._iterator.close()

    def _start(self, taken: int) -> None:
        grain = _grain()
        # Two batches ahead: one is being read while another waits.
        ahead = max(2 * self._share, self._threads) if self._threads else 0
        options = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=ahead)
        examples = self._examples[taken * self._share :].to_iter_dataset(options)
        self._iterator, self._taken = iter(examples.batch(self._share, drop_remainder=True)), taken


def batches(
    config: DataConfig | Sequence[DataConfig],
    image_size: int,
    batch_size: int,
    seed: int,
    shard: tuple[int, int] | None = None,
    threads: int = 4,
) -> Batches:
    """Shuffled examples of one dataset, or of several by their weights, each anew in every epoch.

    Host k of n, which is `shard` or else known from jax, gets the k-th part of every batch of `batch_size`: together
    the hosts see what one would see. With 0 `threads` examples are made when they are asked for.
    """
    configs = (config,) if isinstance(config, DataConfig) else tuple(config)
    host, hosts = (jax.process_index(), jax.process_count()) if shard is None else shard
    _check(configs, image_size, batch_size, seed, (host, hosts), threads)
    reader = Reader(configs, image_size, seed)
    share = batch_size // hosts
    grain = _grain()
    streams = [_places(number, length, seed) for number, length in enumerate(reader.lengths)]
    places = grain.MapDataset.mix(streams, weights=[config.weight for config in configs])
    # One dataset for each row of a batch, and from them in turns.
    rows = [places[host * share + row :: batch_size] for row in range(share)]
    what = {"seed": seed, "batch_size": batch_size, "videos": reader.lengths, "weights": [c.weight for c in configs]}
    return Batches(grain.MapDataset.mix(rows).map(reader), share, threads, what)


def _places(number: int, length: int, seed: int) -> "grain.MapDataset[Place]":
    """All of a dataset in random order, and again in another, without end."""
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    order = _grain().MapDataset.range(length).shuffle(seed=own).repeat()
    return order.map_with_index(lambda position, index: Place(number, position // length, index))


def _check(
    configs: Sequence[DataConfig], image_size: int, batch_size: int, seed: int, shard: tuple[int, int], threads: int
) -> None:
    if not configs:
        raise ConfigError("there is no dataset; expected at least one.")
    if len({(config.frames, config.objects) for config in configs}) > 1:
        shapes = ", ".join(f"{config.path}: {config.frames} and {config.objects}" for config in configs)
        raise ConfigError(f"datasets differ in frames and objects ({shapes}); one batch needs the same of all.")
    if image_size < 2 or image_size % 2:
        raise ConfigError(f"image_size is {image_size}; expected that of the network, an even number.")
    host, hosts = shard
    if not 0 <= host < hosts:
        raise ConfigError(f"shard is {shard}; expected the number of a host, from 0, and how many there are.")
    if batch_size < 1 or batch_size % hosts:
        raise ConfigError(f"batch_size is {batch_size}; expected a multiple of the number of hosts, {hosts}.")
    if seed < 0 or threads < 0:
        raise ConfigError(f"seed is {seed} and threads {threads}; expected 0 or more.")


def _grain() -> Any:
    try:
        import grain
    except ImportError as error:
        raise ConfigError("training data needs grain: pip install 'edgetam-jax[train]'.") from error
    return grain
