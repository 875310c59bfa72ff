"""The list of commands, for people and for pipes."""

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_reader_who_has_enough() -> None:
    """`edgetam-jax --help | head -1` is no error."""
    reader, writer = os.pipe()
    os.close(reader)
    line = "import sys; from edgetam_jax.cli import main; sys.exit(main(['--help']))"
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run([sys.executable, "-c", line], stdout=closed, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 and not done.stderr
