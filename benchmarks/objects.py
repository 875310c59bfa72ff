"""What a frame costs with 1 to 8 objects: `python -m benchmarks.objects [--size 1024]`.

Times the streaming step with full memory banks, the image encoder included, on random weights; frames come as arrays.
"""

import argparse
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import results
from edgetam_jax import Model, Prompt, Prompts, init_state, track_step

OBJECTS = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="the model's image size (1024)")
    parser.add_argument("--frames", type=int, default=8, help="frames timed for each number of objects (8)")
    arguments = parser.parse_args()
    model = results.random_model(arguments.size)
    sessions = {count: Session(model, count) for count in OBJECTS}
    for _ in range(model.config.pointers):  # fills the rings, and warms up
        for session in sessions.values():
            session.step()
    times: dict[int, list[float]] = {count: [] for count in OBJECTS}
    for _ in range(arguments.frames):  # in turns, so that all meet the same machine
        for count, session in sessions.items():
            times[count].append(session.step())
    report(arguments.size, sessions, times)


class Session:
    def __init__(self, model: Model, count: int) -> None:
        self.model, self.count = model, count
        pixels = np.random.default_rng(0).integers(0, 255, (540, 960, 3), np.uint8)
        self.frame = jnp.asarray(pixels)
        boxes = [Prompt(box=[10 * i, 10, 10 * i + 200, 300]) for i in range(count)]
        begin = time.perf_counter()
        self.state, _ = track_step(model, init_state(model, count, 1), self.frame, Prompts.build(boxes))
        jax.block_until_ready(self.state)
        self.first = time.perf_counter() - begin

    def step(self) -> float:
        begin = time.perf_counter()
        self.state, tracks = track_step(self.model, self.state, self.frame)
        jax.block_until_ready(tracks.logits)
        return time.perf_counter() - begin

    def state_bytes(self) -> int:
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.state)) // self.count


def report(size: int, sessions: dict[int, Session], times: dict[int, list[float]]) -> None:
    one = statistics.median(times[1])
    rows: list[dict[str, Any]] = []
    print(
        f"| objects | ms a frame (median) | min | each further object, of the first | state an object |\n{'|---' * 5}|"
    )
    for count, seconds in times.items():
        median = statistics.median(seconds)
        further = (median - one) / (count - 1) / one if count > 1 else None
        rows.append(
            {
                "objects": count,
                "median_ms": 1e3 * median,
                "min_ms": 1e3 * min(seconds),
                "further_object_over_first": further,
                "state_bytes_an_object": sessions[count].state_bytes(),
                "first_call_s": sessions[count].first,
            }
        )
        share = "" if further is None else f"{further:.0%}"
        print(
            f"| {count} | {1e3 * median:.0f} | {1e3 * min(seconds):.0f} | {share} | "
            f"{sessions[count].state_bytes() / 1e6:.2f} MB |"
        )
    results.write("objects", size, rows=rows)


if __name__ == "__main__":
    main()
