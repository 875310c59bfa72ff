"""A process that runs the tasks of one system: `python -m benchmarks.worker SYSTEM FOLDER`, for `benchmarks.compare`.

For each line on standard input, "prepare TASK" or "run TASK", it writes a line of JSON to standard output.
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
from typing import Any, TextIO

from benchmarks.backend import Backend, PreparedTask
from benchmarks.systems import System, Task

WARMUP_CALLS = 2  # calls after the first
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", help="a `System` as JSON")
    parser.add_argument("folder", type=Path, help="the folder of the weights")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    arguments = parser.parse_args()
    system = System(*json.loads(arguments.system))
    with reply_stream() as out:
        serve(lambda: open_backend(system, arguments), sys.stdin, out)


def open_backend(system: System, arguments: argparse.Namespace) -> Backend:
    """Imports the backend of a system; its packages are imported in this process only."""
    if hasattr(os, "sched_setaffinity"):  # XLA and others use as many threads as the process has processors
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    if system.family == "ours":
        from benchmarks.ours import JaxBackend as Selected
    elif system.family == "original":
        from benchmarks.original import OriginalBackend as Selected
    elif system.family == "hugging-face":
        from benchmarks.hugging_face import HuggingFaceBackend as Selected
    else:
        from benchmarks.onnx_encoder import OnnxBackend as Selected
    return Selected(system, arguments.folder, arguments.size, arguments.threads, arguments.device)


@contextlib.contextmanager
def reply_stream() -> Any:
    """The stream for replies. All other output is redirected to standard error, so that it cannot mix with them."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with out:
        yield out


def serve(make_backend: Callable[[], Backend], lines: TextIO, out: TextIO) -> None:
    """Makes the backend, then executes commands until there are no more lines."""

    def reply_with(action: Callable[[], Mapping[str, Any]]) -> None:
        try:
            reply = action()
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]}
        print(json.dumps(reply), file=out, flush=True)

    backends: list[Backend] = []
    prepared: dict[str, PreparedTask] = {}

    def start() -> Mapping[str, Any]:
        backends.append(make_backend())
        return dict(backends[0].about)

    def prepare(name: str) -> Mapping[str, Any]:
        start = time.perf_counter()
        prepared[name] = backends[0].build(Task.parse(name))
        prepared[name].work()
        first = time.perf_counter() - start
        for _ in range(WARMUP_CALLS):
            reset_peak()
            start = time.perf_counter()
            prepared[name].work()
        warm = time.perf_counter() - start
        # Read it now, since the next task adds its own memory.
        memory = {"peak_bytes": peak(), "device_peak_bytes": backends[0].device_peak()}
        return {"first_s": first, "warm_s": warm, **memory, **prepared[name].facts}

    reply_with(start)
    before = time.process_time()
    for line in lines:
        command, name = line.split()
        idle = time.process_time() - before  # processor time used while other systems had their turn
        if command == "prepare":
            reply_with(lambda name=name: prepare(name))
        else:
            reply_with(lambda name=name, idle=idle: {"idle_s": idle, **timed(prepared[name].work)})
        before = time.process_time()


def timed(work: Callable[[], Mapping[str, float] | None]) -> dict[str, Any]:
    """Wall clock and processor time of one call, and the measurements that it returns."""
    start, start_processor = time.perf_counter(), time.process_time()
    details = work()
    seconds, processor = time.perf_counter() - start, time.process_time() - start_processor
    return {
        "seconds": seconds,
        "processor_s": processor,
        "details": dict(details or {}),
    }


def reset_peak() -> None:
    """Resets the peak memory of this process, to exclude what loading and compiling needed."""
    with contextlib.suppress(OSError):
        RESET.write_text("5")


def peak() -> int | None:
    """The peak memory of this process in bytes; None where the operating system does not report it."""
    if not STATUS.exists():
        return None
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) * 1024


if __name__ == "__main__":
    main()
