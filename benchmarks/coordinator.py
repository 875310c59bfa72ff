"""Controls the processes of the comparison, one task at a time; `worker` is their side of the protocol."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

SHUTDOWN_SECONDS = 20.0  # how long a process may take to end


class Worker:
    """A process that replies to each line with a line of JSON. If it fails, the reply has the key "error"."""

    def __init__(self, name: str, arguments: Sequence[str], variables: Mapping[str, str] = os.environ) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(variables)
        )
        self.about = self._read()

    def request(self, line: str) -> dict[str, Any]:
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
        return {"error": f"its process ended with code {self._process.wait(SHUTDOWN_SECONDS)}"}

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(SHUTDOWN_SECONDS)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class TaskRun:
    """One task of one system: the facts from preparing it, and the measurements of each run."""

    def __init__(self, worker: Worker, task: str) -> None:
        self.worker, self.task = worker, task
        self.facts: dict[str, Any] = {}
        self.runs: list[dict[str, Any]] = []
        self.failure: str | None = worker.about.get("error")

    def prepare(self) -> None:
        self._request("prepare", self.facts)

    def run(self) -> None:
        measured: dict[str, Any] = {}
        if self._request("run", measured):
            self.runs.append(measured)

    def _request(self, command: str, reply: dict[str, Any]) -> bool:
        """Fills in the reply. Returns False after a failure, also an earlier one, after which nothing is requested."""
        if self.failure is None:
            reply |= self.worker.request(f"{command} {self.task}")
            self.failure = reply.get("error")
        return self.failure is None


def run_in_turns(tasks: Sequence[TaskRun], rounds: int, pause: float = 0.02, budget: float = math.inf) -> None:
    """Prepares all tasks, then runs each of them once a round, so that other load on the machine affects all alike.

    Only one process works at a time; the pause lets the threads of the previous one go to sleep. After `budget` seconds
    no more tasks are prepared. The time of a warm call is printed immediately, for runs that are stopped early.
    """
    start = time.monotonic()
    for task in tasks:
        task_start = time.monotonic()
        if task_start - start > budget:
            task.failure = task.failure or f"not prepared within {budget:.0f} s"
        task.prepare()
        status = task.failure
        if status is None:
            seconds = time.monotonic() - task_start
            status = f"ready after {seconds:.0f} s, {1e3 * task.facts['warm_s']:.1f} ms when warm"
        print(f"{task.worker.name}, {task.task}: {status}", flush=True)
    for _ in range(rounds):
        for task in tasks:
            time.sleep(pause)
            task.run()
