"""The kernels of a tracked frame on this device: `python -m benchmarks.profile [--objects 1] [--dtype bfloat16]`.

Profiles the tracking step with random weights, and sums the time of its kernels by name.
"""

import argparse
import collections
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import results
from edgetam_jax import Model, State, init_state, track_step
from edgetam_jax.model import param_shapes
from edgetam_jax.ops.tree import zeros_like_output

FRAMES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1, help="number of objects (1)")
    parser.add_argument("--size", type=int, default=1024, help="the model's image size (1024)")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--top", type=int, default=40, help="number of kernels to list (40)")
    arguments = parser.parse_args()
    rng, config = np.random.default_rng(0), results.config_of(arguments.size)
    # `init_params` would take as long to compile as the step. Positive numbers, because some are variances.
    params = jax.tree.map(lambda x: 0.1 * rng.random(x.shape, np.float32), param_shapes(config))
    model = jax.device_put(Model(params, config).astype(arguments.dtype))
    frame = jax.device_put(rng.integers(0, 255, (arguments.size, arguments.size, 3), np.uint8))
    states = [full_state(model, arguments.objects)]

    def work() -> None:
        state, tracks = track_step(model, states.pop(), frame)
        states.append(state)
        jax.block_until_ready((state, tracks))

    start = time.perf_counter()
    work()
    first = time.perf_counter() - start
    print(f"compiled in {first:.0f} s on {jax.devices()[0].device_kind}")
    start = time.perf_counter()
    for _ in range(FRAMES):
        work()
    frame_ms = 1e3 * (time.perf_counter() - start) / FRAMES
    print(f"{frame_ms:.2f} ms a frame")
    lines = list(by_line(work))
    name = f"profile_{arguments.dtype}_{arguments.objects}"
    top = [{"line": line, "kernels": [one._asdict() for one in kernels[: arguments.top]]} for line, kernels in lines]
    results.write(name, arguments.size, first_s=first, frame_ms=frame_ms, lines=top)
    for line, kernels in lines:
        total, calls = sum(kernel.milliseconds for kernel in kernels), sum(kernel.calls for kernel in kernels)
        print(
            f"\n{line}: {total:.3f} ms and {calls:.0f} calls a frame"
        )  # on CPU events are nested, and count more than once
        for kernel in kernels[: arguments.top]:
            print(f"{kernel.milliseconds:9.4f} ms {kernel.calls:6.1f} x {kernel.name[:100]}")


def full_state(model: Any, objects: int) -> State:
    """A state of zeros in which every slot is valid. The values do not change the time of a step."""
    state = zeros_like_output(lambda: init_state(model, objects, 1))
    return jax.tree.map(lambda x: x | True if x.dtype == bool else x, state)


class Kernel(NamedTuple):
    name: str
    milliseconds: float  # per frame
    calls: float  # per frame


def by_line(work: Callable[[], None]) -> Iterator[tuple[str, list[Kernel]]]:
    """The kernels of each GPU stream or CPU thread that was active, the slowest first."""
    with tempfile.TemporaryDirectory() as folder:
        work()
        with jax.profiler.trace(folder):
            for _ in range(FRAMES):
                work()
        (path,) = Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(path))
    for plane in profile.planes:
        for line in plane.lines:
            durations = collections.defaultdict[str, list[float]](list)
            for event in line.events:
                durations[event.name].append(event.duration_ns)
            kernels = [Kernel(name, 1e-6 * sum(ns) / FRAMES, len(ns) / FRAMES) for name, ns in durations.items()]
            if kernels:
                yield f"{plane.name} {line.name}", sorted(kernels, key=lambda kernel: -kernel.milliseconds)


if __name__ == "__main__":
    main()
