"""All benchmarks for a GPU, the most important first: `python -m benchmarks.gpu [--budget 800]`.

Each step is a process of its own that prints and writes its results, which are kept if the time runs out. Compiling
takes most of the time; all steps share one compilation cache.
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
RESERVED_SECONDS = 120  # of the comparison's budget, for running the prepared tasks
SHUTDOWN_SECONDS = 60  # how long a step may take to end after it is interrupted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=3600, help="seconds for all steps (3600)")
    end = time.monotonic() + parser.parse_args().budget
    failed = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name, *options in STEPS:
            left = end - time.monotonic()
            if name == "compare":
                options += ["--budget", f"{left - RESERVED_SECONDS:.0f}"]
            print(f"\n{name} {' '.join(options)}: {left:.0f} s are left", flush=True)
            code = run([sys.executable, "-m", f"benchmarks.{name}", *options], folder, left)
            if code is None:
                raise SystemExit(f"{name} was stopped because the time is over. Its results up to then are written.")
            failed += [name] * bool(code)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def run(line: list[str], folder: str, seconds: float) -> int | None:
    """Runs a command and returns its exit code, or None if its time was over. Its child processes end with it."""
    # Background processes ignore SIGINT, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(line, env={**os.environ, "JAX_COMPILATION_CACHE_DIR": folder}, start_new_session=True)
    try:
        return process.wait(max(seconds, 0))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # the comparison writes its results when interrupted
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SHUTDOWN_SECONDS)
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
