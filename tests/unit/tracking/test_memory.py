"""The bank of fixed size against the original's dictionaries, which keep all frames."""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgetam_jax.config import Config, DecoderConfig, PerceiverConfig
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank, MemoryEntry
from edgetam_jax.types import Memory
from tests.support.shapes import examples

CONFIG = Config(
    image_size=64,
    hidden_dim=16,
    memory_dim=8,
    decoder=DecoderConfig(heads=2),
    perceiver=PerceiverConfig(latents=2, window_grid=2),
)
SLOTS = 4
TOKENS = CONFIG.perceiver.tokens, CONFIG.memory_dim

write_conditioning, write_recent = jax.jit(memory.write_conditioning), jax.jit(memory.write_recent)
read = jax.jit(partial(memory.read, config=CONFIG), static_argnames="max_cond_frames")


class Attended(NamedTuple):
    """The entries that a frame attends to, each as the number that fills its values."""

    frames: list[tuple[int, int]]  # row of the temporal embedding, entry
    pointers: list[int]


class Naive:
    """The original's memory: dictionaries by frame, from which nothing is removed."""

    def __init__(self) -> None:
        self.conditioning: dict[int, int] = {}
        self.other: dict[int, int] = {}

    def write_conditioning(self, frame: int, entry: int) -> None:
        self.conditioning[frame] = entry
        self.other.pop(frame, None)

    def write_recent(self, frame: int, entry: int) -> None:
        if frame not in self.conditioning:
            self.other[frame] = entry

    def read(self, frame: int, direction: int, max_cond_frames: int | None) -> Attended:
        chosen = self.choose(frame, max_cond_frames)
        others = {**self.other, **{t: e for t, e in self.conditioning.items() if t not in chosen}}
        frames = [(CONFIG.memory_frames - 1, entry) for entry in chosen.values()]
        for distance in range(1, CONFIG.memory_frames):
            if (t := frame - direction * distance) in others:
                frames.append((distance - 1, others[t]))
        pointers = [entry for t, entry in chosen.items() if (frame - t) * direction >= 0]
        for distance in range(1, CONFIG.pointers):
            if (t := frame - direction * distance) in others:
                pointers.append(others[t])
        return Attended(sorted(frames), sorted(pointers))

    def choose(self, frame: int, max_cond_frames: int | None) -> dict[int, int]:
        if max_cond_frames is None or len(self.conditioning) <= max_cond_frames:
            return self.conditioning
        before = [t for t in self.conditioning if t < frame]
        after = [t for t in self.conditioning if t >= frame]
        first = [pick(side) for pick, side in ((max, before), (min, after)) if side]
        rest = sorted((t for t in self.conditioning if t not in first), key=lambda t: abs(t - frame))
        return {t: self.conditioning[t] for t in (first + rest)[:max_cond_frames]}


class Pair:
    """Both memories, written alike."""

    def __init__(self) -> None:
        self.bank, self.naive, self.entries = memory.init(CONFIG, SLOTS), Naive(), 0

    def write_conditioning(self, frame: int) -> None:
        self.naive.write_conditioning(frame, self._write(write_conditioning, frame))

    def write_recent(self, frame: int) -> None:
        self.naive.write_recent(frame, self._write(write_recent, frame))

    def _write(self, function: Any, frame: int) -> int:
        self.entries += 1
        value = float(self.entries)
        self.bank = function(self.bank, frame, _entry(value))
        return self.entries

    def attended(self, frame: int, direction: int = 1, max_cond_frames: int | None = None) -> Attended:
        return attended(read(self.bank, frame, direction, max_cond_frames=max_cond_frames))


def attended(got: Memory) -> Attended:
    got = Memory(*map(np.asarray, got))
    for values in (*got.frames[got.frames_valid], *got.pointers[got.pointers_valid]):
        assert (values == values.flat[0]).all()
    frames = [(int(row), int(x.flat[0])) for x, row, ok in zip(*got[:3], strict=True) if ok]
    return Attended(sorted(frames), sorted(int(x[0]) for x in got.pointers[got.pointers_valid]))


frame_numbers = st.integers(0, 60)
prompted_frames = st.lists(frame_numbers, max_size=SLOTS, unique=True)
limits = st.sampled_from([None, 2, 3])


@examples(60)
@given(
    prompted=prompted_frames,
    walk=st.lists(frame_numbers, min_size=1, max_size=30, unique=True),
    backward=st.booleans(),
    max_cond_frames=limits,
)
@example(prompted=[0], walk=list(range(30)), backward=False, max_cond_frames=None)
@example(prompted=[29, 3], walk=list(range(30)), backward=True, max_cond_frames=None)
@example(prompted=[0, 2, 5, 20], walk=list(range(24)), backward=False, max_cond_frames=2)
def test_reads_the_same_as_dictionaries(
    prompted: list[int], walk: list[int], backward: bool, max_cond_frames: int | None
) -> None:
    """Prompts first, past and future; then tracking in one direction, with some frames left out."""
    both, direction = Pair(), -1 if backward else 1
    for frame in prompted:
        both.write_conditioning(frame)
    for frame in sorted(walk, reverse=backward):
        assert both.attended(frame, direction, max_cond_frames) == both.naive.read(frame, direction, max_cond_frames)
        both.write_recent(frame)
        if frame in prompted:
            both.write_conditioning(frame)


@examples(60)
@given(
    history=st.lists(st.tuples(st.booleans(), frame_numbers), max_size=30),
    frame=frame_numbers,
    direction=st.sampled_from([1, -1]),
)
def test_never_reads_more_than_dictionaries(history: list[tuple[bool, int]], frame: int, direction: int) -> None:
    """In any order of writing: entries may be replaced, but none is taken for another."""
    both = Pair()
    for prompted, t in history:
        if prompted and (t in both.naive.conditioning or len(both.naive.conditioning) < SLOTS):
            both.write_recent(t)
            both.write_conditioning(t)
        elif t not in both.naive.conditioning:
            both.write_recent(t)
    got, want = both.attended(frame, direction), both.naive.read(frame, direction, None)
    for mine, theirs in zip(got, want, strict=True):
        assert set(mine) <= set(theirs)
        assert len(set(mine)) == len(mine)


@examples(30)
@given(start=frame_numbers, order=st.permutations(range(6)), prompts=st.permutations([3, 100, 0, 50]))
def test_order_of_writing_does_not_matter(start: int, order: list[int], prompts: list[int]) -> None:
    banks = []
    for frames, kept in ((range(6), sorted(prompts)), (order, prompts)):
        bank = memory.init(CONFIG, SLOTS)
        for t in kept:
            bank = write_conditioning(bank, t, _entry(1.0 + t))
        for t in frames:
            bank = write_recent(bank, start + t, _entry(1000.0 + t))
        banks.append(bank)
    for max_cond_frames in (None, 2):
        first, second = (attended(read(bank, start + 6, 1, max_cond_frames=max_cond_frames)) for bank in banks)
        assert first == second


@examples(30)
@given(prompted=prompted_frames, count=st.integers(0, 5), seed=st.integers(0, 9))
def test_garbage_in_invalid_slots_changes_nothing(prompted: list[int], count: int, seed: int) -> None:
    both = Pair()
    for frame in prompted:
        both.write_conditioning(frame)
    for frame in range(10, 10 + count):
        both.write_recent(frame)
    clean, dirty = both.bank, _with_garbage(both.bank, seed)
    for frame in (0, 10 + count, 40):
        for max_cond_frames in (None, 2):
            assert attended(read(clean, frame, 1, max_cond_frames=max_cond_frames)) == attended(
                read(dirty, frame, 1, max_cond_frames=max_cond_frames)
            )
    assert bool(memory.has_memory(clean)) == bool(memory.has_memory(dirty)) == bool(prompted or count)
    after = [
        attended(read(write_conditioning(write_recent(b, 9, _entry(7)), 9, _entry(8)), 10, 1)) for b in (clean, dirty)
    ]
    assert after[0] == after[1]


def _with_garbage(bank: Bank, seed: int) -> Bank:
    rng = np.random.default_rng(seed)

    def slots(s: memory.Slots) -> memory.Slots:
        valid = np.asarray(s.valid)
        values = np.where(valid[:, *[None] * (s.values.ndim - 1)], s.values, np.nan)
        return memory.Slots(jnp.asarray(values), jnp.where(valid, s.frames, rng.integers(0, 60, valid.size)), s.valid)

    pointers = jnp.where(bank.conditioning.valid[:, None], bank.conditioning_pointers, jnp.nan)
    return Bank(slots(bank.conditioning), pointers, slots(bank.recent), slots(bank.pointers))


def _entry(value: float) -> MemoryEntry:
    return MemoryEntry(jnp.full(TOKENS, value), jnp.full(CONFIG.hidden_dim, value))


def test_an_empty_bank_has_no_memory() -> None:
    bank = memory.init(CONFIG, SLOTS)
    assert not memory.has_memory(bank)
    assert attended(read(bank, 5, 1)) == Attended([], [])
    assert memory.has_memory(write_recent(bank, 0, _entry(1)))
    assert memory.has_memory(write_conditioning(bank, 0, _entry(1)))


def test_a_full_bank_has_all_rows_and_pointers() -> None:
    both = Pair()
    for frame in range(40):
        both.write_recent(frame)
        if frame == 0:
            both.write_conditioning(frame)
    got = both.attended(40)
    assert [row for row, _ in got.frames] == [0, 1, 2, 3, 4, 5, CONFIG.memory_frames - 1]
    assert len(got.pointers) == CONFIG.pointers


@pytest.mark.parametrize(
    ("prompted", "new", "left"),
    [
        ([10, 20, 30, 40], 45, {20, 30, 40, 45}),
        ([10, 20, 30, 40], 2, {10, 20, 30, 2}),
        ([10, 20, 30, 40], 30, {10, 20, 30, 40}),
        ([10], 12, {10, 12}),
    ],
)
def test_a_full_bank_replaces_the_farthest_conditioning_frame(
    prompted: Iterable[int], new: int, left: set[int]
) -> None:
    both = Pair()
    for frame in (*prompted, new):
        both.write_conditioning(frame)
    slots = jax.tree.map(np.asarray, both.bank.conditioning)
    assert set(slots.frames[slots.valid].tolist()) == left
    assert slots.valid.sum() == len(left)
    [last] = slots.values[slots.valid & (slots.frames == new)]
    assert (last == both.entries).all()


@pytest.mark.parametrize(
    ("prompted", "frame", "max_cond_frames", "chosen"),
    [
        ([3, 9, 12, 30], 10, 1, {9}),
        ([12, 3, 9, 30], 11, 1, {12}),
        ([3, 9, 12, 30], 10, 2, {9, 12}),
        ([3, 9, 12, 30], 12, 2, {9, 12}),
        ([3, 9, 12, 30], 40, 2, {30, 12}),
        ([3, 9, 12, 30], 0, 3, {3, 9, 12}),
        ([3, 9, 12, 30], 25, 2, {12, 30}),
    ],
)
def test_select_closest_cond_frames(prompted: list[int], frame: int, max_cond_frames: int, chosen: set[int]) -> None:
    both = Pair()
    for t in prompted:
        both.write_conditioning(t)
    mask = np.asarray(memory.select_closest_cond_frames(both.bank.conditioning, jnp.asarray(frame), max_cond_frames))
    assert set(np.asarray(both.bank.conditioning.frames)[mask].tolist()) == chosen
