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
    assert list(rows) == ["an image encoded", "a click answered", "a frame, 1 object", "a frame, 2 objects"]
    assert all(float(value) > 0 for value in rows.values())
    assert cli.main(["bench", "--model", str(network), "--objects", "0"]) == 2
    assert "expected at least 1" in capsys.readouterr().err


def test_tasks_take_turns() -> None:
    called: list[str] = []
    tasks = [Task(name, lambda name=name: called.append(name)) for name in ("a", "b")]
    timings = measure(tasks, times=3, warm=2)
    assert called == ["a", "b"] * 5
    assert {name: len(timing.times) for name, timing in timings.items()} == {"a": 3, "b": 3}
    assert all(timing.median <= timing.worst for timing in timings.values())
