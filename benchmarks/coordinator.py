"""Processes that do one piece of work at a time, when they are told to; see `worker` for their side."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

PATIENCE = 20.0  # seconds that a process has to end


class Worker:
    """A process that answers each line with a line of JSON. What goes wrong there is an answer with "error"."""

    def __init__(self, name: str, arguments: Sequence[str], variables: Mapping[str, str] = os.environ) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(variables)
        )
        self.about = self._read()

    def ask(self, line: str) -> dict[str, Any]:
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._ended()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else self._ended()

    def _ended(self) -> dict[str, Any]:
        return {"error": f"its process ended with code {self._process.wait(PATIENCE)}"}

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(PATIENCE)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Row:
    """One task of one system: how it was prepared, and each time that it was done."""

    def __init__(self, worker: Worker, task: str) -> None:
        self.worker, self.task = worker, task
        self.prepared: dict[str, Any] = {}
        self.runs: list[dict[str, Any]] = []
        self.note: str | None = worker.about.get("error")

    def prepare(self) -> None:
        self._ask("prepare", self.prepared)

    def run(self) -> None:
        answer: dict[str, Any] = {}
        if self._ask("run", answer):
            self.runs.append(answer)

    def _ask(self, verb: str, answer: dict[str, Any]) -> bool:
        """False where it failed: then, and after an earlier failure, nothing is asked any more."""
        if self.note is None:
            answer |= self.worker.ask(f"{verb} {self.task}")
            self.note = answer.get("error")
        return self.note is None


def measure(rows: Sequence[Row], rounds: int, pause: float = 0.02, budget: float = math.inf) -> None:
    """Everything is prepared; then, in each round, every row's task is done once, so that all meet the same machine.

    One works at a time; the pause lets threads of the one before go to sleep. After `budget` seconds nothing more is
    prepared. What a task took once it was warm is printed at once, for who has to stop early.
    """
    start = time.monotonic()
    for row in rows:
        begin = time.monotonic()
        if begin - start > budget:
            row.note = row.note or f"not prepared within {budget:.0f} s"
        row.prepare()
        told = row.note
        if told is None:
            told = f"ready after {time.monotonic() - begin:.0f} s, {1e3 * row.prepared['warm_s']:.1f} ms when warm"
        print(f"{row.worker.name}, {row.task}: {told}", flush=True)
    for _ in range(rounds):
        for row in rows:
            time.sleep(pause)
            row.run()
