"""What a frame costs with 1 to 8 objects: `python -m benchmarks.objects [--size 1024]`.

Times the streaming step with full memory banks, the image encoder included, on random weights; frames come as arrays.
"""

import argparse
from typing import Any

import jax

from benchmarks import results
from edgetam_jax import init_state
from edgetam_jax.commands.bench import measure, tracking_task

OBJECTS = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="the model's image size (1024)")
    parser.add_argument("--frames", type=int, default=8, help="frames timed for each number of objects (8)")
    arguments = parser.parse_args()
    model = results.random_model(arguments.size)
    tasks = [tracking_task(model, count) for count in OBJECTS]
    timings = measure(tasks, arguments.frames, warm=model.config.pointers)
    state = sum(leaf.nbytes for leaf in jax.tree.leaves(init_state(model, 1, 1)))
    one = next(iter(timings.values())).median
    rows: list[dict[str, Any]] = []
    print(f"| objects | ms a frame (median) | p99 | each further object, of the first |\n{'|---' * 4}|")
    for count, timing in zip(OBJECTS, timings.values(), strict=True):
        further = (timing.median - one) / (count - 1) / one if count > 1 else None
        rows.append(
            {
                "objects": count,
                "median_ms": 1e3 * timing.median,
                "p99_ms": 1e3 * timing.worst,
                "further_object_over_first": further,
                "state_bytes_an_object": state,
                "first_call_s": timing.first,
            }
        )
        share = "" if further is None else f"{further:.0%}"
        print(f"| {count} | {1e3 * timing.median:.0f} | {1e3 * timing.worst:.0f} | {share} |")
    print(f"\nstate: {state / 1e6:.2f} MB an object")
    results.write("objects", arguments.size, rows=rows)


if __name__ == "__main__":
    main()
