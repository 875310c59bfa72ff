"""Draws the picture and writes the tables of speed in docs/ from results: `python -m benchmarks.plots [FILE]`."""

import argparse
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import tables
from benchmarks.results import RESULTS
from edgetam_jax.media.atomic import replacing

DOCS = Path(__file__).parents[1] / "docs"
PAGES, PICTURE = (DOCS / "speed.md", DOCS / "video.md"), DOCS / "pictures" / "speed.svg"
DTYPE_TABLES = ("parts", "forms")  # the results of benchmarks.parts and benchmarks.forms
MARKER, END = "<!-- table: python -m benchmarks.plots, {} -->", "<!-- end of table -->"
WIDTH, LEFT, RIGHT, BAR = 880, 360, 110, 26  # in pixels: the picture, its left and right margin, the height of a row
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
    rows: list[dict[str, Any]]  # the fastest first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = RESULTS / "speed_cpu_1024.json"
    parser.add_argument(
        "file", nargs="?", type=Path, default=default, help=f"results of benchmarks.compare ({default.name})"
    )
    arguments = parser.parse_args()
    measured = json.loads(arguments.file.read_text())
    write(PICTURE, draw(measured))
    new_tables = all_tables(measured, arguments.file.parent)
    for page in PAGES:
        write(page, insert_tables(page.read_text(), new_tables))
    print("written:", *(path.relative_to(DOCS.parent) for path in (PICTURE, *PAGES)))


def write(path: Path, text: str) -> None:
    with replacing(path, force=True) as temporary:
        temporary.write_text(text)


def all_tables(measured: dict[str, Any], folder: Path) -> dict[str, str]:
    """The tables by the names of their markers, from one run and from the other results in its folder."""

    def rows(name: str) -> list[dict[str, Any]]:
        return json.loads((folder / f"{name}_cpu_1024.json").read_text())["rows"]

    others = [json.loads(path.read_text()) for path in sorted(folder.glob("speed_cpu_1024_*.json"))]
    return {
        **run_tables(measured),
        "bars": tables.target_table([measured, *others]),
        "sizes": tables.sizes_table(tables.runs_by_size(measured, folder)),
        "compiling": tables.compiling_table(rows("compiling")),
        "aot": tables.aot_table([json.loads(path.read_text()) for path in sorted(folder.glob("aot_*_1024.json"))]),
        **{name: tables.dtype_table(rows(name)) for name in DTYPE_TABLES},
    }


def charts(rows: Sequence[dict[str, Any]]) -> list[Chart]:
    """One chart for each number of objects for which other systems were timed, and one for the image encoder.

    Systems that were timed both with a tuned allocator and without are shown with it.
    """
    timed = [row for row in rows if "median_ms" in row]
    keys = {(row["system"], row["task"], row["count"]) for row in timed}
    timed = [row for row in timed if (_tuned_name(row["system"]), row["task"], row["count"]) not in keys]
    others = [row for row in timed if not row["system"].startswith("ours")]
    counts = sorted({row["count"] for row in others if row["task"] == "track"})
    wanted = [("track", n, f"a frame tracked, {n} object{'s' if n > 1 else ''}") for n in counts]
    all_charts = [
        Chart(title, [row for row in timed if (row["task"], row["count"]) == (task, n)])
        for task, n, title in [*wanted, ("encode", 1, "an image encoded")]
    ]
    return [
        chart._replace(rows=sorted(chart.rows, key=lambda row: row["median_ms"])) for chart in all_charts if chart.rows
    ]


def _tuned_name(system: str) -> str:
    name, plus, path = system.partition("+")
    return f"{name}-tuned{plus}{path}"


def draw(measured: dict[str, Any]) -> str:
    """The picture as SVG: bars of milliseconds, each chart with its own scale."""
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
    parts.append(_text(30, y, tables.describe_run(measured), "note"))
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


def run_tables(measured: dict[str, Any]) -> dict[str, str]:
    """Tables from one run, by the names of their markers."""
    picture = f"![Milliseconds a frame](pictures/{PICTURE.name})"
    return {
        "times": f"{picture}\n\n{tables.describe_run(measured)}.\n\n{tables.times_table(measured['rows'])}",
        "video": tables.stages_table(measured["rows"]),
        "objects": tables.objects_table(measured["rows"]),
    }


def insert_tables(page: str, new_tables: dict[str, str]) -> str:
    """The page with the tables that it has markers for replaced."""
    for name, text in new_tables.items():
        marker = MARKER.format(name)
        if marker not in page:
            continue
        start = page.index(marker) + len(marker)
        page = f"{page[:start]}\n\n{text}\n\n{page[page.index(END, start) :]}"
    return page


if __name__ == "__main__":
    main()
