"""All that a GPU should be asked, what matters most first: `python -m benchmarks.gpu [--budget 800]`.

Each step is a process of its own that prints and writes what it finds, so what is done stays when time runs out.
Compiling takes most of the time: one program at a time, and what is compiled is kept for the steps after.
"""

import argparse
import os
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=3600, help="seconds for all of it (3600)")
    end = time.monotonic() + parser.parse_args().budget
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": folder}
        for name, *options in STEPS:
            left = end - time.monotonic()
            if name == "compare":
                options += ["--budget", f"{left - TURNS:.0f}"]
            print(f"\n{name} {' '.join(options)}: {left:.0f} s are left", flush=True)
            try:
                subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], env=environment, timeout=left)
            except subprocess.TimeoutExpired:
                raise SystemExit(f"{name} was stopped, for the time is over; what came before it is written.") from None


if __name__ == "__main__":
    main()
