"""`edgetam-jax bench`."""

import re
from pathlib import Path

import pytest

from edgetam_jax.cli import main as cli
from edgetam_jax.cli.bench import Task, measure


@pytest.mark.slow
def test_bench(network: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["bench", "--model", str(network), "--objects", "1", "2", "--frames", "2"]) == 0
    out = capsys.readouterr().out
    rows = dict(re.findall(r"^(.+?) +([\d.]+) ms +[\d.]+ ms +[\d.]+ s$", out, re.MULTILINE))
    assert list(rows) == [
        "encode an image",
        "segment from a click",
        "track a frame, 1 object",
        "track a frame, 2 objects",
    ]
    assert all(float(value) > 0 for value in rows.values())
    assert cli.main(["bench", "--model", str(network), "--objects", "0"]) == 2
    assert "expected at least 1" in capsys.readouterr().err


def test_tasks_are_timed_in_turn() -> None:
    calls_made: list[str] = []
    tasks = [Task(name, lambda name=name: calls_made.append(name)) for name in ("a", "b")]
    timings = measure(tasks, calls=3, warmup=2)
    assert calls_made == ["a", "b"] * 5
    assert {name: len(timing.times) for name, timing in timings.items()} == {"a": 3, "b": 3}
    assert all(timing.median <= timing.p99 for timing in timings.values())
