"""Batches are the same however they are made: by any number of threads or hosts, in one go or after a stop."""

import dataclasses
import itertools
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from edgetam_jax.data import Batches, DataConfig, batches, pipeline
from edgetam_jax.data.example import Example
from edgetam_jax.data.pipeline import ExampleIndex, ExampleReader
from edgetam_jax.errors import CheckpointError, ConfigError, FrameError
from tests.unit.data.footage import make_coco, make_videos

SIZE, BATCH, VIDEOS = 32, 4, 5


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    lengths = dict.fromkeys("abcde"[:VIDEOS], 4)
    return DataConfig(str(make_videos(tmp_path_factory.mktemp("videos"), lengths)), frames=2, objects=2)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    return DataConfig(str(make_coco(tmp_path_factory.mktemp("images"), 3)), frames=2, objects=2, weight=3.0)


@pytest.fixture(scope="module")
def expected(config: DataConfig) -> list[Example]:
    """Two epochs and a bit, made one by one."""
    return take(batches(config, SIZE, BATCH, seed=7, threads=0), 3)


def take(data: Batches, count: int) -> list[Example]:
    found = list(itertools.islice(data, count))
    data.close()
    return found


def assert_equal(found: list[Example], wanted: list[Example]) -> None:
    assert len(found) == len(wanted) > 0
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def differ(a: Example, b: Example) -> bool:
    return bool((a.frames != b.frames).any())


def places(configs: list[DataConfig], monkeypatch: pytest.MonkeyPatch, count: int) -> list[ExampleIndex]:
    """Where the examples of the first batches come from."""
    seen: list[ExampleIndex] = []

    class Listener(ExampleReader):
        def __call__(self, place: ExampleIndex) -> Any:
            seen.append(place)
            return np.zeros(1)

    monkeypatch.setattr(pipeline, "ExampleReader", Listener)
    take(batches(configs, SIZE, BATCH, 7, threads=0), count)
    return seen


def test_batches_are_examples(config: DataConfig, expected: list[Example]) -> None:
    data = batches(config, SIZE, BATCH, seed=7, threads=0)
    assert isinstance(data, Iterator) and iter(data) is data
    for batch in expected:
        assert isinstance(batch, Example)
        assert batch.frames.shape == (BATCH, 2, SIZE, SIZE, 3) and batch.frames.dtype == np.uint8
        assert batch.masks.shape == (BATCH, 2, 2, SIZE, SIZE) and batch.masks.dtype == bool
        assert batch.valid.shape == (BATCH, 2) and np.asarray(batch.valid).any(1).all()
        np.testing.assert_array_equal(batch.valid, np.asarray(batch.masks)[:, 0].any((-2, -1)))
    assert differ(expected[0], expected[1])


@pytest.mark.parametrize("threads", [1, 5])
def test_threads_change_nothing(config: DataConfig, expected: list[Example], threads: int) -> None:
    assert_equal(take(batches(config, SIZE, BATCH, seed=7, threads=threads), 3), expected)
    assert differ(take(batches(config, SIZE, BATCH, seed=8, threads=threads), 1)[0], expected[0])


def test_hosts_share_every_batch(config: DataConfig, expected: list[Example]) -> None:
    for hosts in (2, 4):
        parts = [take(batches(config, SIZE, BATCH, 7, shard=(host, hosts)), 3) for host in range(hosts)]
        joined = [jax.tree.map(lambda *rows: np.concatenate(rows), *part) for part in zip(*parts, strict=True)]
        assert_equal(joined, expected)


def test_hosts_are_known_from_jax(config: DataConfig, expected: list[Example], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert_equal(take(batches(config, SIZE, BATCH, 7), 1), [jax.tree.map(lambda x: x[2:], expected[0])])


@pytest.mark.parametrize("threads", [0, 3])
def test_resuming_in_the_middle_of_an_epoch(config: DataConfig, expected: list[Example], threads: int) -> None:
    """Elsewhere, from what JSON makes of the state, with another number of threads and of hosts; and in place."""
    data = batches(config, SIZE, BATCH, 7, threads=2)
    start = data.get_state()
    next(data)
    state = json.loads(json.dumps(data.get_state()))
    next(data)
    data.set_state(state)
    assert_equal(list(itertools.islice(data, 2)), expected[1:])
    data.set_state(start)
    assert_equal(take(data, 1), expected[:1])
    other = batches(config, SIZE, BATCH, 7, shard=(1, 2), threads=threads)
    other.set_state(state)
    assert_equal(take(other, 2), [jax.tree.map(lambda x: x[2:], batch) for batch in expected[1:]])


@pytest.mark.parametrize(
    "change", [{"seed": 8}, {"batch_size": 2}, {"videos": [6]}, {"batches": -1}, {"batches": None}, {"more": 1}]
)
def test_states_of_other_data_are_refused(config: DataConfig, expected: list[Example], change: dict[str, Any]) -> None:
    data = batches(config, SIZE, BATCH, 7, threads=0)
    with pytest.raises(CheckpointError, match="the state is of other data: .* Continue with the data, the seed"):
        data.set_state(data.get_state() | change)
    assert_equal(take(data, 1), expected[:1])


def test_an_epoch_shows_every_video_once(config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = places([config], monkeypatch, 10)
    epochs = [seen[i : i + VIDEOS] for i in range(0, len(seen), VIDEOS)]
    assert len(epochs) == 8
    for number, epoch in enumerate(epochs):
        assert {place.epoch for place in epoch} == {number}
        assert sorted(place.item for place in epoch) == list(range(VIDEOS))
    assert len({tuple(place.item for place in epoch) for epoch in epochs}) > 4


def test_an_example_depends_on_its_place_and_the_seed(config: DataConfig) -> None:
    reader = pickle.loads(pickle.dumps(ExampleReader([config, config], SIZE, 3)))
    first = reader(ExampleIndex(0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, ExampleReader([config], SIZE, 3)(ExampleIndex(0, 0, 1)))
    for other in (
        reader(ExampleIndex(0, 1, 1)),
        reader(ExampleIndex(1, 0, 1)),
        ExampleReader([config], SIZE, 4)(ExampleIndex(0, 0, 1)),
    ):
        assert differ(first, other)


def test_threads_change_no_mixture(config: DataConfig, images: DataConfig) -> None:
    assert_equal(*(take(batches([config, images], SIZE, BATCH, 7, threads=threads), 2) for threads in (0, 3)))


def test_datasets_are_mixed_by_weight(config: DataConfig, images: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = places([config, images], monkeypatch, 10)
    of_videos, of_images = ([place for place in seen if place.dataset == number] for number in (0, 1))
    assert (len(of_videos), len(of_images)) == (10, 30)
    assert sorted(place.item for place in of_images[:3]) == [0, 1, 2] and of_images[3].epoch == 1
    assert of_videos[-1].epoch == 1


def test_what_is_broken_is_named(tmp_path: Path, config: DataConfig) -> None:
    """In threads too, and again when asked again."""
    make_videos(tmp_path, {"a": 2, "b": 2})
    frame = tmp_path / "train" / "JPEGImages" / "b" / "00000.png"
    frame.write_bytes(b"")
    data = batches(dataclasses.replace(config, path=str(tmp_path)), SIZE, 2, 0, threads=2)
    with pytest.raises(FrameError, match="00000.png: not an image that can be read"):
        next(data)
    data.close()
    with pytest.raises(FrameError, match="no dataset that is known here"):
        batches(dataclasses.replace(config, path=str(frame.parent)), SIZE, 2, 0)


def test_videos_that_show_nothing_give_way(tmp_path: Path, config: DataConfig) -> None:
    """To others, the same ones each time; if there are none, that is said."""
    make_videos(tmp_path, {"empty": 3}, objects=0)
    nothing = dataclasses.replace(config, path=str(tmp_path))
    with pytest.raises(FrameError, match="empty: none of the 3 annotated frames .* shows an object"):
        next(batches(nothing, SIZE, 1, 0, threads=0))
    make_videos(tmp_path, {"a": 3, "b": 3})
    reader = ExampleReader([nothing], SIZE, 0)
    assert reader.lengths == [3]
    found = [reader(ExampleIndex(0, epoch, 2)) for epoch in range(6)]
    assert_equal([reader(ExampleIndex(0, epoch, 2)) for epoch in range(6)], found)
    assert all(np.asarray(example.valid).any() for example in found)


def test_impossible_batches(config: DataConfig, images: DataConfig) -> None:
    def check(message: str, change: Any = config, size: int = SIZE, batch: int = 4, **options: Any) -> None:
        with pytest.raises(ConfigError, match=message):
            batches(change, size, batch, **{"seed": 0} | options)

    check("there is no dataset", change=[])
    check("datasets differ in frames and objects", change=[config, dataclasses.replace(images, frames=3)])
    check("image_size is 33; expected that of the network", size=33)
    check(r"shard is \(2, 2\)", shard=(2, 2))
    check("batch_size is 3; expected a multiple of the number of hosts, 2", batch=3, shard=(0, 2))
    check("seed is -1", seed=-1)
    check("threads -2", threads=-2)


def test_without_grain(config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ConfigError, match="training data needs grain: pip install"):
        batches(config, SIZE, 1, 0)
