"""What the project promises about its speed, as ratios of what was measured in one run."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks.systems import AVX512, SYSTEMS

Rows = Sequence[dict[str, Any]]
OURS = ("ours-tuned", "ours")  # the first that was measured; others are compared with the one that is tuned as they are


class Bar(NamedTuple):
    least: float
    aim: float


# Told beside what has a bar.
AGAINST = (
    "an image encoded: times as fast as ONNX Runtime",
    f"a click answered: times as fast as original, torch.compile, tuned{AVX512}",
    f"products of matrices: times as fast as original, eager, tuned{AVX512}",
)


class Measure(NamedTuple):
    what: str
    value: float
    least: float | None  # no less than that, or no more if `low`
    aim: float | None
    low: bool = False  # small is good

    @property
    def missed(self) -> bool:
        return self.verdict == "MISSED"

    @property
    def verdict(self) -> str:
        if self.least is None or self.aim is None:
            return ""
        sign = -1 if self.low else 1
        if sign * self.value >= sign * self.aim:
            return "aim"
        return "reached" if sign * self.value >= sign * self.least else "MISSED"


# Ours over (system, objects), both tuned: where PyTorch's products of matrices run on AVX2, and where on AVX-512.
SPEED = {
    ("original-tuned", 1): (Bar(2.0, 2.9), Bar(1.4, 2.0)),
    ("compiled-tuned", 1): (Bar(1.6, 2.3), Bar(1.05, 1.4)),
    ("hugging-face-tuned", 1): (Bar(1.7, 2.5), Bar(1.2, 1.75)),
    ("original-tuned", 4): (Bar(2.4, 3.3), Bar(1.4, 2.0)),
}
OBJECTS = {4: Bar(2.7, 2.3), 8: Bar(5.0, 4.2)}  # time over that for one
PEAK = Bar(0.60, 0.80)
HALF = {1: Bar(1.15, 1.6), 4: Bar(1.3, 1.8)}
GPU_MS = {1: Bar(2.5, 1.0), 8: Bar(8.0, 3.0)}
GPU_OVER_COMPILED = Bar(2.0, 4.0)


def measures(rows: Rows, device: str, amd: bool) -> list[Measure]:
    """Those that can be told from what was measured."""
    return [*_over_others(rows, device, amd), *_own(rows, device)]


def everywhere(rows: Rows, amd: bool, avx512: bool) -> dict[str, Measure]:
    """Of a run on CPU what has a bar or goes against us, by a name that is the same on all processors.

    What PyTorch does by itself on others that have AVX-512, it does on AMD where MKL is told to use it.
    """
    found = {}
    for one in measures(rows, "cpu", amd):
        what = re.sub(r"share of \d+ GFLOP/s, the peak", "share of the peak", one.what)
        if avx512 and not amd and re.search("as (original|Hugging)", what):
            what += AVX512
        if one.least is not None or what in AGAINST:
            found[what] = one
    return found


def median(rows: Rows, system: str, task: str, count: int = 1) -> float | None:
    wanted = system, task, count
    found = (row for row in rows if (row["system"], row["task"], row["count"]) == wanted)
    return next((row["median_ms"] for row in found if "median_ms" in row), None)


def ours(rows: Rows, names: Sequence[str], task: str, count: int = 1) -> float | None:
    found = (median(rows, name, task, count) for name in names)
    return next((one for one in found if one is not None), None)


def _over_others(rows: Rows, device: str, amd: bool) -> Iterator[Measure]:
    for row in rows:
        if row["system"].startswith("ours") or "median_ms" not in row:
            continue
        name, _, path = row["system"].partition("+")
        alike = "ours-bf16" if name.endswith("-bf16") else "ours-tuned" if SYSTEMS[name].tuned else "ours"
        mine = median(rows, alike, row["task"], row["count"])
        if mine is None:
            continue
        bars = SPEED.get((name, row["count"])) if row["task"] == "track" and device == "cpu" else None
        bar = None if bars is None else bars[0 if amd and not path else 1]
        if device == "gpu" and (name, row["task"], row["count"]) == ("compiled-bf16", "track", 1):
            bar = GPU_OVER_COMPILED
        what = f"{_named(row['task'], row['count'])}: times as fast as {row['label']}"
        yield Measure(what, row["median_ms"] / mine, *(bar or (None, None)))


def _own(rows: Rows, device: str) -> Iterator[Measure]:
    full = {n: ours(rows, OURS, "track", n) for n in sorted({row["count"] for row in rows})}
    half = {n: median(rows, "ours-bf16", "track", n) for n in full}
    one = full.get(1)
    for n, time in full.items():
        if one is not None and time is not None and n > 1:
            yield Measure(f"time for {n} objects over time for 1", time / one, *OBJECTS.get(n, (None, None)), low=True)
    for n, time in half.items():
        if time is not None and (exact := full[n]) is not None:
            bar = HALF.get(n, (None, None)) if device == "cpu" else (None, None)
            yield Measure(f"{_named('track', n)}: bf16 times as fast as float32", exact / time, *bar)
        if time is not None and device == "gpu":
            yield Measure(f"{_named('track', n)}, bf16: ms", time, *GPU_MS.get(n, (None, None)), low=True)
    for n in full:
        together = ours(rows, OURS, "videos", n)
        if one is not None and together is not None:
            yield Measure(f"{_named('videos', n)}: time over that for 1", together / one, None, None, low=True)
        clip = ours(rows, OURS, "clip", n)
        if one is not None and clip is not None:
            yield Measure(f"{_named('clip', n)}: time over that of {n} steps", clip / one / n, None, None, low=True)
    for row in rows:
        if "gflop" in row and row["count"] == 1 and (peak := _peak(rows, row["system"])):
            share = row["gflop"] / row["median_ms"] * 1e3 / peak
            yield Measure(f"{row['label']}: share of {peak:.0f} GFLOP/s, the peak of JAX here", share, *PEAK)


def _peak(rows: Rows, system: str) -> float | None:
    """Of its products of matrices, in GFLOP/s."""
    found = (row for row in rows if (row["system"], row["task"]) == (system, "gemm"))
    return next((row["details"]["gflops"] for row in found if "median_ms" in row), None)


def _named(task: str, count: int) -> str:
    names = {
        "encode": "an image encoded",
        "images": f"{count} images encoded at once",
        "segment": "a click answered",
        "gemm": "products of matrices",
        "clip": f"{count} frames tracked in one call, the first prompted",
        "videos": f"a frame each of {count} videos at once",
    }
    return names.get(task) or f"a frame, {count} object{'s' if count > 1 else ''}"


def table(found: Sequence[Measure]) -> str:
    lines = ["| measure | value | at least | aim | |", "|---|---:|---:|---:|---|"]
    for one in found:
        bounds = ["" if bound is None else f"{bound:g}" for bound in (one.least, one.aim)]
        lines.append(f"| {one.what} | {one.value:.2f} | {bounds[0]} | {bounds[1]} | {one.verdict} |")
    return "\n".join(lines)
