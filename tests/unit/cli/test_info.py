"""`edgetam-jax info`."""

from pathlib import Path

import jax
import pytest

from edgetam_jax.checkpoints.api import read
from edgetam_jax.cli import main as cli


def test_info(network: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["info", str(network)]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    fields = {name.strip(): value.strip() for name, value in lines.items()}
    assert fields["jax"] == jax.__version__
    assert fields["devices"].endswith("(cpu)")
    assert f"{read(network).parameters:,}" in fields["parameters"]
    assert fields["image_size"] == "64" and fields["made for"] == "images and videos"
    assert cli.main(["info", "none"]) == 2
    assert "none does not exist" in capsys.readouterr().err
