"""`python -m convert`: what it writes and prints, and how it fails."""

import hashlib
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import convert.__main__ as cli
from convert.goldens import CheckResult
from edgetam_jax.checkpoints.api import load
from edgetam_jax.checkpoints.key_table import Layout
from edgetam_jax.checkpoints.mapping import to_layout
from edgetam_jax.checkpoints.writers import write_hf, write_torch
from edgetam_jax.errors import EdgeTAMError
from tests.support.checkpoints import SMALL, assert_equal, small_model

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "small.pt"
    write_torch(small_model().params, SMALL, path, False)
    return path


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("options", "out"),
    [
        ([], "a.safetensors"),
        ([], "folder"),
        (["--format", "orbax"], "orbax"),
        (["--to", "hf"], "hf"),
        (["--to", "torch"], "a.pt"),
    ],
)
def test_converts(
    source: pathlib.Path, options: list[str], out: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, tmp_path / out, *options) == 0
    model = load(tmp_path / out)
    assert model.config == SMALL
    assert_equal(model.params, small_model().params)
    captured = capsys.readouterr()
    assert "[1/3] reading" in captured.err
    assert "written     " in captured.out
    # And back to PyTorch, tensor for tensor.
    assert run(tmp_path / out, tmp_path / "back.pt", "--to", "torch") == 0
    before, after = torch.load(source)["model"], torch.load(tmp_path / "back.pt")["model"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_summary(source: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(source, tmp_path / "hf", "--to", "hf") == 0
    captured = capsys.readouterr().out
    original = torch.load(source)["model"]
    learned = [
        value
        for name, value in original.items()
        if value.ndim and "running_" not in name and not name.endswith("gaussian_matrix")
    ]
    counters = sum(name.endswith("num_batches_tracked") for name in original)
    assert f"tensors     {len(original)} read" in captured
    assert f"parameters  {sum(value.numel() for value in learned):,}," in captured
    assert "(PyTorch, names of the PyTorch original, float32, int64)" in captured
    assert "dropped     no_mem_pos_enc: the network never reads it" in captured
    assert f"dropped     {counters} x num_batches_tracked: it counts" in captured
    assert f"{hashlib.sha256(source.read_bytes()).hexdigest()} (not the released edgetam.pt)" in captured
    assert "images and videos, image size 128" in captured
    assert "as zeros, so that strict loading works" in captured


def test_released_file_is_recognised(
    source: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.RELEASED_SHA256 == "ed2d4850b8792c239689b043c47046ec239b6e808a3d9b6ae676c803fd8780df"
    monkeypatch.setattr(cli, "RELEASED_SHA256", hashlib.sha256(source.read_bytes()).hexdigest())
    assert run(source, tmp_path / "out") == 0
    assert "(the released edgetam.pt)" in capsys.readouterr().out


def test_still_images_only(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = small_model(image_only=True)
    write_hf(small.params, SMALL, tmp_path / "source", False, True)
    assert run(tmp_path / "source", tmp_path / "flax") == 0
    assert "still images only: no memory, no tracking" in capsys.readouterr().out
    assert run(tmp_path / "flax", tmp_path / "hf", "--to", "hf") == 0
    assert_equal(load(tmp_path / "hf").params, small.params)
    assert run(tmp_path / "flax", tmp_path / "a.pt", "--to", "torch") == 2
    assert "is for still images only" in capsys.readouterr().err
    assert not (tmp_path / "a.pt").exists()


def test_failures_print_one_message_and_change_nothing(
    source: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.safetensors"
    content = torch.load(source)
    del content["model"]["no_mem_embed"]
    broken = tmp_path / "broken.pt"
    torch.save(content, broken)
    for arguments, message in (
        ((tmp_path / "nowhere.pt", out), "does not exist"),
        ((broken, out), "missing (1):\n  no_mem_embed"),
        ((source, tmp_path / "no" / "out"), "does not exist. Create it"),
        ((source, out, "--to", "hf", "--format", "orbax"), "is for --to flax only"),
        ((source, out, "--verify", tmp_path / "none.jpg"), "cannot be read as an image"),
    ):
        assert run(*arguments) == 2
        captured = capsys.readouterr().err
        assert message in captured
        assert captured.count("error:") == 1
        assert "Traceback" not in captured
        assert not out.exists()
    out.write_text("precious")
    assert run(source, out) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert run(source, out, "--force") == 0
    assert_equal(to_layout(load(out).params, Layout.FLAX), to_layout(small_model().params, Layout.FLAX))


@pytest.mark.slow
def test_as_a_program(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "convert"]
    done = subprocess.run([*command, tmp_path / "no.pt", tmp_path / "out"], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    subprocess.run([*command, source, tmp_path / "out"], cwd=ROOT, check=True, capture_output=True)
    assert load(tmp_path / "out").config == SMALL


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (None, 0), (False, 1)])
def test_verify_decides_the_exit_code(
    passed: bool | None,
    code: int,
    source: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verified = {}

    def verify(model: object, media: dict[str, np.ndarray]) -> list[CheckResult]:
        verified.update(media)
        assert_equal(model.params, small_model().params)  # type: ignore[attr-defined]
        return [CheckResult("a check", "1", "2", passed)]

    monkeypatch.setattr(cli, "verify", verify)
    Image.new("RGB", (4, 3)).save(tmp_path / "photo.png")
    assert run(source, tmp_path / "out", "--verify", tmp_path / "photo.png") == code
    assert verified.keys() == {"gate", str(tmp_path / "photo.png")}
    assert "a check" in capsys.readouterr().out
    assert issubclass(EdgeTAMError, ValueError)
