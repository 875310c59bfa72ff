"""What `tune` changes, in processes of their own."""

import platform
import subprocess
import sys

import pytest

from edgetam_jax.cli import main as cli

LARGE = 64 << 20  # bytes, of which a page has 4,096
SCRIPT = """
import resource, sys
import numpy as np
from edgetam_jax.allocator import tune

if "tuned" in sys.argv:
    assert tune()
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty({large}, np.uint8)[::4096] = 1
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


def faults(*arguments: str) -> int:
    """Pages that the system had to give for an array as large as the one before it."""
    script = SCRIPT.format(large=LARGE)
    return int(subprocess.check_output([sys.executable, "-c", script, *arguments]))


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_memory_is_kept() -> None:
    assert 10 * faults("tuned") < faults()


def test_the_command_tunes_its_own_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    monkeypatch.setattr(cli, "tune", lambda: calls.append(None))
    monkeypatch.setattr(sys, "argv", ["edgetam-jax", "--help"])
    assert cli.main(["--help"]) == 0 and not calls
    assert cli.main() == 0 and len(calls) == 1
