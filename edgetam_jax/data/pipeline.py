"""Endless batches of training examples, read by threads while the network trains.

    data = batches(DataConfig("DAVIS", frames=8), image_size=1024, batch_size=8, seed=0)
    example = next(data)        # on each host, its part of the batch
    state = data.get_state()
    data.set_state(state)       # the next batch is the one after that state

An example depends only on the seed, the epoch and the index of its video, whatever the number of threads and hosts.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from edgetam_jax.data.example import DataConfig, Example, make_example
from edgetam_jax.data.footage import FootageSource, NoObjectError
from edgetam_jax.data.layouts import open_training_data
from edgetam_jax.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import grain


_TRIES = 20


class ExampleIndex(NamedTuple):
    """Where an example comes from; it depends on this and the seed only."""

    dataset: int
    epoch: int
    item: int


class ExampleReader:
    """Makes the example of an index, in any thread or process."""

    def __init__(self, configs: Sequence[DataConfig], image_size: int, seed: int) -> None:
        self._configs, self._image_size, self._seed = configs, image_size, seed
        self._sources: list[FootageSource] = [open_training_data(config.path, config.split) for config in configs]

    @property
    def lengths(self) -> list[int]:
        """The number of videos or images of each dataset."""
        return [len(source) for source in self._sources]

    def __call__(self, where: ExampleIndex) -> Example:
        """A video or image that shows no object which is large enough is replaced by a random one of its dataset."""
        rng = np.random.default_rng([self._seed, *where])
        config, source, index = self._configs[where.dataset], self._sources[where.dataset], where.item
        for _ in range(_TRIES):
            try:
                return make_example(source[index], config, self._image_size, rng)
            except NoObjectError:
                index = int(rng.integers(len(source)))
        return make_example(source[index], config, self._image_size, rng)


class Batches:
    """An endless iterator of batches.

    Its state can be stored as JSON: the number of batches that were taken, and a description of the data.
    """

    def __init__(
        self, examples: "grain.MapDataset[Example]", batch_size: int, threads: int, description: dict[str, Any]
    ) -> None:
        self._examples, self._batch_size, self._threads, self._description = examples, batch_size, threads, description
        self._start(0)

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Example:
        batch = next(self._iterator)
        self._taken += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """The state after the batches that were taken."""
        return {"batches": self._taken, **self._description}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues after the batch at which a state was taken, also with another number of hosts.

        Raises:
            CheckpointError: The state is of other data, another seed or another batch size.
        """
        state = dict(state)
        taken = state.pop("batches", None)
        if not isinstance(taken, int) or taken < 0 or state != self._description:
            raise CheckpointError(
                f"the state is of other data: {state}, here {self._description}. Continue with the data, the seed and "
                "the batch size of that run, or start a new one."
            )
        self.close()
        self._start(taken)

    def close(self) -> None:
        """Stops the threads."""
        self._iterator.close()

    def _start(self, taken: int) -> None:
        grain = _grain()
        # Two batches ahead: one is read while the other is ready.
        ahead = max(2 * self._batch_size, self._threads) if self._threads else 0
        options = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=ahead)
        examples = self._examples[taken * self._batch_size :].to_iter_dataset(options)
        self._iterator, self._taken = iter(examples.batch(self._batch_size, drop_remainder=True)), taken


def batches(
    config: DataConfig | Sequence[DataConfig],
    image_size: int,
    batch_size: int,
    seed: int,
    shard: tuple[int, int] | None = None,
    threads: int = 4,
) -> Batches:
    """Shuffled examples of one dataset, or of several mixed by their weights, augmented anew in every epoch.

    Args:
        config: One dataset or several, with the same number of frames and objects.
        image_size: The network's image size.
        batch_size: Examples of a batch, of all hosts together.
        seed: The seed of order and augmentation.
        shard: The index of this host, and the number of hosts; by default those of jax. Host k of n gets the k-th part
            of every batch, so that the hosts together see the batches that one host would see.
        threads: How many threads read examples; with 0, examples are made when a batch is taken.

    Raises:
        ConfigError: The arguments do not fit together, or grain is missing.
        FrameError: A dataset cannot be opened.
    """
    configs = (config,) if isinstance(config, DataConfig) else tuple(config)
    host, hosts = (jax.process_index(), jax.process_count()) if shard is None else shard
    _check(configs, image_size, batch_size, seed, (host, hosts), threads)
    reader = ExampleReader(configs, image_size, seed)
    host_batch_size = batch_size // hosts
    grain = _grain()
    streams = [_shuffled(number, length, seed) for number, length in enumerate(reader.lengths)]
    indices = grain.MapDataset.mix(streams, weights=[config.weight for config in configs])
    # One stream for each row of this host's batches, and then one row after the other.
    rows = [indices[host * host_batch_size + row :: batch_size] for row in range(host_batch_size)]
    description = {
        "seed": seed,
        "batch_size": batch_size,
        "videos": reader.lengths,
        "weights": [config.weight for config in configs],
    }
    return Batches(grain.MapDataset.mix(rows).map(reader), host_batch_size, threads, description)


def _shuffled(number: int, length: int, seed: int) -> "grain.MapDataset[ExampleIndex]":
    """The indices of one dataset in random order, another one in every epoch, without end."""
    dataset_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    order = _grain().MapDataset.range(length).shuffle(seed=dataset_seed).repeat()
    return order.map_with_index(lambda position, index: ExampleIndex(number, position // length, index))


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
