"""Compiles our programs for GPUs and TPUs that need not be there: `python -m benchmarks.aot [--targets h200 v5e]`.

Nothing is run. XLA's compilers tell how long compiling takes, how many kernels a program launches, how many of them
depend on the weights alone, how many bytes each moves, and how much temporary memory the program needs. Lower bounds of
the time follow. The extra `aot` has the compilers; `make aot` runs this in an environment of its own.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.aot.targets import TARGETS, Target, prepare_process

DTYPES = ("bfloat16", "float32")
HEAVIEST = 12  # kernels by bytes that are listed
LIMIT = 600  # processor seconds that one program may compile


def main() -> None:
    prepare_process()
    from benchmarks.aot.programs import PROGRAMS

    parser = argparse.ArgumentParser(prog="python -m benchmarks.aot", description=__doc__)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS), metavar="NAME")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--limit", type=int, default=LIMIT, help=f"processor seconds a program may compile ({LIMIT})")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # in this process, as a line of JSON
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(TARGETS[arguments.targets[0]], arguments.programs[0], arguments.dtypes[0])))
        return
    for name in arguments.targets:
        rows = []
        for program in arguments.programs:
            for dtype in arguments.dtypes:
                rows.append(in_a_process(name, program, dtype, arguments.limit))
                print(line_of(name, rows[-1]), flush=True)
                write(name, rows)  # each time, for what follows may take an hour


def in_a_process(target: str, program: str, dtype: str, limit: int) -> dict[str, Any]:
    """A row of results. The process may use `limit` seconds of processor time; a row without figures says why."""
    line = [
        sys.executable,
        "-m",
        "benchmarks.aot",
        "--one",
        "--targets",
        target,
        "--programs",
        program,
        "--dtypes",
        dtype,
    ]
    bound = lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))  # noqa: E731
    done = subprocess.run(line, capture_output=True, text=True, preexec_fn=bound)
    row = {"program": program, "dtype": dtype}
    if done.returncode == 0:
        return row | json.loads(done.stdout.splitlines()[-1])
    if done.returncode < 0:
        return row | {"note": f"not compiled after {limit} s of processor time"}
    return row | {"note": (done.stderr.strip().splitlines() or ["failed"])[-1]}


def measure(target: Target, name: str, dtype: str) -> dict[str, Any]:
    """Compiles one program for one device of the target, and reads the result."""
    import jax
    from jax.sharding import SingleDeviceSharding

    from benchmarks import flops
    from benchmarks.aot import hlo, programs

    require(target.platform)
    device = target.devices()[0]
    sharding = SingleDeviceSharding(device)
    program = programs.build(name, dtype, device)
    args = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), program.args)
    begin = time.process_time()
    traced = jax.jit(program.function, donate_argnums=program.donated).trace(*args)
    lowered = traced.lower(lowering_platforms=(target.platform,))
    trace_seconds, begin = time.process_time() - begin, _processor_seconds()
    compiled = lowered.compile()
    seconds, memory = _processor_seconds() - begin, compiled.memory_analysis()
    cost: Any = compiled.cost_analysis() or {}
    kernels = list(hlo.Program.parse(compiled.as_text() or "").kernels(re.compile(programs.WEIGHTS)))
    multiplied = flops.count(program.function, *program.args)
    moved = cost.get("bytes accessed") or sum(kernel.bytes for kernel in kernels)
    bounds = {
        "bytes_ms": 1e3 * moved / target.bandwidth,
        "flops_ms": 1e3 * multiplied / target.flops[dtype],
        "launches_ms": 1e3 * len(kernels) * target.launch_seconds,
    }
    return {
        "stablehlo_lines": lowered.as_text().count("\n"),
        "trace_s": round(trace_seconds, 1),
        "compile_s": round(seconds, 1),
        "kernels": len(kernels),
        "kernels_on_weights": sum(kernel.on_weights for kernel in kernels),
        "gflop": round(multiplied / 1e9, 1),
        "gigabytes": round(moved / 1e9, 2),
        "temporary_mb": round(memory.temp_size_in_bytes / 1e6) if memory else None,
        **{name: round(value, 3) for name, value in bounds.items()},
        "bound_ms": round(max(bounds["bytes_ms"] + bounds["launches_ms"], bounds["flops_ms"]), 3),
        "heaviest": [_describe(kernel) for kernel in sorted(kernels, key=lambda kernel: -kernel.bytes)[:HEAVIEST]],
    }


def require(platform: str) -> None:
    """Exits with the names of the packages that are missing to compile for a platform."""
    needed = {"tpu": ("libtpu",), "cuda": ("jax-cuda12-plugin", "jax-cuda12-pjrt", "nvidia-cuda-nvcc-cu12")}[platform]
    versions = {name: find_version(name) for name in ("jax", *needed)}
    missing = [name for name in needed if versions[name] is None]
    if missing:
        raise SystemExit(
            f"to compile for {platform} without a device, {' and '.join(missing)} must be installed: make aot, or "
            "pip install 'edgetam-jax[aot]' in an environment of its own."
        )
    unequal = [name for name in needed if name.startswith("jax-") and versions[name] != versions["jax"]]
    if unequal:
        raise SystemExit(f"{' and '.join(unequal)} must have the version of jax, {versions['jax']}.")


def find_version(package: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _processor_seconds() -> float:
    """Of this process and of those that it waited for: CUDA's assembler is one."""
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))


def _describe(kernel: Any) -> dict[str, Any]:
    source = kernel.instruction.source
    root = str(Path(__file__).parents[2]) + os.sep
    return {
        "kernel": kernel.instruction.name,
        "megabytes": round(kernel.bytes / 1e6, 1),
        "line": source.removeprefix(root),
        "operation": kernel.instruction.op_name[-100:],
    }


def line_of(target: str, row: dict[str, Any]) -> str:
    head = f"{target:8} {row['program']:16} {row['dtype']:9}"
    if "note" in row:
        return f"{head} {row['note']}"
    return (
        f"{head} {row['compile_s']:6.1f} s {row['kernels']:5} kernels ({row['kernels_on_weights']} on weights) "
        f"{row['gigabytes']:6.2f} GB {row['gflop']:7.1f} GFLOP {row['temporary_mb']:5} MB, "
        f"at least {row['bound_ms']:.2f} ms"
    )


def write(name: str, rows: list[dict[str, Any]]) -> None:
    from benchmarks import results
    from edgetam_jax.config import EDGETAM

    target = TARGETS[name]
    device = results.Device(name, target.name)
    results.write("aot", EDGETAM.image_size, device=device, note="compiled, not run", rows=rows)


if __name__ == "__main__":
    main()
