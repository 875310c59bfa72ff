"""The project's targets for its speed, as ratios of measurements from one run."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks.systems import AVX512, SYSTEMS

Rows = Sequence[dict[str, Any]]
OURS = ("ours-tuned", "ours")  # the first that was measured is used; other systems are compared with the equally tuned


class Target(NamedTuple):
    minimum: float
    aim: float


# Reported together with the measurements that have a target.
WITHOUT_TARGET = (
    "an image encoded: times as fast as ONNX Runtime",
    f"a click answered: times as fast as original, torch.compile, tuned{AVX512}",
    f"products of matrices: times as fast as original, eager, tuned{AVX512}",
)


class Measurement(NamedTuple):
    name: str
    value: float
    minimum: float | None  # the maximum if `lower_is_better`
    aim: float | None
    lower_is_better: bool = False

    @property
    def missed(self) -> bool:
        return self.status == "MISSED"

    @property
    def status(self) -> str:
        if self.minimum is None or self.aim is None:
            return ""
        sign = -1 if self.lower_is_better else 1
        if sign * self.value >= sign * self.aim:
            return "aim"
        return "reached" if sign * self.value >= sign * self.minimum else "MISSED"


# The speedup over (system, objects), both tuned: where PyTorch's matrix products use AVX2, and where they use AVX-512.
SPEED = {
    ("original-tuned", 1): (Target(2.0, 2.9), Target(1.4, 2.0)),
    ("compiled-tuned", 1): (Target(1.6, 2.3), Target(1.05, 1.4)),
    ("hugging-face-tuned", 1): (Target(1.7, 2.5), Target(1.2, 1.75)),
    ("original-tuned", 4): (Target(2.4, 3.3), Target(1.4, 2.0)),
}
OBJECTS_RATIO = {4: Target(2.7, 2.3), 8: Target(5.0, 4.2)}  # the time relative to one object
PEAK_SHARE = Target(0.60, 0.80)
BF16_SPEEDUP = {1: Target(1.15, 1.6), 4: Target(1.3, 1.8)}
GPU_MS = {1: Target(2.5, 1.0), 8: Target(8.0, 3.0)}
GPU_OVER_COMPILED = Target(2.0, 4.0)


def measurements(rows: Rows, device: str, amd: bool) -> list[Measurement]:
    """All measurements that can be made from these rows."""
    return [*_over_others(rows, device, amd), *_ours_alone(rows, device)]


def portable_measurements(rows: Rows, amd: bool, avx512: bool) -> dict[str, Measurement]:
    """Measurements of a run on CPU that have a target or are in `WITHOUT_TARGET`, by names that fit all processors.

    PyTorch on another processor with AVX-512 is comparable to PyTorch on AMD with MKL told to use AVX-512.
    """
    by_name = {}
    for measurement in measurements(rows, "cpu", amd):
        name = re.sub(r"share of \d+ GFLOP/s, the peak", "share of the peak", measurement.name)
        if avx512 and not amd and re.search("as (original|Hugging)", name):
            name += AVX512
        if measurement.minimum is not None or name in WITHOUT_TARGET:
            by_name[name] = measurement
    return by_name


def median(rows: Rows, system: str, task: str, count: int = 1) -> float | None:
    """The median time in milliseconds; None if it was not measured."""
    key = system, task, count
    matches = (row for row in rows if (row["system"], row["task"], row["count"]) == key)
    return next((row["median_ms"] for row in matches if "median_ms" in row), None)


def first_median(rows: Rows, names: Sequence[str], task: str, count: int = 1) -> float | None:
    """The median of the first of these systems that was measured."""
    medians = (median(rows, name, task, count) for name in names)
    return next((value for value in medians if value is not None), None)


def _over_others(rows: Rows, device: str, amd: bool) -> Iterator[Measurement]:
    for row in rows:
        if row["system"].startswith("ours") or "median_ms" not in row:
            continue
        base, _, path = row["system"].partition("+")
        counterpart = "ours-bf16" if base.endswith("-bf16") else "ours-tuned" if SYSTEMS[base].tuned else "ours"
        ours = median(rows, counterpart, row["task"], row["count"])
        if ours is None:
            continue
        choices = SPEED.get((base, row["count"])) if row["task"] == "track" and device == "cpu" else None
        target = None if choices is None else choices[0 if amd and not path else 1]
        if device == "gpu" and (base, row["task"], row["count"]) == ("compiled-bf16", "track", 1):
            target = GPU_OVER_COMPILED
        name = f"{_task_label(row['task'], row['count'])}: times as fast as {row['label']}"
        yield Measurement(name, row["median_ms"] / ours, *(target or (None, None)))


def _ours_alone(rows: Rows, device: str) -> Iterator[Measurement]:
    full = {n: first_median(rows, OURS, "track", n) for n in sorted({row["count"] for row in rows})}
    bf16 = {n: median(rows, "ours-bf16", "track", n) for n in full}
    single = full.get(1)
    for n, time in full.items():
        if single is not None and time is not None and n > 1:
            yield Measurement(
                f"time for {n} objects over time for 1",
                time / single,
                *OBJECTS_RATIO.get(n, (None, None)),
                lower_is_better=True,
            )
    for n, time in bf16.items():
        if time is not None and (exact := full[n]) is not None:
            target = BF16_SPEEDUP.get(n, (None, None)) if device == "cpu" else (None, None)
            yield Measurement(f"{_task_label('track', n)}: bf16 times as fast as float32", exact / time, *target)
        if time is not None and device == "gpu":
            yield Measurement(
                f"{_task_label('track', n)}, bf16: ms", time, *GPU_MS.get(n, (None, None)), lower_is_better=True
            )
    for n in full:
        batched = first_median(rows, OURS, "videos", n)
        if single is not None and batched is not None:
            yield Measurement(
                f"{_task_label('videos', n)}: time over that for 1", batched / single, None, None, lower_is_better=True
            )
        clip = first_median(rows, OURS, "clip", n)
        if single is not None and clip is not None:
            yield Measurement(
                f"{_task_label('clip', n)}: time over that of {n} steps",
                clip / single / n,
                None,
                None,
                lower_is_better=True,
            )
    for row in rows:
        if "gflop" in row and row["count"] == 1 and (peak := _peak_gflops(rows, row["system"])):
            share = row["gflop"] / row["median_ms"] * 1e3 / peak
            yield Measurement(f"{row['label']}: share of {peak:.0f} GFLOP/s, the peak of JAX here", share, *PEAK_SHARE)


def _peak_gflops(rows: Rows, system: str) -> float | None:
    """The throughput of a system's matrix products, in GFLOP/s."""
    matches = (row for row in rows if (row["system"], row["task"]) == (system, "gemm"))
    return next((row["details"]["gflops"] for row in matches if "median_ms" in row), None)


def _task_label(task: str, count: int) -> str:
    names = {
        "encode": "an image encoded",
        "images": f"{count} images encoded at once",
        "segment": "a click answered",
        "gemm": "products of matrices",
        "clip": f"{count} frames tracked in one call, the first prompted",
        "videos": f"a frame each of {count} videos at once",
    }
    return names.get(task) or f"a frame, {count} object{'s' if count > 1 else ''}"


def format_table(rows: Sequence[Measurement]) -> str:
    lines = ["| measure | value | at least | aim | |", "|---|---:|---:|---:|---|"]
    for row in rows:
        bounds = ["" if bound is None else f"{bound:g}" for bound in (row.minimum, row.aim)]
        lines.append(f"| {row.name} | {row.value:.2f} | {bounds[0]} | {bounds[1]} | {row.status} |")
    return "\n".join(lines)
