"""`edgetam-jax bench`: how fast a network is here, on random pixels."""

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from edgetam_jax.cli import options
from edgetam_jax.errors import ConfigError
from edgetam_jax.images.prompts import ImagePrompts
from edgetam_jax.images.segment import encode_image, segment
from edgetam_jax.model import Model
from edgetam_jax.prompts import Prompt, Prompts
from edgetam_jax.tracking.state import init_state
from edgetam_jax.tracking.stream import track_step

FRAME = 540, 960
EXAMPLES = """\
  edgetam-jax bench
  edgetam-jax bench --model edgetam.safetensors --size 512 --objects 1 4 --dtype bfloat16"""


class Task(NamedTuple):
    """What is timed: each call of `work` does it once, and returns when it is done."""

    name: str
    work: Callable[[], Any]


class Timing(NamedTuple):
    first: float  # seconds of the first call, which compiles
    times: list[float]  # seconds of each call after it was warm

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def worst(self) -> float:
        """99 of 100 are no slower, if there are as many."""
        return float(np.quantile(self.times, 0.99))


def main(argv: Sequence[str] | None = None) -> int:
    return options.run(_bench, _parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = options.make_parser("bench", "How fast a network is here, on random pixels; memory is full.", EXAMPLES)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 2, 4], help="how many are tracked (1 2 4)")
    parser.add_argument("--frames", type=int, default=10, help="how often each is timed (10)")
    return parser


def _bench(arguments: argparse.Namespace) -> None:
    if min(arguments.objects) < 1 or arguments.frames < 1:
        raise ConfigError(f"--objects are {arguments.objects} and --frames {arguments.frames}; expected at least 1.")
    model = options.open_model(arguments)
    device = jax.devices()[0]
    print(f"{model.config.image_size}x{model.config.image_size}, {arguments.dtype}, {device.device_kind}\n")
    tasks = [*image_tasks(model), *(tracking_task(model, count) for count in dict.fromkeys(arguments.objects))]
    print(f"{'':24} {'median':>10} {'p99':>10} {'first call':>11}")
    for name, timing in measure(tasks, arguments.frames, model.config.pointers).items():
        print(f"{name:24} {1e3 * timing.median:7.1f} ms {1e3 * timing.worst:7.1f} ms {timing.first:9.1f} s")


def image_tasks(model: Model) -> list[Task]:
    frame, click = _frame(), ImagePrompts.build([Prompt(points=[[480, 270]], labels=[1])], FRAME)
    features = functools.cache(lambda: encode_image(model, frame))
    return [
        Task("an image encoded", lambda: encode_image(model, frame)),
        Task("a click answered", lambda: segment(model, features(), click)),
    ]


def tracking_task(model: Model, count: int) -> Task:
    """A frame of a stream, its encoding included."""
    frame = _frame()
    boxes = [Prompt(box=[10 * (i % 50), 10, 10 * (i % 50) + 200, 300]) for i in range(count)]
    state, prompts = init_state(model, count, 1), Prompts.build(boxes)

    def work() -> Any:
        nonlocal state, prompts
        state, tracks = track_step(model, state, frame, prompts)
        prompts = None  # after the first frame
        return tracks.logits

    return Task(f"a frame, {count} object{'s' if count > 1 else ''}", work)


def _frame() -> Any:
    return jax.device_put(np.random.default_rng(0).integers(0, 255, (*FRAME, 3), np.uint8))


def measure(tasks: Sequence[Task], times: int, warm: int) -> dict[str, Timing]:
    """Of each task, in turns, so that all meet the same machine; after `warm` calls, which fill memory too."""
    first = {task.name: _seconds(task.work) for task in tasks}
    for _ in range(warm - 1):
        for task in tasks:
            _seconds(task.work)
    taken: dict[str, list[float]] = {task.name: [] for task in tasks}
    for _ in range(times):
        for task in tasks:
            taken[task.name].append(_seconds(task.work))
    return {name: Timing(first[name], taken[name]) for name in taken}


def _seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - begin
