"""The tables of speed in docs/, made from results."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import targets

PROCESSOR_NAMES = {
    "(family 26, model 2)": "AMD Zen 5",
    "(family 25, model 17)": "AMD Zen 4",
    "(family 6, model 207)": "Intel Emerald Rapids",
}


def describe_run(measured: dict[str, Any]) -> str:
    """The settings and the machine of a run, for captions."""
    device = measured["device"]
    if device == "cpu":
        device = processor_name(measured)
    versions = ", ".join(
        f"{name} {measured['versions'][name]}" for name in ("jax", "torch") if name in measured["versions"]
    )
    size, rounds = measured["image_size"], measured["rounds"]
    about = f"{size}x{size} pixels, {device}, {measured['threads']} threads, {versions}"
    return f"{about}, {rounds} turns each, {measured['date']}"


def times_table(rows: Sequence[dict[str, Any]]) -> str:
    """A row for each system, a column for each task."""
    columns = [*dict.fromkeys((row["task"], row["count"]) for row in rows if row["task"] in ("encode", "segment"))]
    columns += sorted({("track", row["count"]) for row in rows if row["task"] == "track"})
    by_task = {(row["system"], row["task"], row["count"]): row for row in rows}
    lines = [["milliseconds, median (p99)", *(_column(*column) for column in columns), "memory", "first call"]]
    for name, label in dict.fromkeys((row["system"], row["label"]) for row in rows):
        cells = [by_task.get((name, *column)) for column in columns]
        tracked = by_task.get((name, "track", 1), {})
        peak = f"{tracked['peak_bytes'] / 1e9:.1f} GB" if tracked.get("peak_bytes") else ""
        first = f"{tracked['first_s']:.0f} s" if "first_s" in tracked else ""
        lines.append([label, *map(_cell, cells), peak, first])
    return _format_table(lines)


def _column(task: str, count: int) -> str:
    names = {"encode": "image", "segment": "click"}
    return names.get(task) or f"frame, {count} object{'s' if count > 1 else ''}"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if "note" in row:
        return "failed: " + row["note"].replace("|", "/")
    median = _short(row["median_ms"])
    return f"{median} ({row['p99_ms']:.0f})" if row["median_ms"] >= 10 else median


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.0f}" if milliseconds >= 10 else f"{milliseconds:.1f}"


def stages_table(rows: Sequence[dict[str, Any]]) -> str:
    """The stages of a frame from a video file to a video file."""
    timed = [row for row in rows if row["task"] == "video" and "median_ms" in row]
    names = list(timed[0]["details"]) if timed else []
    lines = [["milliseconds, median", *names, "together"]]
    lines += [
        [row["label"], *(f"{1e3 * row['details'][n]:.1f}" for n in names), f"{row['median_ms']:.0f}"] for row in timed
    ]
    return _format_table(lines)


def objects_table(rows: Sequence[dict[str, Any]]) -> str:
    """The time of a frame in this package for each number of objects."""
    counts = sorted({row["count"] for row in rows if row["task"] == "track"})
    times = {n: targets.first_median(rows, targets.OURS, "track", n) for n in counts}
    cells = ["" if time is None else f"{time:.0f}" for time in times.values()]
    return _format_table([["objects", *map(str, counts)], ["milliseconds a frame", *cells]])


def runs_by_size(measured: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """This run and those on the same machine for other image sizes, the smallest size first."""
    by_size = {measured["image_size"]: measured}
    for path in sorted(folder.glob("speed_*.json")):
        other = json.loads(path.read_text())
        if all(other.get(name) == measured[name] for name in ("device", "processor", "threads")):
            by_size.setdefault(other["image_size"], other)
    return [by_size[size] for size in sorted(by_size)]


def sizes_table(documents: Sequence[dict[str, Any]]) -> str:
    """The time of an image and of a frame at every size, for the systems that were timed at all of them."""
    timed = [[row for row in document["rows"] if "median_ms" in row] for document in documents]
    labels = [dict.fromkeys(row["label"] for row in rows) for rows in timed]
    shared = [label for label in labels[0] if all(label in others for others in labels)]
    columns = [
        ("encode", 1),
        *sorted({("track", row["count"]) for rows in timed for row in rows if row["task"] == "track"}),
    ]
    lines = [["milliseconds, median", "size", *(_column(*column) for column in columns)]]
    for label in shared:
        for document, rows in zip(documents, timed, strict=True):
            by_task = {(row["task"], row["count"]): row for row in rows if row["label"] == label}
            cells = [f"{by_task[column]['median_ms']:.0f}" if column in by_task else "" for column in columns]
            lines.append([label, str(document["image_size"]), *cells])
    return _format_table(lines)


def target_table(documents: Sequence[dict[str, Any]]) -> str:
    """Measurements with a target, a column for each processor (its first run). Missed targets are bold."""
    columns: dict[str, dict[str, targets.Measurement]] = {}
    for document in documents:
        amd, avx512 = document["processor"].startswith("AMD"), "avx512f" in document["instructions"]
        measured = targets.portable_measurements(document["rows"], amd, avx512)
        columns.setdefault(processor_name(document), measured)
    lines = [["", "at least", "aim", *columns]]
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        row = [column.get(name) for column in columns.values()]
        bounds = next(([cell.minimum, cell.aim] for cell in row if cell and cell.minimum), [None, None])
        cells = [
            "" if cell is None else f"**{cell.value:.2f}**" if cell.missed else f"{cell.value:.2f}" for cell in row
        ]
        lines.append([name, *("" if bound is None else f"{bound:g}" for bound in bounds), *cells])
    return _format_table(lines)


def processor_name(measured: dict[str, Any]) -> str:
    """The common name of the processor, if the name that it reports is shared by several generations."""
    return next(
        (name for kind, name in PROCESSOR_NAMES.items() if kind in measured["processor"]), measured["processor"]
    )


def compiling_table(rows: Sequence[dict[str, Any]]) -> str:
    """The results of `benchmarks.compiling`."""
    lines = [["seconds, median", "traced", "compiled", "from the cache"]]
    for row in rows:
        name = f"{row['objects']} object{'s' if row['objects'] > 1 else ''}, {row['dtype']}"
        lines.append([name, *(f"{row[key]:.1f}" for key in ("trace_s", "compile_s", "kept_s"))])
    return _format_table(lines)


def aot_table(documents: Sequence[dict[str, Any]]) -> str:
    """The results of `benchmarks.aot`, a document for each device."""
    columns = ("compile_s", "kernels", "kernels_on_weights", "gigabytes", "gflop", "temporary_mb", "bound_ms")
    names = ("compiled, s", "kernels", "on weights alone", "GB moved", "GFLOP", "temporary, MB", "at least, ms")
    lines = [["compiled, not run", "dtype", *names]]
    for document in documents:
        for row in document["rows"]:
            cells = [row["note"], *[""] * (len(columns) - 1)] if "note" in row else [str(row[key]) for key in columns]
            lines.append([f"{document['device']}: {row['program']}", row["dtype"], *cells])
    return _format_table(lines)


def dtype_table(rows: Sequence[dict[str, Any]]) -> str:
    """The time of each part or form in two dtypes."""
    by_part = {(row["part"], row["dtype"]): row["median_ms"] for row in rows}
    first, second = dict.fromkeys(row["dtype"] for row in rows)
    lines = [["milliseconds, median", first, second, "times as fast"]]
    for name in dict.fromkeys(row["part"] for row in rows):
        before, after = by_part[name, first], by_part[name, second]
        lines.append([name, _short(before), _short(after), f"{before / after:.2f}"])
    return _format_table(lines)


def _format_table(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table. The first line is the header; all columns but the first are right-aligned."""
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))
