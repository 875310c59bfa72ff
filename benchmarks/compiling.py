"""The time to compile the tracking step: `python -m benchmarks.compiling [--size 1024]`.

The step is traced and compiled in a process with an empty compilation cache, and again in one with the cache of the
first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import results, tables
from edgetam_jax import Model, init_state, track_step
from edgetam_jax.model import param_shapes

CASES = (("float32", 1), ("float32", 8), ("bfloat16", 1), ("bfloat16", 8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="the model's image size (1024)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed (3)")
    parser.add_argument("case", nargs="*", help=argparse.SUPPRESS)  # dtype and number of objects, in a child process
    arguments = parser.parse_args()
    if arguments.case:
        dtype, objects = arguments.case
        print(json.dumps(time_compilation(arguments.size, dtype, int(objects))))
        return
    rows = [measure(arguments.size, dtype, objects, arguments.rounds) for dtype, objects in CASES]
    print(tables.compiling_table(rows))
    results.write("compiling", arguments.size, rounds=arguments.rounds, rows=rows)


def time_compilation(size: int, dtype: str, objects: int) -> dict[str, float]:
    """Seconds of tracing and of compiling, for abstract parameters."""
    config = results.config_of(size)
    model = jax.eval_shape(lambda model: model.astype(dtype), Model(param_shapes(config), config))
    state = jax.eval_shape(lambda: init_state(model, objects))
    start = time.perf_counter()
    lowered = jax.jit(track_step).lower(model, state, jax.ShapeDtypeStruct((size, size, 3), jnp.uint8))
    traced = time.perf_counter()
    lowered.compile()
    return {"trace_s": traced - start, "compile_s": time.perf_counter() - traced}


def measure(size: int, dtype: str, objects: int, rounds: int) -> dict[str, Any]:
    """Medians over several pairs of child processes."""
    command = [sys.executable, "-m", "benchmarks.compiling", "--size", str(size), dtype, str(objects)]

    def run(folder: str) -> dict[str, float]:
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": folder}
        return json.loads(subprocess.check_output(command, env=environment, text=True).splitlines()[-1])

    times: list[dict[str, float]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            first, again = run(folder), run(folder)
        times.append({**first, "kept_s": again["compile_s"]})
    return {"dtype": dtype, "objects": objects, **{k: statistics.median(row[k] for row in times) for k in times[0]}}


if __name__ == "__main__":
    main()
