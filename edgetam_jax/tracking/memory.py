"""The memory bank of one object, in arrays of fixed size.

Conditioning frames, those with a prompt, stay until their slot is needed. Of all frames, the latest six and the latest
fifteen object pointers are in ring buffers, where a frame has the slot `frame % size`. Nothing is shifted: what a
frame attends to follows from the frame numbers alone. Functions are pure and take one object; `vmap` them for more.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, Int32, Shaped

from edgetam_jax.config import Config
from edgetam_jax.types import Memory

FAR = 1 << 30  # farther than any frame


class MemoryEntry(NamedTuple):
    """What is remembered of an object on one frame."""

    tokens: Float[Array, "*b L D"]
    pointer: Float[Array, "*b C"]


class Slots(NamedTuple):
    """Values with their frame numbers. Where `valid` is False, the others are undefined."""

    values: Array  # [S, ...]
    frames: Array  # [S] int32
    valid: Array  # [S] bool


class Bank(NamedTuple):
    """The memory of one object, with K slots for conditioning frames."""

    conditioning: Slots  # [K, L, D] tokens of conditioning frames
    conditioning_pointers: Array  # [K, C], in the slots of `conditioning`
    recent: Slots  # [memory_frames - 1, L, D] tokens
    pointers: Slots  # [pointers - 1, C]


def init(config: Config, prompt_slots: int) -> Bank:
    """An empty bank with slots for `prompt_slots` conditioning frames."""

    def slots(count: int, *shape: int) -> Slots:
        return Slots(jnp.zeros((count, *shape)), jnp.zeros(count, jnp.int32), jnp.zeros(count, bool))

    tokens = config.perceiver.tokens, config.memory_dim
    return Bank(
        conditioning=slots(prompt_slots, *tokens),
        conditioning_pointers=jnp.zeros((prompt_slots, config.hidden_dim)),
        recent=slots(config.memory_frames - 1, *tokens),
        pointers=slots(config.pointers - 1, config.hidden_dim),
    )


def has_memory(bank: Bank) -> Bool[Array, ""]:
    """Whether the bank holds anything."""
    return bank.conditioning.valid.any() | bank.recent.valid.any()


def write_conditioning(bank: Bank, frame: Int[Array, ""] | int, entry: MemoryEntry) -> Bank:
    """Writes a conditioning frame.

    It replaces an earlier entry of the same frame, else takes a free slot, else replaces the conditioning frame that is
    farthest away in time.
    """
    slots = bank.conditioning
    distance = jnp.where(slots.valid, jnp.abs(slots.frames - frame), FAR)
    slot = jnp.argmax(jnp.where(distance == 0, FAR + 1, distance))
    pointers = bank.conditioning_pointers.at[slot].set(entry.pointer)
    return bank._replace(conditioning=_write(slots, slot, frame, entry.tokens), conditioning_pointers=pointers)


def write_recent(bank: Bank, frame: Int[Array, ""] | int, entry: MemoryEntry) -> Bank:
    """Writes any frame to the ring buffers."""
    return bank._replace(
        recent=_write(bank.recent, frame % bank.recent.valid.size, frame, entry.tokens),
        pointers=_write(bank.pointers, frame % bank.pointers.valid.size, frame, entry.pointer),
    )


def _write(
    slots: Slots, index: Int[Array, ""] | int, frame: Int[Array, ""] | int, value: Shaped[Array, "..."]
) -> Slots:
    return Slots(slots.values.at[index].set(value), slots.frames.at[index].set(frame), slots.valid.at[index].set(True))


def read(
    bank: Bank,
    frame: Int[Array, ""] | int,
    direction: Int[Array, ""] | int,
    config: Config,
    max_cond_frames: int | None = None,
) -> Memory:
    """What `frame` attends to when tracking runs forward (`direction` 1) or backward (-1).

    These are the conditioning frames, past and future, or the `max_cond_frames` of them that
    `select_closest_cond_frames` chooses, with the pointers of those that are not in the future. Then the recent frames
    and pointers before `frame`, each once. A conditioning frame that was not chosen counts as a recent frame.
    """
    slots = bank.conditioning
    chosen = slots.valid
    if max_cond_frames is not None and max_cond_frames < chosen.size:
        chosen = select_closest_cond_frames(slots, frame, max_cond_frames)
    memories, pointers = config.memory_frames - 1, config.pointers - 1

    def within(slots: Slots, reach: int) -> tuple[Int32[Array, "s"], Bool[Array, "s"]]:
        """How many frames ago each slot's frame was, and whether it is one of the last `reach`."""
        age = (frame - slots.frames) * direction
        return age, slots.valid & (age >= 1) & (age <= reach)

    def not_conditioning(ring: Slots) -> Bool[Array, "s"]:
        return ~((jnp.expand_dims(ring.frames, 1) == jnp.expand_dims(slots.frames, 0)) & slots.valid[None]).any(-1)

    conditioning_age, conditioning_within = within(slots, memories)
    recent_age, recent_within = within(bank.recent, memories)
    rows = jnp.clip(jnp.concatenate([conditioning_age, recent_age]) - 1, 0, memories - 1)
    last_row = jnp.pad(chosen, (0, recent_age.size))
    return Memory(
        frames=jnp.concatenate([slots.values, bank.recent.values]),
        rows=jnp.where(last_row, memories, rows),
        frames_valid=jnp.concatenate([chosen | conditioning_within, recent_within & not_conditioning(bank.recent)]),
        pointers=jnp.concatenate([bank.conditioning_pointers, bank.pointers.values]),
        pointers_valid=jnp.concatenate(
            [
                jnp.where(chosen, conditioning_age >= 0, within(slots, pointers)[1]),
                within(bank.pointers, pointers)[1] & not_conditioning(bank.pointers),
            ]
        ),
    )


def select_closest_cond_frames(slots: Slots, frame: Int[Array, ""] | int, max_cond_frames: int) -> Bool[Array, "s"]:
    """The closest valid slot before `frame`, the closest at or after it, then others by their distance."""
    offset = slots.frames - frame
    distance = jnp.where(slots.valid, jnp.abs(offset), FAR)
    before = jnp.where(offset < 0, distance, FAR)
    after = jnp.where(offset >= 0, distance, FAR)
    index = jnp.arange(distance.size)
    first = ((index == jnp.argmin(before)) & (before < FAR)) | ((index == jnp.argmin(after)) & (after < FAR))
    order = jnp.argsort(jnp.where(first, distance - FAR, distance), stable=True)
    rank = jnp.zeros_like(index).at[order].set(index)
    return slots.valid & (rank < max_cond_frames)
