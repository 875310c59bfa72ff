"""How long a first frame has to wait: `python -m benchmarks.compiling [--size 1024]`.

A tracked frame is traced and compiled in a process that finds nothing, and again in one that finds what the first kept.
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

from benchmarks import plots, results
from edgetam_jax import Model, init_state, track_step
from edgetam_jax.model import param_shapes

CASES = (("float32", 1), ("float32", 8), ("bfloat16", 1), ("bfloat16", 8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="the model's image size (1024)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is done (3)")
    parser.add_argument("one", nargs="*", help=argparse.SUPPRESS)  # what a process of its own is asked to do
    arguments = parser.parse_args()
    if arguments.one:
        dtype, objects = arguments.one
        print(json.dumps(compiled(arguments.size, dtype, int(objects))))
        return
    rows = [median(arguments.size, dtype, objects, arguments.rounds) for dtype, objects in CASES]
    print(plots.compiling(rows))
    results.write("compiling", arguments.size, rounds=arguments.rounds, rows=rows)


def compiled(size: int, dtype: str, objects: int) -> dict[str, float]:
    """Seconds of both steps, for a network without numbers."""
    config = results.config_of(size)
    model = jax.eval_shape(lambda model: model.astype(dtype), Model(param_shapes(config), config))
    state = jax.eval_shape(lambda: init_state(model, objects))
    begin = time.perf_counter()
    lowered = jax.jit(track_step).lower(model, state, jax.ShapeDtypeStruct((size, size, 3), jnp.uint8))
    traced = time.perf_counter()
    lowered.compile()
    return {"trace_s": traced - begin, "compile_s": time.perf_counter() - traced}


def median(size: int, dtype: str, objects: int, rounds: int) -> dict[str, Any]:
    line = [sys.executable, "-m", "benchmarks.compiling", "--size", str(size), dtype, str(objects)]

    def ask(folder: str) -> dict[str, float]:
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": folder}
        return json.loads(subprocess.check_output(line, env=environment, text=True).splitlines()[-1])

    found: list[dict[str, float]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            first, again = ask(folder), ask(folder)
        found.append({**first, "kept_s": again["compile_s"]})
    return {"dtype": dtype, "objects": objects, **{k: statistics.median(row[k] for row in found) for k in found[0]}}


if __name__ == "__main__":
    main()
