"""The interface of the systems that `benchmarks.compare` measures: a `Backend` makes a `PreparedTask` of each task."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from benchmarks.systems import Task

GEMMS = ((2048, 2048, 2048), (4096, 256, 4096))  # rows, inner, columns
REPEATS = 3


class PreparedTask(NamedTuple):
    """A task that is ready to run."""

    work: Callable[[], Mapping[str, float] | None]  # runs the task once to its end; may return more measurements
    facts: Mapping[str, float] = {}  # known before it runs


class Backend(Protocol):
    about: dict[str, str]  # platform, device

    def build(self, task: Task) -> PreparedTask: ...

    def device_peak(self) -> int | None:
        """Peak memory in bytes of a device that has its own memory."""
        ...


def gemm_task(ones: Callable[[tuple[int, int]], Any], product: Callable[[Any, Any], Any]) -> PreparedTask:
    """The peak throughput of a system's matrix products, in GFLOP/s.

    Args:
        ones: Makes a matrix of a shape.
        product: Multiplies two matrices, and returns when that is done.
    """
    pairs = [(ones((rows, inner)), ones((inner, columns))) for rows, inner, columns in GEMMS]

    def gflops(x: Any, y: Any) -> float:
        start = time.perf_counter()
        product(x, y)
        return 2e-9 * x.shape[0] * x.shape[1] * y.shape[1] / (time.perf_counter() - start)

    return PreparedTask(lambda: {"gflops": max(gflops(*pair) for _ in range(REPEATS) for pair in pairs)})
