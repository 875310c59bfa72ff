"""Ctrl-C while files are being written: the current frame is finished first, and then the files."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any


class Interrupt:
    requested = False


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Inside, the first Ctrl-C only sets `requested` on the yielded object; a second one raises KeyboardInterrupt."""
    interrupt = Interrupt()

    def request(*_: Any) -> None:
        interrupt.requested = True
        signal.signal(signal.SIGINT, before)
        print("\nstopping; what is done is kept. Ctrl-C again ends at once.", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGINT, request)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
