"""The speed of all systems in one run: `python -m benchmarks.compare [--size 1024] [--objects 1 2 4 8] [--against 1 4]
[--batches 4] [--budget SECONDS]`.

This package, the PyTorch original, the Hugging Face port and ONNX Runtime's encoder each run in a process of their own,
with the same random weights and the same number of threads. When all are warm and their memory is full, they take
turns, one frame each, so that other load on the machine affects all alike. docs/speed.md describes the method.
"""

import argparse
import contextlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, results, targets
from benchmarks.coordinator import TaskRun, Worker, run_in_turns
from benchmarks.systems import DEFAULT_SYSTEMS, SYSTEMS, System, Task, environment, tasks_of, with_avx512

IDLE_SHARE = 0.05  # a system that computes for a larger share of its time out of turn is reported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="the model's image size (1024)")
    parser.add_argument(
        "--objects", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of objects for this package (1 2 4 8)"
    )
    parser.add_argument(
        "--against", type=int, nargs="+", default=[1, 4], help="those of them for the other systems (1 4)"
    )
    parser.add_argument(
        "--batches",
        type=int,
        nargs="*",
        default=[4],
        help="batch sizes of images, and for this package of frames and videos (4)",
    )
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, metavar="NAME", help=f"some of: {', '.join(SYSTEMS)}")
    parser.add_argument("--rounds", type=int, default=10, help="how often each task is timed (10)")
    parser.add_argument("--budget", type=float, default=math.inf, help="seconds after which no more tasks are prepared")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="threads of each system (the number of processors)"
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="the device of all systems (cpu)")
    arguments = parser.parse_args()
    chosen = [SYSTEMS[name] for name in arguments.systems or DEFAULT_SYSTEMS[arguments.device]]
    if arguments.device == "cpu" and machine.is_amd():
        if shutil.which("cc"):
            chosen = with_avx512(chosen)
        else:
            print("There is no C compiler (cc): PyTorch is timed only in its default mode on AMD, without AVX-512.")
    with tempfile.TemporaryDirectory() as folder:
        make_weights(Path(folder), arguments.size)
        rows, about = compare(chosen, arguments, Path(folder))
    if not any("median_ms" in row for row in rows):
        raise SystemExit("nothing was timed, so nothing is written")
    report(rows, about, arguments)


def make_weights(folder: Path, size: int) -> None:
    """Writes the weights in another process, so that torch is not imported in this one."""
    command = [sys.executable, "-m", "benchmarks.weights", str(folder), "--size", str(size)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the weights could not be made:\n{done.stdout}{done.stderr}")


def compare(
    systems: Sequence[System], arguments: argparse.Namespace, folder: Path
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The measurements of each system's tasks, and what the first system that works reports about the device."""
    workers: list[Worker] = []
    try:
        runs = []
        for system in systems:
            workers.append(start_worker(system, arguments, folder))
            tasks = tasks_of(system, arguments.objects, arguments.against, arguments.batches)
            runs += [(system, task, TaskRun(workers[-1], str(task))) for task in tasks]
        with contextlib.suppress(KeyboardInterrupt):  # report the measurements up to then
            run_in_turns([run for *_, run in runs], arguments.rounds, budget=arguments.budget)
        about = next((worker.about for worker in workers if "error" not in worker.about), {})
        return [summarize(*run) for run in runs], about
    finally:
        for worker in workers:
            worker.close()


def start_worker(system: System, arguments: argparse.Namespace, folder: Path) -> Worker:
    options = {"--size": arguments.size, "--threads": arguments.threads, "--device": arguments.device}
    flat = [str(word) for pair in options.items() for word in pair]
    command = ["-m", "benchmarks.worker", json.dumps(system), str(folder), *flat]
    return Worker(system.name, command, environment(system, arguments.device, arguments.threads, folder))


def summarize(system: System, task: Task, run: TaskRun) -> dict[str, Any]:
    about = {"system": system.name, "label": system.label, "task": task.kind, "count": task.count}
    if run.failure is not None or not run.runs:
        return {**about, "note": run.failure or "not timed: the run was stopped"}
    milliseconds = [1e3 * measured["seconds"] for measured in run.runs]
    names = run.runs[0]["details"]
    details = {name: statistics.median(measured["details"][name] for measured in run.runs) for name in names}
    return {
        **about,
        "median_ms": statistics.median(milliseconds),
        "p99_ms": float(np.quantile(milliseconds, 0.99)),
        "min_ms": min(milliseconds),
        "processor_ms": 1e3 * statistics.median(measured["processor_s"] for measured in run.runs),
        "idle_ms": 1e3 * statistics.median(measured["idle_s"] for measured in run.runs),
        **run.facts,
        "details": details,
    }


def report(rows: list[dict[str, Any]], about: dict[str, Any], arguments: argparse.Namespace) -> None:
    print(f"\n| task | count | system | ms (median) | p99 | first call, s | peak memory |\n{'|---' * 7}|")
    for row in rows:
        name = f"| {row['task']} | {row['count']} | {row['label']} |"
        if "note" in row:
            print(f"{name} {row['note']} | | | |")
        elif row["task"] != "gemm":
            memory = f"{row['peak_bytes'] / 1e9:.2f} GB" if row["peak_bytes"] else ""
            print(f"{name} {row['median_ms']:.1f} | {row['p99_ms']:.1f} | {row['first_s']:.1f} | {memory} |")
    for row in rows:
        if row.get("idle_ms", 0) > IDLE_SHARE * row.get("median_ms", 0):
            print(f"{row['label']} worked {row['idle_ms']:.0f} ms out of turn, which slows the other systems down.")
    device = about.get("device", "")
    measured = targets.measurements(rows, arguments.device, arguments.device == "cpu" and machine.is_amd())
    print("\n" + targets.format_table(measured))
    results.write(
        "speed",
        arguments.size,
        device=results.Device(arguments.device, device),
        rounds=arguments.rounds,
        threads=arguments.threads,
        rows=rows,
    )


if __name__ == "__main__":
    main()
