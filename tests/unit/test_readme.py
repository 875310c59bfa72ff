"""README.md does what it says: its Python runs in order, its commands parse, its files exist."""

import pathlib
import re
import shlex
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convert.__main__ as cli
from edgetam_jax.checkpoint import save
from edgetam_jax.config import EDGETAM
from tests.oracle import TINY
from tests.parity.pairs import make_pair

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
HEIGHT, WIDTH, FRAMES = 180, 240, 3


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tiny_original: Any) -> pathlib.Path:
    """A checkpoint called edgetam, a folder called frames, and a photograph."""
    monkeypatch.chdir(tmp_path)
    save(make_pair(tiny_original, TINY).model, "edgetam")
    pathlib.Path("frames").mkdir()
    rng = np.random.default_rng(0)
    for path in ("photo.jpg", *(f"frames/{n:05}.jpg" for n in range(FRAMES))):
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(path)
    return tmp_path


def test_python_runs(folder: pathlib.Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    assert len(blocks) >= 4
    names: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["masks"].shape == (FRAMES, 2, HEIGHT, WIDTH)
    assert names["mask"].shape == (HEIGHT, WIDTH)
    assert names["mask_logits"].shape == (1, 1, HEIGHT, WIDTH)
    assert names["smaller"].config.image_size == TINY.image_size // 2
    assert np.isfinite(names["logits"]).all()


def test_commands_parse() -> None:
    commands = re.findall(r"^python -m convert (.*?)(?:  +#.*)?$", README, re.M)
    assert len(commands) >= 5
    for command in commands:
        cli.parser().parse_args(shlex.split(command))
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", README, re.M)
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


@pytest.mark.parametrize("page", ["README.md", "docs/parity.md", "docs/architecture.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\(([^)#]+)", path.read_text())
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing


def test_sizes_are_the_networks() -> None:
    assert "1024, 768 and 512" in README
    assert EDGETAM.image_size == 1024
