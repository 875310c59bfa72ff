"""All that a GPU should be asked, what matters most first: `python -m benchmarks.gpu [--budget 800]`.

Each step is a process of its own that prints and writes what it finds; when time runs out, what is done stays.
Compiling takes most of the time: one program at a time, and what is compiled is kept for the steps after.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time

SYSTEMS = ("ours-bf16", "original-bf16", "compiled-bf16", "ours-tf32", "hugging-face-bf16")
COUNTS = ("1", "8")  # of objects
STEPS = (
    ("profile", "--objects", "1"),
    ("compare", "--device", "gpu", "--objects", *COUNTS, "--against", *COUNTS, "--batches", "--systems", *SYSTEMS),
    ("forms",),
    ("profile", "--objects", "8"),
)
TURNS = 120  # seconds that the comparison keeps for them, once all is prepared
PATIENCE = 60  # seconds that a step has to end when it is told to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=3600, help="seconds for all of it (3600)")
    end = time.monotonic() + parser.parse_args().budget
    failed = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name, *options in STEPS:
            left = end - time.monotonic()
            if name == "compare":
                options += ["--budget", f"{left - TURNS:.0f}"]
            print(f"\n{name} {' '.join(options)}: {left:.0f} s are left", flush=True)
            code = run([sys.executable, "-m", f"benchmarks.{name}", *options], folder, left)
            if code is None:
                raise SystemExit(f"{name} was stopped, for the time is over; what was found until then is written.")
            failed += [name] * bool(code)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def run(line: list[str], folder: str, seconds: float) -> int | None:
    """Its exit code; None if the time was over before it ended. Processes that it started end with it."""
    # Who runs in the background ignores it, and so would all that is started from there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(line, env={**os.environ, "JAX_COMPILATION_CACHE_DIR": folder}, start_new_session=True)
    try:
        return process.wait(max(seconds, 0))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # the comparison writes what it has
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
