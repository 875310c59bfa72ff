"""`edgetam-jax bench`: the speed of a network on this device, measured on random pixels."""

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from edgetam_jax.cli.options import make_parser, open_model
from edgetam_jax.errors import ConfigError
from edgetam_jax.images.prompts import ImagePrompts
from edgetam_jax.images.segment import encode_image, segment
from edgetam_jax.model import Model
from edgetam_jax.prompts import Prompt, Prompts
from edgetam_jax.tracking.state import init_state
from edgetam_jax.tracking.stream import track_step

FRAME = 540, 960  # height, width
EXAMPLES = """\
  edgetam-jax bench
  edgetam-jax bench --model edgetam.safetensors --size 512 --objects 1 4 --dtype bfloat16"""


class Task(NamedTuple):
    """What is timed."""

    name: str
    run: Callable[[], Any]  # does the task once; what it returns is waited for


class Timing(NamedTuple):
    first: float  # seconds of the first call, which compiles
    times: list[float]  # seconds of each call after the warm-up

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def p99(self) -> float:
        """99th percentile."""
        return float(np.quantile(self.times, 0.99))


def main(argv: Sequence[str] | None = None) -> None:
    _bench(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("bench", "Measure the speed of a network on random pixels, with its memory filled.", EXAMPLES)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 2, 4], help="numbers of objects (1 2 4)")
    parser.add_argument("--frames", type=int, default=10, help="calls that are timed (10)")
    return parser


def _bench(arguments: argparse.Namespace) -> None:
    if min(arguments.objects) < 1 or arguments.frames < 1:
        raise ConfigError(f"--objects are {arguments.objects} and --frames {arguments.frames}; expected at least 1.")
    model = open_model(arguments)
    device = jax.devices()[0]
    print(f"{model.config.image_size}x{model.config.image_size}, {arguments.dtype}, {device.device_kind}\n")
    tasks = [*image_tasks(model), *(tracking_task(model, count) for count in dict.fromkeys(arguments.objects))]
    print(f"{'':24} {'median':>10} {'p99':>10} {'first call':>11}")
    for name, timing in measure(tasks, arguments.frames, model.config.pointers).items():
        print(f"{name:24} {1e3 * timing.median:7.1f} ms {1e3 * timing.p99:7.1f} ms {timing.first:9.1f} s")


def image_tasks(model: Model) -> list[Task]:
    frame, click = _random_frame(), ImagePrompts.build([Prompt(points=[[480, 270]], labels=[1])], FRAME)
    features = functools.cache(lambda: encode_image(model, frame))
    return [
        Task("encode an image", lambda: encode_image(model, frame)),
        Task("segment from a click", lambda: segment(model, features(), click)),
    ]


def tracking_task(model: Model, count: int) -> Task:
    """One frame of a stream with `count` objects, its encoding included."""
    frame = _random_frame()
    boxes = [Prompt(box=[10 * (i % 50), 10, 10 * (i % 50) + 200, 300]) for i in range(count)]
    state, prompts = init_state(model, count, 1), Prompts.build(boxes)

    def run() -> Any:
        nonlocal state, prompts
        state, tracks = track_step(model, state, frame, prompts)
        prompts = None  # only the first frame is prompted
        return tracks.logits

    return Task(f"track a frame, {count} object{'s' if count > 1 else ''}", run)


def _random_frame() -> Any:
    return jax.device_put(np.random.default_rng(0).integers(0, 255, (*FRAME, 3), np.uint8))


def measure(tasks: Sequence[Task], calls: int, warmup: int) -> dict[str, Timing]:
    """Times tasks in turn, so that a change of the machine's load affects all of them alike.

    Args:
        tasks: Tasks with different names.
        calls: Timed calls of each.
        warmup: Calls of each before them, the first one included. Those of tracking fill the memory.
    """
    first = {task.name: _seconds(task) for task in tasks}
    for _ in range(warmup - 1):
        for task in tasks:
            _seconds(task)
    times: dict[str, list[float]] = {task.name: [] for task in tasks}
    for _ in range(calls):
        for task in tasks:
            times[task.name].append(_seconds(task))
    return {name: Timing(first[name], times[name]) for name in times}


def _seconds(task: Task) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(task.run())
    return time.perf_counter() - begin
