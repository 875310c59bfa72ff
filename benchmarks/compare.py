"""Everybody's speed in one run: `python -m benchmarks.compare [--size 1024] [--objects 1 2 4 8] [--against 1 4]
[--batches 4] [--budget SECONDS]`.

This package, the PyTorch original, the Hugging Face port and ONNX Runtime's encoder each live in a process of their
own, with the same random weights and the same number of threads. When all are warm and their memory is full, they take
turns, one frame each, so that all meet the same machine. docs/speed.md says how it is measured.
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

from benchmarks import targets, machine, results
from benchmarks.coordinator import Row, Worker, measure
from benchmarks.systems import DEFAULT, SYSTEMS, System, Task, environment, tasks_of, with_avx512

IDLE = 0.05  # of its own time is what a system may compute out of turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="the model's image size (1024)")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 2, 4, 8], help="how many we follow (1 2 4 8)")
    parser.add_argument("--against", type=int, nargs="+", default=[1, 4], help="how many the others follow, too (1 4)")
    parser.add_argument(
        "--batches", type=int, nargs="*", default=[4], help="images, and frames and videos of ours, at once (4)"
    )
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, metavar="NAME", help=f"some of: {', '.join(SYSTEMS)}")
    parser.add_argument("--rounds", type=int, default=10, help="times that each is timed (10)")
    parser.add_argument("--budget", type=float, default=math.inf, help="seconds after which nothing more is prepared")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each system (as many as processors)")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where all compute (cpu)")
    arguments = parser.parse_args()
    chosen = [SYSTEMS[name] for name in arguments.systems or DEFAULT[arguments.device]]
    if arguments.device == "cpu" and machine.is_amd():
        if shutil.which("cc"):
            chosen = with_avx512(chosen)
        else:
            print("There is no C compiler (cc): PyTorch runs only as it does by itself on AMD, without AVX-512.")
    with tempfile.TemporaryDirectory() as folder:
        make_weights(Path(folder), arguments.size)
        rows, about = compare(chosen, arguments, Path(folder))
    if not any("median_ms" in row for row in rows):
        raise SystemExit("nothing was timed, so nothing is written")
    report(rows, about, arguments)


def make_weights(folder: Path, size: int) -> None:
    """In a process of its own, so that torch does not stay in this one."""
    command = [sys.executable, "-m", "benchmarks.weights", str(folder), "--size", str(size)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the weights could not be made:\n{done.stdout}{done.stderr}")


def compare(
    systems: Sequence[System], arguments: argparse.Namespace, folder: Path
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What was measured of each system's tasks, and what the first says about the device."""
    workers: list[Worker] = []
    try:
        rows = []
        for system in systems:
            workers.append(start(system, arguments, folder))
            tasks = tasks_of(system, arguments.objects, arguments.against, arguments.batches)
            rows += [(system, task, Row(workers[-1], str(task))) for task in tasks]
        with contextlib.suppress(KeyboardInterrupt):  # what was timed until then is told
            measure([row for *_, row in rows], arguments.rounds, budget=arguments.budget)
        about = next((worker.about for worker in workers if "error" not in worker.about), {})
        return [summary(*row) for row in rows], about
    finally:
        for worker in workers:
            worker.close()


def start(system: System, arguments: argparse.Namespace, folder: Path) -> Worker:
    options = {"--size": arguments.size, "--threads": arguments.threads, "--device": arguments.device}
    flat = [str(word) for pair in options.items() for word in pair]
    command = ["-m", "benchmarks.worker", json.dumps(system), str(folder), *flat]
    return Worker(system.name, command, environment(system, arguments.device, arguments.threads, folder))


def summary(system: System, task: Task, row: Row) -> dict[str, Any]:
    about = {"system": system.name, "label": system.label, "task": task.kind, "count": task.count}
    if row.note is not None or not row.runs:
        return {**about, "note": row.note or "not timed: the run was stopped"}
    milliseconds = [1e3 * run["seconds"] for run in row.runs]
    names = row.runs[0]["details"]
    details = {name: statistics.median(run["details"][name] for run in row.runs) for name in names}
    return {
        **about,
        "median_ms": statistics.median(milliseconds),
        "p99_ms": float(np.quantile(milliseconds, 0.99)),
        "min_ms": min(milliseconds),
        "processor_ms": 1e3 * statistics.median(run["processor_s"] for run in row.runs),
        "idle_ms": 1e3 * statistics.median(run["idle_s"] for run in row.runs),
        **row.prepared,
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
        if row.get("idle_ms", 0) > IDLE * row.get("median_ms", 0):
            print(f"{row['label']} worked {row['idle_ms']:.0f} ms out of turn, at the cost of its neighbours.")
    device = about.get("device", "")
    found = targets.measures(rows, arguments.device, arguments.device == "cpu" and machine.is_amd())
    print("\n" + targets.table(found))
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
