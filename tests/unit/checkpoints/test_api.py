"""`load` and `save`: every kind of checkpoint, and what becomes of files when writing fails."""

import dataclasses
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from edgetam_jax.checkpoints.api import load, read, save
from edgetam_jax.checkpoints.key_table import Layout
from edgetam_jax.checkpoints.mapping import VIDEO_PARTS, to_layout
from edgetam_jax.checkpoints.writers import write_hf, write_torch
from edgetam_jax.errors import CheckpointError, ConfigError, OutputError
from tests.support.checkpoints import SMALL, SMALL_1024, assert_equal, assert_same_model, small_model

ROOT = pathlib.Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("name", "form", "kind"),
    [("a.safetensors", "safetensors", "file"), ("folder", "safetensors", "folder"), ("folder", "orbax", "folder")],
)
def test_save_and_load(tmp_path: pathlib.Path, name: str, form: str, kind: str) -> None:
    path = tmp_path / name
    save(small_model(), path, form)  # type: ignore[arg-type]
    assert path.is_file() == (kind == "file")
    assert_same_model(load(path), small_model())
    assert_same_model(load(str(path)), small_model())
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_image_size_is_the_callers(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.safetensors"
    save(small_model(), path)
    assert load(path, image_size=192).config == dataclasses.replace(SMALL, image_size=192)
    with pytest.raises(ConfigError, match="image_size is 100"):
        load(path, image_size=100)


def test_original_and_hugging_face(tmp_path: pathlib.Path) -> None:
    params = small_model().params
    write_torch(params, SMALL, tmp_path / "a.pt", False)
    write_hf(params, SMALL, tmp_path / "hf", False, False)
    assert_same_model(load(tmp_path / "a.pt"), small_model())
    assert_same_model(load(tmp_path / "hf"), small_model())
    # Weights alone: the shapes tell everything but the image size.
    assert_same_model(load(tmp_path / "hf" / "model.safetensors", image_size=128), small_model())
    torch.save(torch.load(tmp_path / "a.pt")["model"], tmp_path / "bare.pt")
    assert_same_model(load(tmp_path / "bare.pt", image_size=128), small_model())


def test_original_loads_what_is_written(tmp_path: pathlib.Path) -> None:
    from tests.support import oracle

    write_torch(small_model().params, SMALL_1024, tmp_path / "a.pt", False)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert content.keys() == {"model"}
    original = oracle.build_original(SMALL)
    original.load_state_dict(content["model"], strict=True)
    loaded = load(tmp_path / "a.pt", image_size=128)
    assert_equal(to_layout(loaded.params, Layout.ORIGINAL), oracle.numpy_state_dict(original))


@pytest.mark.slow
@pytest.mark.parametrize("image_only", [False, True], ids=["videos", "images"])
def test_library_loads_what_is_written(
    tmp_path: pathlib.Path, image_only: bool, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import EdgeTamModel, EdgeTamVideoModel

    from tests.support import oracle

    write_hf(small_model(image_only).params, SMALL, tmp_path / "hf", False, image_only)
    library: Any = EdgeTamModel if image_only else EdgeTamVideoModel
    module, info = library.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(info.values())
    assert not caplog.records
    expected = to_layout(small_model(image_only).params, Layout.HUGGING_FACE)
    assert_equal(expected, oracle.numpy_state_dict(module))
    # And what the library saves in its turn is read here.
    module.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert_equal(again.params, small_model(image_only).params)
    assert image_only or again.config == SMALL


def test_still_images_only(tmp_path: pathlib.Path) -> None:
    small = small_model(image_only=True)
    write_hf(small.params, SMALL, tmp_path / "hf", False, True)
    found = read(tmp_path / "hf")
    assert found.image_only
    assert VIDEO_PARTS.isdisjoint(found.model.params)
    save(found.model, tmp_path / "a.safetensors")
    assert_equal(load(tmp_path / "a.safetensors").params, small.params)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_half_precision_files(tmp_path: pathlib.Path, dtype: torch.dtype, kind: str) -> None:
    numpy_type = {torch.float16: np.float16, torch.bfloat16: ml_dtypes.bfloat16}[dtype]
    tensors = to_layout(small_model().params, Layout.ORIGINAL)
    expected = {name: value.astype(numpy_type).astype(np.float32) for name, value in tensors.items() if value.ndim}
    path = tmp_path / f"a.{kind}"
    if kind == "pt":
        torch.save({"model": {name: torch.tensor(value).to(dtype) for name, value in expected.items()}}, path)
    else:
        save_file({name: np.array(value, numpy_type, order="C") for name, value in expected.items()}, path)
    found = read(path, image_size=128)
    assert found.dtypes == (str(dtype).removeprefix("torch."),)
    got = to_layout(found.model.params, Layout.ORIGINAL)
    assert_equal({name: got[name] for name in expected}, expected)


def test_existing_output_needs_force(tmp_path: pathlib.Path) -> None:
    for name, form in (("a.safetensors", "safetensors"), ("folder", "safetensors"), ("orbax", "orbax")):
        path = tmp_path / name
        save(small_model(True), path, form)  # type: ignore[arg-type]
        with pytest.raises(OutputError, match="exists.*--force"):
            save(small_model(), path, form)  # type: ignore[arg-type]
        assert read(path).image_only
        save(small_model(), path, form, force=True)  # type: ignore[arg-type]
        assert_same_model(load(path), small_model())
    save(small_model(), tmp_path / "orbax", force=True)  # another format in its place
    assert [entry.name for entry in (tmp_path / "orbax").iterdir()] == ["model.safetensors"]
    assert len(list(tmp_path.iterdir())) == 3


def test_force_spares_folders_that_hold_other_things(tmp_path: pathlib.Path) -> None:
    thesis = tmp_path / "home" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    with pytest.raises(OutputError, match=r"holds more than a checkpoint \(thesis.tex\)"):
        save(small_model(), thesis.parent, force=True)
    assert thesis.read_text() == "years of work"


def test_bad_arguments(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match=r"format is 'msgpack'; expected 'safetensors' or 'orbax'"):
        save(small_model(), tmp_path / "a", "msgpack")  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="folder .* does not exist"):
        save(small_model(), tmp_path / "no" / "a.safetensors")
    odd = dataclasses.replace(SMALL, memory_dim=32)
    with pytest.raises(CheckpointError, match="memory_dim of 64 only; this model has 32"):
        write_hf(small_model().params, odd, tmp_path / "hf", False, False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("existing", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("form", ["safetensors", "orbax"])
def test_full_disk(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, form: str, existing: bool) -> None:
    path = tmp_path / "out"
    if existing:
        save(small_model(), path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"could not be written: No space left on device.*Check the free space"):
        save(small_model(True), path, form, force=True)  # type: ignore[arg-type]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"] * existing
    if existing:
        assert_same_model(load(path), small_model())


def run_save(path: pathlib.Path, preparation: str) -> subprocess.CompletedProcess[str]:
    """Saves a small model with force in a process of its own, after some preparation."""
    script = """
    import os, pathlib, resource, signal, sys
    from edgetam_jax.checkpoints.api import save
    from tests.support.checkpoints import small_model
    model = small_model(True)
    PREPARATION
    try:
        save(model, sys.argv[1], sys.argv[2], force=True)
    except ValueError as error:
        print(error)
    """
    script = textwrap.dedent(script).replace("PREPARATION", preparation)
    form = "orbax" if path.suffix == ".orbax" else "safetensors"
    return subprocess.run([sys.executable, "-c", script, path, form], cwd=ROOT, text=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.safetensors", "a.folder"])
def test_killed_before_the_rename(tmp_path: pathlib.Path, name: str) -> None:
    path = tmp_path / name
    save(small_model(), path)
    die = "os.replace = os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
    assert run_save(path, die).returncode == -signal.SIGKILL
    assert_same_model(load(path), small_model())
    leftovers = [entry for entry in tmp_path.iterdir() if entry != path]
    assert [entry.name.startswith(f".{name}.") for entry in leftovers] == [True]
    save(small_model(), path, force=True)  # clears what the killed one left
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.safetensors", "a.folder", "a.orbax"])
def test_a_limit_that_writing_hits_halfway(tmp_path: pathlib.Path, name: str) -> None:
    path = tmp_path / name
    save(small_model(), path)
    done = run_save(path, "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))")
    assert done.returncode == 0, done.stderr
    assert "could not be written" in done.stdout
    assert "Nothing was changed there" in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert_same_model(load(path), small_model())


@pytest.mark.slow
def test_torch_stays_out(tmp_path: pathlib.Path) -> None:
    write_hf(small_model().params, SMALL, tmp_path / "hf", False, False)
    script = """
    import sys
    import jax
    import edgetam_jax
    from edgetam_jax.checkpoints.api import load, save
    from edgetam_jax.model import init_params
    model = load(sys.argv[1])
    jax.eval_shape(lambda key: init_params(model.config, key), jax.random.key(0))
    save(model, sys.argv[2])
    assert load(sys.argv[2]).config == model.config
    assert not {"torch", "transformers", "orbax"} & sys.modules.keys()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), tmp_path / "hf", tmp_path / "out"]
    subprocess.run(command, cwd=ROOT, check=True)


def test_a_pt_file_without_torch(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_torch(small_model().params, SMALL, tmp_path / "a.pt", False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CheckpointError, match=r"pip install 'edgetam-jax\[convert\]'"):
        load(tmp_path / "a.pt")


def test_metadata_holds_the_configuration(tmp_path: pathlib.Path) -> None:
    from safetensors import safe_open

    save(small_model(), tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="numpy") as file:
        assert json.loads(file.metadata()["edgetam_jax"])["hidden_dim"] == SMALL.hidden_dim
        assert "sam_mask_decoder/iou_token" in file.keys()  # noqa: SIM118
