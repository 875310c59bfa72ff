"""The memory bank: what is remembered of one object, in arrays of fixed size.

Prompted frames are kept for good. Of all frames, the six most recent ones and the fifteen most recent pointers are
kept in rings, in which a frame's number decides its place: `frame % size`. Nothing is ever shifted, and whether an
entry is attended follows from its frame number alone. All functions are pure and take one object; `vmap` them.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from edgetam_jax.config import Config
from edgetam_jax.types import Memory

FAR = 1 << 30  # farther than any frame


class Slots(NamedTuple):
    """Entries with their frame numbers. Where `valid` is False the rest may hold anything."""

    values: Array  # [S, ...]
    frames: Array  # [S] int32
    valid: Array  # [S] bool


class Bank(NamedTuple):
    prompted: Slots  # [K, L, D] tokens of prompted frames
    prompted_pointers: Array  # [K, C], in the slots of `prompted`
    recent: Slots  # [memory_frames - 1, L, D] tokens
    pointers: Slots  # [pointers - 1, C]


def init(config: Config, prompt_slots: int) -> Bank:
    """An empty bank that keeps up to `prompt_slots` prompted frames."""

    def slots(count: int, *shape: int) -> Slots:
        return Slots(jnp.zeros((count, *shape)), jnp.zeros(count, jnp.int32), jnp.zeros(count, bool))

    tokens = config.perceiver.tokens, config.memory_dim
    return Bank(
        prompted=slots(prompt_slots, *tokens),
        prompted_pointers=jnp.zeros((prompt_slots, config.hidden_dim)),
        recent=slots(config.memory_frames - 1, *tokens),
        pointers=slots(config.pointers - 1, config.hidden_dim),
    )


def has_memory(bank: Bank) -> Array:
    """Whether anything is remembered: [] bool."""
    return bank.prompted.valid.any() | bank.recent.valid.any()


def write_conditioning(bank: Bank, frame: Array, tokens: Array, pointer: Array) -> Bank:
    """Remembers a prompted frame for good.

    It takes its own slot again if it has one, else a free one, else that of the prompted frame farthest away in time.
    """
    kept = bank.prompted
    distance = jnp.where(kept.valid, jnp.abs(kept.frames - frame), FAR)
    slot = jnp.argmax(jnp.where(distance == 0, FAR + 1, distance))
    pointers = bank.prompted_pointers.at[slot].set(pointer)
    return bank._replace(prompted=_put(kept, slot, frame, tokens), prompted_pointers=pointers)


def write_recent(bank: Bank, frame: Array, tokens: Array, pointer: Array) -> Bank:
    """Remembers any frame for a while."""
    return bank._replace(
        recent=_put(bank.recent, frame % bank.recent.valid.size, frame, tokens),
        pointers=_put(bank.pointers, frame % bank.pointers.valid.size, frame, pointer),
    )


def _put(slots: Slots, index: Array, frame: Array, value: Array) -> Slots:
    return Slots(slots.values.at[index].set(value), slots.frames.at[index].set(frame), slots.valid.at[index].set(True))


def read(
    bank: Bank, frame: Array, direction: Array | int, config: Config, max_cond_frames: int | None = None
) -> Memory:
    """What `frame` may attend to when tracking runs forward (`direction` 1) or backward (-1).

    All prompted frames, past and future, or the `limit` of them that `nearest` chooses, and the pointers of those
    that are not in the future. Then the recent frames and pointers before `frame`, each once; a prompted frame that
    was not chosen counts as one of them.
    """
    kept = bank.prompted
    chosen = kept.valid
    if max_cond_frames is not None and max_cond_frames < chosen.size:
        chosen = select_closest_cond_frames(kept, frame, max_cond_frames)
    memories, pointers = config.memory_frames - 1, config.pointers - 1

    def recent(slots: Slots, reach: int) -> tuple[Array, Array]:
        distance = (frame - slots.frames) * direction
        return distance, slots.valid & (distance >= 1) & (distance <= reach)

    def once(slots: Slots) -> Array:
        return ~((slots.frames[:, None] == kept.frames) & kept.valid).any(-1)

    age, passed = recent(kept, memories)
    distance, near = recent(bank.recent, memories)
    rows = jnp.clip(jnp.concatenate([age, distance]) - 1, 0, memories - 1)
    last_row = jnp.pad(chosen, (0, distance.size))
    return Memory(
        frames=jnp.concatenate([kept.values, bank.recent.values]),
        rows=jnp.where(last_row, memories, rows),
        frames_valid=jnp.concatenate([chosen | passed, near & once(bank.recent)]),
        pointers=jnp.concatenate([bank.prompted_pointers, bank.pointers.values]),
        pointers_valid=jnp.concatenate(
            [
                jnp.where(chosen, age >= 0, recent(kept, pointers)[1]),
                recent(bank.pointers, pointers)[1] & once(bank.pointers),
            ]
        ),
    )


def select_closest_cond_frames(slots: Slots, frame: Array, max_cond_frames: int) -> Array:
    """[S] bool: the closest valid entry before `frame`, the closest at or after it, then others by their distance."""
    offset = slots.frames - frame
    distance = jnp.where(slots.valid, jnp.abs(offset), FAR)
    before = jnp.where(offset < 0, distance, FAR)
    after = jnp.where(offset >= 0, distance, FAR)
    index = jnp.arange(distance.size)
    first = ((index == jnp.argmin(before)) & (before < FAR)) | ((index == jnp.argmin(after)) & (after < FAR))
    order = jnp.argsort(jnp.where(first, distance - FAR, distance), stable=True)
    rank = jnp.zeros_like(index).at[order].set(index)
    return slots.valid & (rank < max_cond_frames)
