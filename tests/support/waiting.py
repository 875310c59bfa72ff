"""How tests wait: for what happens, not for a time. The limit only ends a test that hangs."""

import time
from collections.abc import Callable

HANG_SECONDS = 1800.0  # seconds; far more than anything here takes on a busy machine


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Returns as soon as `condition()` is true."""
    end = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < end, f"{what}: did not happen in {HANG_SECONDS:.0f} s"
        time.sleep(0.01)
