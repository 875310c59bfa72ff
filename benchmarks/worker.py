"""A process of the comparison: `python -m benchmarks.worker SYSTEM FOLDER`, started by `benchmarks.compare`.

Each line on standard input, "prepare TASK" or "run TASK", is answered by a line of JSON on standard output.
"""

import argparse
import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TextIO

from benchmarks.systems import System, Task

WARM = 2  # calls after the first
GEMMS = ((2048, 2048, 2048), (4096, 256, 4096))  # rows, inner, columns
REPEATS = 3
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Prepared(NamedTuple):
    """`work` does the task once, and returns when it is done; it may tell more about that time than how long it was."""

    work: Callable[[], Mapping[str, float] | None]
    facts: Mapping[str, float] = {}


class Family(Protocol):
    about: dict[str, str]  # platform, device

    def build(self, task: Task) -> Prepared: ...

    def device_peak(self) -> int | None:
        """Bytes, of a device with memory of its own."""
        ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", help="as JSON")
    parser.add_argument("folder", type=Path, help="where the weights are")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    arguments = parser.parse_args()
    system = System(*json.loads(arguments.system))
    with answers() as out:
        serve(lambda: open_family(system, arguments), sys.stdin, out)


def open_family(system: System, arguments: argparse.Namespace) -> Family:
    if hasattr(os, "sched_setaffinity"):  # XLA and others take as many threads as there are processors for them
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    if system.family == "ours":
        from benchmarks.ours import Ours as Opened
    elif system.family == "original":
        from benchmarks.original import Original as Opened
    elif system.family == "hugging-face":
        from benchmarks.hugging_face import HuggingFace as Opened
    else:
        from benchmarks.onnx_encoder import Onnx as Opened
    return Opened(system, arguments.folder, arguments.size, arguments.threads, arguments.device)


@contextlib.contextmanager
def answers() -> Any:
    """Where answers go. Whatever else is printed goes to standard error, and so cannot come between them."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with out:
        yield out


def serve(open_it: Callable[[], Family], lines: TextIO, out: TextIO) -> None:
    """Answers until there are no more lines."""

    def answer(action: Callable[[], Mapping[str, Any]]) -> None:
        try:
            reply = action()
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]}
        print(json.dumps(reply), file=out, flush=True)

    opened: list[Family] = []
    prepared: dict[str, Prepared] = {}

    def begin() -> Mapping[str, Any]:
        opened.append(open_it())
        return dict(opened[0].about)

    def prepare(name: str) -> Mapping[str, Any]:
        start = time.perf_counter()
        prepared[name] = opened[0].build(Task.parse(name))
        prepared[name].work()
        first = time.perf_counter() - start
        for _ in range(WARM):
            reset_peak()
            start = time.perf_counter()
            prepared[name].work()
        warm = time.perf_counter() - start
        # Before the next task adds what it needs.
        memory = {"peak_bytes": peak(), "device_peak_bytes": opened[0].device_peak()}
        return {"first_s": first, "warm_s": warm, **memory, **prepared[name].facts}

    answer(begin)
    before = time.process_time()
    for line in lines:
        verb, name = line.split()
        idle = time.process_time() - before  # work in the background, while others had their turn
        if verb == "prepare":
            answer(lambda name=name: prepare(name))
        else:
            answer(lambda name=name, idle=idle: {"idle_s": idle, **timed(prepared[name].work)})
        before = time.process_time()


def products(ones: Callable[[tuple[int, int]], Any], product: Callable[[Any, Any], Any]) -> Prepared:
    """The most that this machine does for a system: billions of operations of a product of matrices, in a second."""
    pairs = [(ones((rows, inner)), ones((inner, columns))) for rows, inner, columns in GEMMS]

    def rate(x: Any, y: Any) -> float:
        begin = time.perf_counter()
        product(x, y)
        return 2e-9 * x.shape[0] * x.shape[1] * y.shape[1] / (time.perf_counter() - begin)

    return Prepared(lambda: {"gflops": max(rate(*pair) for _ in range(REPEATS) for pair in pairs)})


def timed(work: Callable[[], Mapping[str, float] | None]) -> dict[str, Any]:
    begin, begin_work = time.perf_counter(), time.process_time()
    details = work()
    seconds, processor = time.perf_counter() - begin, time.process_time() - begin_work
    return {
        "seconds": seconds,
        "processor_s": processor,
        "details": dict(details or {}),
    }


def reset_peak() -> None:
    """The most memory that was used counts from here on, without what was needed to load and compile."""
    with contextlib.suppress(OSError):
        RESET.write_text("5")


def peak() -> int | None:
    """Of this process, in bytes; where the system tells."""
    if not STATUS.exists():
        return None
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) * 1024


if __name__ == "__main__":
    main()
