"""A line on the terminal that says how far a command is, and how fast. Elsewhere only its last state is printed."""

import sys
import time

BAR, EVERY = 30, 0.1  # letters, and seconds between two states


class Progress:
    """Counts frames. The rate leaves out the first one, during which the network is compiled."""

    def __init__(self, total: int | None) -> None:
        self.done, self._total = 0, total
        self._begin = self._first = self._shown = time.perf_counter()

    def add(self) -> None:
        now = time.perf_counter()
        self.done += 1
        if self.done == 1:
            self._first = now
        if sys.stderr.isatty() and (now - self._shown > EVERY or self.done == 1):
            self._shown = now
            print(f"\r{self}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        start = "\r" if sys.stderr.isatty() else ""
        print(f"{start}{self} in {time.perf_counter() - self._begin:.1f} s", file=sys.stderr, flush=True)

    @property
    def rate(self) -> float | None:
        """Frames a second."""
        taken = time.perf_counter() - self._first
        return (self.done - 1) / taken if self.done > 1 and taken else None

    def __str__(self) -> str:
        rate = "" if self.rate is None else f", {self.rate:.1f} frames/s"
        if not self._total:
            return f"{self.done} frames{rate}"
        full = BAR * self.done // self._total
        return f"[{'#' * full}{'.' * (BAR - full)}] {self.done}/{self._total} frames{rate}"
