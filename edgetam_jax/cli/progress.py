"""Progress in frames: a bar on terminals, and everywhere one line at the end."""

import sys
import time

from tqdm import tqdm


class Progress:
    """Counts frames. The rate leaves out the first one, during which the network is compiled."""

    def __init__(self, total: int) -> None:
        self.done, self.rate = 0, 0.0  # frames, and frames a second
        self._begin = self._first = time.perf_counter()
        self._bar = tqdm(total=total, unit=" frames", leave=False, disable=None)  # None: only on terminals

    def add(self) -> None:
        now = time.perf_counter()
        self.done += 1
        if self.done == 1:
            self._first = now
        elif now > self._first:
            self.rate = (self.done - 1) / (now - self._first)
        self._bar.update()

    def close(self) -> None:
        """Removes the bar."""
        self._bar.close()

    def print_summary(self) -> None:
        """How many frames were done, and how fast, as the line that stays."""
        rate = f", {self.rate:.1f} frames/s" if self.rate else ""
        seconds = time.perf_counter() - self._begin
        print(f"{self.done}/{self._bar.total} frames{rate} in {seconds:.1f} s", file=sys.stderr, flush=True)
