"""Ctrl-C while files are being written: the frame at hand is finished first, and then the files."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any


class Interrupt:
    asked = False


@contextlib.contextmanager
def finish_first() -> Iterator[Interrupt]:
    """Within, the first Ctrl-C is noted in what this gives; the second one ends the command at once."""
    interrupt = Interrupt()

    def note(*_: Any) -> None:
        interrupt.asked = True
        signal.signal(signal.SIGINT, before)
        print("\nstopping; what is done is kept. Ctrl-C again ends at once.", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
