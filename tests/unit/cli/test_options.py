"""The options of the network, and the exit codes of commands."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from edgetam_jax import Model, load
from edgetam_jax.checkpoints import api
from edgetam_jax.cli import main as cli
from edgetam_jax.cli import options
from edgetam_jax.cli.errors import exit_code
from edgetam_jax.errors import CheckpointError, ConfigError


def opened(*line: str) -> Model:
    return options.open_model(options.make_parser("test", "", "").parse_args(line))


def test_networks(network: Path) -> None:
    assert opened("--model", str(network)).config == load(network).config
    assert opened("--model", str(network), "--size", "128").config.image_size == 128
    half = opened("--model", str(network), "--dtype", "bfloat16")
    types = {str(leaf.dtype) for leaf in jax.tree.leaves(half.params)}
    assert types == {"bfloat16", "float32"}  # statistics stay float32
    assert jnp.allclose(half.params["no_mem_embed"], load(network).params["no_mem_embed"], rtol=0.01)


def test_missing_and_broken_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Path) -> None:
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "text.pt").write_text("<html>")
    for name, message in (
        ("none.safetensors", "does not exist"),
        (f"{tmp_path}/none", "does not exist"),
        ("empty.safetensors", "is empty"),
        ("text.pt", "neither a safetensors file nor a PyTorch checkpoint"),
        ("nobody/nothing", "could not be fetched from the Hugging Face hub"),
    ):
        with pytest.raises(CheckpointError, match=message):
            opened("--model", name)
    with pytest.raises(ConfigError, match="image_size is 100"):
        opened("--model", str(network), "--size", "100")
    monkeypatch.setattr(api, "EMBEDDED_PATH", tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="nano is missing from this installation"):
        opened()


def test_devices(network: Path) -> None:
    before = jax.config.values["jax_platforms"]
    try:
        opened("--model", str(network), "--device", "cpu")
        with pytest.raises(ConfigError, match="jax finds only cpu here"):
            opened("--model", str(network), "--device", "tpu")
    finally:
        jax.config.update("jax_platforms", before)


def test_compilation_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the user's cache folder, unless the environment names another one, or it cannot be written."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    assert options.keep_compiled() == ""
    assert jax.config.values[names[0]] == before[names[0]]
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    try:
        assert options.keep_compiled() == str(tmp_path / "cache" / "edgetam_jax") == jax.config.values[names[0]]
        assert (tmp_path / "cache" / "edgetam_jax").is_dir()
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert options.keep_compiled() is None
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    assert str(tmp_path) in options.make_parser("test", "", "").format_help()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (None, 0, ""),
        (ConfigError("it is invalid"), 2, "error: it is invalid\n"),
        (PermissionError(13, "Permission denied", "clip.mp4"), 2, "error: clip.mp4: Permission denied.\n"),
        (KeyboardInterrupt(), 130, "\nstopped.\n"),
    ],
)
def test_exit_codes(error: BaseException | None, code: int, message: str, capsys: pytest.CaptureFixture) -> None:
    def command() -> None:
        if error:
            raise error

    assert exit_code(command) == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_help(command: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: edgetam-jax {command} ")
