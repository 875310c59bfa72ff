"""The time of each part of a tracked frame, in float32 and in bfloat16: `python -m benchmarks.parts [--size 1024]`.

Each part is compiled separately, for one object, with random weights.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import results, tables
from benchmarks.profile import full_state
from edgetam_jax import Model, tune
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.step import decode, encode_frames, no_points

DTYPES = ("float32", "bfloat16")


class Part(NamedTuple):
    name: str
    dtype: str
    program: Any  # compiled
    arguments: tuple[Any, ...]
    seconds: list[float]


def main() -> None:
    def make_parts(size: int) -> list[Part]:
        model = results.random_model(size)
        return [part for dtype in DTYPES for part in parts_of(model.astype(dtype), dtype)]

    time_by_dtype("parts", __doc__, make_parts)


def time_by_dtype(name: str, description: str | None, make: Callable[[int], list[Part]]) -> None:
    """The command line of a benchmark: times the parts for an image size, prints a table, and writes the results."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--size", type=int, default=1024, help="the model's image size (1024)")
    parser.add_argument("--rounds", type=int, default=12, help="timed runs of each part (12)")
    arguments = parser.parse_args()
    tune()
    rows = time_in_turns(make(arguments.size), arguments.rounds)
    print(tables.dtype_table(rows))
    results.write(name, arguments.size, rounds=arguments.rounds, rows=rows)


def time_in_turns(parts: Sequence[Part], rounds: int) -> list[dict[str, Any]]:
    """Runs all parts in turns, and returns their median times."""
    for _ in range(rounds):
        for part in parts:
            start = time.perf_counter()
            jax.block_until_ready(part.program(*part.arguments))
            part.seconds.append(time.perf_counter() - start)
    return [
        {"part": part.name, "dtype": part.dtype, "median_ms": 1e3 * statistics.median(part.seconds)} for part in parts
    ]


def parts_of(model: Model, dtype: str) -> list[Part]:
    """The parts, compiled and run once, each on the outputs of those before it."""
    config, parts = model.config, []

    def run(name: str, function: Any, *arguments: Any) -> Any:
        program = jax.jit(function).lower(model, *arguments).compile()
        parts.append(Part(name, dtype, program, (model, *arguments), []))
        return program(model, *arguments)

    frame = np.random.default_rng(0).integers(0, 255, (config.image_size, config.image_size, 3), np.uint8)
    bank = jax.tree.map(lambda x: x[0], full_state(model, 1).banks)
    past = jax.jit(lambda bank: memory.read(bank, jnp.int32(1), 1, config))(bank)
    features = run("image encoder, and what objects share", encode_frames, frame)
    embedding = run(
        "memory attention",
        lambda model, *args: model.condition_on_memory(*args),
        features.queries,
        past,
    )
    prediction = run(
        "mask decoder",
        lambda model, features, embedding: decode(model, features, embedding, *no_points(2))[0],
        features,
        embedding,
    )
    run(
        "memory encoder and perceiver",
        lambda model, *args: model.encode_memory(*args, False),
        features.image.embedding,
        prediction.logits,
    )
    return parts


if __name__ == "__main__":
    main()
