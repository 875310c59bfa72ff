"""The list of commands."""

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_closed_pipe_is_no_error() -> None:
    """As in `edgetam-jax --help | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    line = "import sys; from edgetam_jax.cli.main import main; sys.exit(main(['--help']))"
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run([sys.executable, "-c", line], stdout=closed, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 and not done.stderr
