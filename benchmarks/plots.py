"""The picture and the tables of speed in docs/, from what was measured: `python -m benchmarks.plots [FILE]`."""

import argparse
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import targets
from benchmarks.results import RESULTS
from edgetam_jax.media.atomic import replacing

DOCS = Path(__file__).parents[1] / "docs"
PAGES, PICTURE = (DOCS / "speed.md", DOCS / "video.md"), DOCS / "pictures" / "speed.svg"
KNOWN = {
    "(family 26, model 2)": "AMD Zen 5",
    "(family 25, model 17)": "AMD Zen 4",
    "(family 6, model 207)": "Intel Emerald Rapids",
}
BY_TYPE = ("parts", "forms")  # what benchmarks.parts and benchmarks.forms measured
MARKER, END = "<!-- table: python -m benchmarks.plots, {} -->", "<!-- end of table -->"
WIDTH, LEFT, RIGHT, BAR = 880, 360, 110, 26  # pixels: of the picture, of the names, of the numbers, of a bar's row
STYLE = """
    text { fill: #20242c } .card { fill: #f6f7fa; stroke: #d5dae3 } .head { font-weight: 600 }
    .note { fill: #5b6475; font-size: 12.5px } .ours { fill: #2f9e57 } .other { fill: #9aa7bd }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6e9ef } .card { fill: #1d212a; stroke: #3a4150 } .note { fill: #a3adbf }
      .ours { fill: #45b870 } .other { fill: #6b7890 }
    }
"""


class Chart(NamedTuple):
    title: str
    rows: list[dict[str, Any]]  # the quickest first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = RESULTS / "speed_cpu_1024.json"
    parser.add_argument("file", nargs="?", type=Path, default=default, help=f"of benchmarks.compare ({default.name})")
    arguments = parser.parse_args()
    measured = json.loads(arguments.file.read_text())
    write(PICTURE, draw(measured))
    found = every_table(measured, arguments.file.parent)
    for page in PAGES:
        write(page, refreshed(page.read_text(), found))
    print("written:", *(path.relative_to(DOCS.parent) for path in (PICTURE, *PAGES)))


def write(path: Path, text: str) -> None:
    with replacing(path, force=True) as aside:
        aside.write_text(text)


def every_table(measured: dict[str, Any], folder: Path) -> dict[str, str]:
    """What goes into the pages, by name: from one run, and from what lies beside its file."""

    def rows(name: str) -> list[dict[str, Any]]:
        return json.loads((folder / f"{name}_cpu_1024.json").read_text())["rows"]

    others = [json.loads(path.read_text()) for path in sorted(folder.glob("speed_cpu_1024_*.json"))]
    return {
        **tables(measured),
        "bars": every_bar([measured, *others]),
        "sizes": sizes(at_every_size(measured, folder)),
        "compiling": compiling(rows("compiling")),
        **{name: by_type(rows(name)) for name in BY_TYPE},
    }


def charts(rows: Sequence[dict[str, Any]]) -> list[Chart]:
    """One for each number of objects that others were timed with, and one for the image encoder.

    Of those who were timed with a tuned allocator and without, the tuned ones are shown.
    """
    timed = [row for row in rows if "median_ms" in row]
    there = {(row["system"], row["task"], row["count"]) for row in timed}
    timed = [row for row in timed if (_tuned(row["system"]), row["task"], row["count"]) not in there]
    others = [row for row in timed if not row["system"].startswith("ours")]
    counts = sorted({row["count"] for row in others if row["task"] == "track"})
    wanted = [("track", n, f"a frame tracked, {n} object{'s' if n > 1 else ''}") for n in counts]
    found = [
        Chart(title, [row for row in timed if (row["task"], row["count"]) == (task, n)])
        for task, n, title in [*wanted, ("encode", 1, "an image encoded")]
    ]
    return [chart._replace(rows=sorted(chart.rows, key=lambda row: row["median_ms"])) for chart in found if chart.rows]


def _tuned(system: str) -> str:
    name, plus, path = system.partition("+")
    return f"{name}-tuned{plus}{path}"


def draw(measured: dict[str, Any]) -> str:
    """Bars of milliseconds, each chart to its own scale."""
    y, parts = 40.0, [_text(30, 40, "Milliseconds, median; shorter is faster", "head")]
    for chart in charts(measured["rows"]):
        y += 40
        parts.append(_text(30, y, chart.title, "head"))
        longest = max(row["median_ms"] for row in chart.rows)
        for row in chart.rows:
            y += BAR
            length = (WIDTH - LEFT - RIGHT) * row["median_ms"] / longest
            kind = "ours" if row["system"].startswith("ours") else "other"
            parts.append(_text(LEFT - 12, y, row["label"], "", "end"))
            parts.append(
                f'<rect class="{kind}" x="{LEFT}" y="{y - 14:.0f}" width="{length:.1f}" height="{BAR - 8}" rx="3"/>'
            )
            parts.append(_text(LEFT + length + 8, y, _milliseconds(row["median_ms"])))
    y += 36
    parts.append(_text(30, y, machine(measured), "note"))
    height = y + 24
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
            'font-family="system-ui, \'DejaVu Sans\', sans-serif" font-size="14" role="img" '
            'aria-labelledby="title">',
            '  <title id="title">Milliseconds a frame of edgetam_jax and of others</title>',
            f"  <style>{STYLE}  </style>",
            f'  <rect class="card" x="1" y="1" width="{WIDTH - 2}" height="{height - 2:.0f}" rx="14"/>',
            *(f"  {part}" for part in parts),
            "</svg>",
            "",
        ]
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    mark = f' class="{kind}"' if kind else ""
    return f'<text{mark} x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms" if value >= 10 else f"{value:.2g} ms"


def machine(measured: dict[str, Any]) -> str:
    where = measured["device"]
    if where == "cpu":
        where = processor(measured)
    versions = ", ".join(
        f"{name} {measured['versions'][name]}" for name in ("jax", "torch") if name in measured["versions"]
    )
    size, turns = measured["image_size"], measured["rounds"]
    about = f"{size}x{size} pixels, {where}, {measured['threads']} threads, {versions}"
    return f"{about}, {turns} turns each, {measured['date']}"


def tables(measured: dict[str, Any]) -> dict[str, str]:
    """By the marker that they stand below."""
    picture = f"![Milliseconds a frame](pictures/{PICTURE.name})"
    return {
        "times": f"{picture}\n\n{machine(measured)}.\n\n{times(measured['rows'])}",
        "video": stages(measured["rows"]),
        "objects": objects(measured["rows"]),
    }


def times(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each system, a column for each task."""
    columns = [*dict.fromkeys((row["task"], row["count"]) for row in rows if row["task"] in ("encode", "segment"))]
    columns += sorted({("track", row["count"]) for row in rows if row["task"] == "track"})
    by_place = {(row["system"], row["task"], row["count"]): row for row in rows}
    lines = [["milliseconds, median (p99)", *(_column(*column) for column in columns), "memory", "first call"]]
    for name, label in dict.fromkeys((row["system"], row["label"]) for row in rows):
        cells = [by_place.get((name, *column)) for column in columns]
        one = by_place.get((name, "track", 1), {})
        peak = f"{one['peak_bytes'] / 1e9:.1f} GB" if one.get("peak_bytes") else ""
        first = f"{one['first_s']:.0f} s" if "first_s" in one else ""
        lines.append([label, *map(_cell, cells), peak, first])
    return _markdown(lines)


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


def stages(rows: Sequence[dict[str, Any]]) -> str:
    """Of a frame from a video file to a video file."""
    found = [row for row in rows if row["task"] == "video" and "median_ms" in row]
    names = list(found[0]["details"]) if found else []
    lines = [["milliseconds, median", *names, "together"]]
    lines += [
        [row["label"], *(f"{1e3 * row['details'][n]:.1f}" for n in names), f"{row['median_ms']:.0f}"] for row in found
    ]
    return _markdown(lines)


def objects(rows: Sequence[dict[str, Any]]) -> str:
    """What a frame costs us with each number of objects."""
    counts = sorted({row["count"] for row in rows if row["task"] == "track"})
    times = {n: targets.ours(rows, targets.OURS, "track", n) for n in counts}
    cells = ["" if time is None else f"{time:.0f}" for time in times.values()]
    return _markdown([["objects", *map(str, counts)], ["milliseconds a frame", *cells]])


def at_every_size(measured: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """This run, and those of the same machine for images of other sizes; the smallest first."""
    by_size = {measured["image_size"]: measured}
    for path in sorted(folder.glob("speed_*.json")):
        other = json.loads(path.read_text())
        if all(other.get(name) == measured[name] for name in ("device", "processor", "threads")):
            by_size.setdefault(other["image_size"], other)
    return [by_size[size] for size in sorted(by_size)]


def sizes(documents: Sequence[dict[str, Any]]) -> str:
    """What an image and a frame cost at every size, of those who were timed at all of them."""
    timed = [[row for row in document["rows"] if "median_ms" in row] for document in documents]
    labels = [dict.fromkeys(row["label"] for row in rows) for rows in timed]
    shared = [label for label in labels[0] if all(label in some for some in labels)]
    columns = [
        ("encode", 1),
        *sorted({("track", row["count"]) for rows in timed for row in rows if row["task"] == "track"}),
    ]
    lines = [["milliseconds, median", "size", *(_column(*column) for column in columns)]]
    for label in shared:
        for document, rows in zip(documents, timed, strict=True):
            by_place = {(row["task"], row["count"]): row for row in rows if row["label"] == label}
            cells = [f"{by_place[column]['median_ms']:.0f}" if column in by_place else "" for column in columns]
            lines.append([label, str(document["image_size"]), *cells])
    return _markdown(lines)


def every_bar(documents: Sequence[dict[str, Any]]) -> str:
    """What has a bar, and what goes against us; what is missed is bold. A column a processor, of its first run."""
    found: dict[str, dict[str, targets.Measure]] = {}
    for one in documents:
        amd, avx512 = one["processor"].startswith("AMD"), "avx512f" in one["instructions"]
        found.setdefault(processor(one), targets.everywhere(one["rows"], amd, avx512))
    lines = [["", "at least", "aim", *found]]
    for what in dict.fromkeys(name for measures in found.values() for name in measures):
        there = [measures.get(what) for measures in found.values()]
        bounds = next(([one.least, one.aim] for one in there if one and one.least), [None, None])
        cells = ["" if one is None else f"**{one.value:.2f}**" if one.missed else f"{one.value:.2f}" for one in there]
        lines.append([what, *("" if bound is None else f"{bound:g}" for bound in bounds), *cells])
    return _markdown(lines)


def processor(measured: dict[str, Any]) -> str:
    """By the name that people know it by, where its maker gives many generations one."""
    return next((name for kind, name in KNOWN.items() if kind in measured["processor"]), measured["processor"])


def compiling(rows: Sequence[dict[str, Any]]) -> str:
    """What `benchmarks.compiling` measured."""
    lines = [["seconds, median", "traced", "compiled", "from the cache"]]
    for row in rows:
        name = f"{row['objects']} object{'s' if row['objects'] > 1 else ''}, {row['dtype']}"
        lines.append([name, *(f"{row[key]:.1f}" for key in ("trace_s", "compile_s", "kept_s"))])
    return _markdown(lines)


def by_type(rows: Sequence[dict[str, Any]]) -> str:
    """What each part or form takes in one type and in another."""
    by_place = {(row["part"], row["dtype"]): row["median_ms"] for row in rows}
    first, second = dict.fromkeys(row["dtype"] for row in rows)
    lines = [["milliseconds, median", first, second, "times as fast"]]
    for name in dict.fromkeys(row["part"] for row in rows):
        before, after = by_place[name, first], by_place[name, second]
        lines.append([name, _short(before), _short(after), f"{before / after:.2f}"])
    return _markdown(lines)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    """The first line is the head; the first column names, the others count."""
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def refreshed(page: str, found: dict[str, str]) -> str:
    """The page with those tables that it has a place for."""
    for name, text in found.items():
        marker = MARKER.format(name)
        if marker not in page:
            continue
        start = page.index(marker) + len(marker)
        page = f"{page[:start]}\n\n{text}\n\n{page[page.index(END, start) :]}"
    return page


if __name__ == "__main__":
    main()
