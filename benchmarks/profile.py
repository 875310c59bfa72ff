"""Where a tracked frame's time goes on this device: `python -m benchmarks.profile [--objects 1] [--dtype bfloat16]`.

One program is compiled, for a network of random weights whose memory is full, and its kernels are added up by name.
"""

import argparse
import collections
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import results
from benchmarks.ours import ignore
from edgetam_jax import Model, State, init_state, track_step
from edgetam_jax.model import param_shapes
from edgetam_jax.trees import blank

FRAMES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1, help="how many are followed (1)")
    parser.add_argument("--size", type=int, default=1024, help="the model's image size (1024)")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--top", type=int, default=40, help="how many kernels are listed (40)")
    arguments = parser.parse_args()
    rng, config = np.random.default_rng(0), results.config_of(arguments.size)
    # Not `init_params`, whose program takes as long to compile. Positive, since variances are among them.
    params = jax.tree.map(lambda x: 0.1 * rng.random(x.shape, np.float32), param_shapes(config))
    model = jax.device_put(Model(params, config).astype(arguments.dtype))
    frame = jax.device_put(rng.integers(0, 255, (arguments.size, arguments.size, 3), np.uint8))
    states = [full_state(model, arguments.objects)]

    def work() -> None:
        state, tracks = track_step(model, states.pop(), frame)
        states.append(state)
        ignore(jax.block_until_ready((state, tracks)))

    begin = time.perf_counter()
    work()
    print(f"compiled in {time.perf_counter() - begin:.0f} s on {jax.devices()[0].device_kind}")
    for line, kernels in by_line(work):
        times, counts = kernels
        print(f"\n{line}: {sum(times.values()):.3f} ms and {sum(counts.values()):.0f} events a frame")
        for name, milliseconds in times.most_common(arguments.top):
            print(f"{milliseconds:9.4f} ms {counts[name]:6.1f} x {name[:100]}")


def full_state(model: Any, objects: int) -> State:
    """Everything that can be remembered is, in numbers that mean nothing."""
    state = blank(lambda: init_state(model, objects, 1))
    return jax.tree.map(lambda x: x | True if x.dtype == bool else x, state)


Kernels = tuple[Any, Any]  # milliseconds and calls a frame, by name


def by_line(work: Callable[[], None]) -> Iterator[tuple[str, Kernels]]:
    """Of each stream of a GPU, or each thread of a CPU, that did anything."""
    with tempfile.TemporaryDirectory() as folder:
        work()
        with jax.profiler.trace(folder):
            for _ in range(FRAMES):
                work()
        (path,) = Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(path))
    for plane in profile.planes:
        for line in plane.lines:
            times: Any = collections.Counter()
            counts: Any = collections.Counter()
            for event in line.events:
                times[event.name] += 1e-6 * event.duration_ns / FRAMES
                counts[event.name] += 1 / FRAMES
            if times:
                yield f"{plane.name} {line.name}", (times, counts)


if __name__ == "__main__":
    main()
