"""Bad files: each is refused with a message that says what it is and what to do."""

import json
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save, save_file

from edgetam_jax.checkpoints.key_table import Layout
from edgetam_jax.checkpoints.mapping import to_layout
from edgetam_jax.checkpoints.readers import read_raw
from edgetam_jax.checkpoints.writers import write_hf, write_orbax, write_safetensors, write_torch
from edgetam_jax.errors import CheckpointError
from tests.support.checkpoints import SMALL, small_model


def write_bytes(content: bytes) -> Callable[[pathlib.Path], None]:
    def write(path: pathlib.Path) -> None:
        path.write_bytes(content)

    return write


def half_of(write: Callable[..., None], *options: Any) -> Callable[[pathlib.Path], None]:
    def cut(path: pathlib.Path) -> None:
        write(small_model().params, SMALL, path, True, *options)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return cut


def write_zip(path: pathlib.Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")


def header(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


BAD_FILES = [
    ("a.pt", write_bytes(b""), "is empty"),
    ("a.safetensors", write_bytes(b""), "is empty"),
    ("a.pt", write_bytes(b"\x80"), "neither a safetensors file nor a PyTorch checkpoint"),
    ("a.safetensors", write_bytes(b"<!DOCTYPE html><html>404</html>"), "neither.*error page"),
    ("a.pt", write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"), "neither.*Git LFS pointer"),
    ("a.pt", half_of(write_torch), "not a readable PyTorch checkpoint, or is truncated"),
    ("a.pt", write_zip, "not a readable PyTorch checkpoint"),
    ("a.safetensors", half_of(write_safetensors), "damaged or truncated safetensors"),
    ("a.safetensors", write_bytes(header('{"a": 1')), "damaged or truncated safetensors"),
    ("a.safetensors", write_bytes(save({"encoder.weight": np.zeros(3)})), "is no EdgeTAM checkpoint: of its 1 tensors"),
    ("a.safetensors", write_bytes(save({})), "it holds nothing"),
    ("a.pt", lambda path: torch.save([1, 2], path), "holds a list, expected {'model': state dict}"),
    (
        "a.pt",
        lambda path: torch.save({"model": {"a": 1, "b": torch.zeros(1)}}, path),
        r"not a dense tensor \(1\):\n  a\n",
    ),
    ("a.pt", lambda path: torch.save({"resnet.weight": torch.zeros(1)}, path), "is no EdgeTAM checkpoint"),
]


@pytest.mark.parametrize(("name", "write", "message"), BAD_FILES)
def test_bad_files(tmp_path: pathlib.Path, name: str, write: Callable[[pathlib.Path], None], message: str) -> None:
    path = tmp_path / name
    write(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_raw(path)
    assert str(path) in str(caught.value)


class Malicious:
    def __init__(self, victim: pathlib.Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return pathlib.Path.touch, (self.victim,)


@pytest.mark.parametrize("form", ["pickle", "legacy", "zip", "beside the weights"])
def test_pickled_code_is_refused_and_not_run(tmp_path: pathlib.Path, form: str) -> None:
    victim, path = tmp_path / "ran", tmp_path / "edgetam.pt"
    content: Any = Malicious(victim)
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    elif form == "beside the weights":
        torch.save({"model": {"image_encoder.x": torch.zeros(1)}, "optimizer": content}, path)
    else:
        torch.save({"model": content}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError, match="was refused and nothing in it was run"):
        read_raw(path)
    assert not victim.exists()
    torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
    assert victim.exists()  # the trap was armed


def test_missing_paths_and_folders_without_weights(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        read_raw(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="but nothing"):
        read_raw(tmp_path)
    (tmp_path / "edgetam.pt").touch()
    with pytest.raises(CheckpointError, match=r"but edgetam\.pt.*file such as"):
        read_raw(tmp_path)


def test_a_name_twice_in_one_header(tmp_path: pathlib.Path) -> None:
    one = '"image_encoder.x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    path = tmp_path / "model.safetensors"
    path.write_bytes(header("{" + one + "," + one + "}") + bytes(4))
    with pytest.raises(CheckpointError, match=r"duplicate \(1\):\n  image_encoder.x"):
        read_raw(path)


def test_a_name_twice_in_two_shards(tmp_path: pathlib.Path) -> None:
    tensors = to_layout(small_model().params, Layout.HUGGING_FACE)
    write_hf(small_model().params, SMALL, tmp_path / "hf", False, False)
    name = "mask_decoder.iou_token.weight"
    save_file({name: tensors[name]}, tmp_path / "hf" / "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=rf"duplicate \(1\):\n  {name}"):
        read_raw(tmp_path / "hf")


def test_hugging_face_folder_needs_a_sound_config(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "hf"
    write_hf(small_model().params, SMALL, folder, False, False)
    assert read_raw(folder).config == SMALL
    config = folder / "config.json"
    values = json.loads(config.read_text())
    for text, message in (
        ("{", "is not JSON"),
        ("[]", "is list, expected a mapping"),
        (json.dumps(values | {"model_type": "sam2"}), "model_type is 'sam2'"),
    ):
        config.write_text(text)
        with pytest.raises(CheckpointError, match=message):
            read_raw(folder)
    config.unlink()
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        read_raw(folder)
    assert read_raw(folder / "model.safetensors", image_size=128).config == SMALL


def test_damaged_shapes_do_not_mislead_the_configuration(tmp_path: pathlib.Path) -> None:
    tensors = to_layout(small_model().params, Layout.ORIGINAL)
    name = "image_encoder.neck.convs.0.conv.weight"  # what hidden_dim is read from
    tensors[name] = tensors[name][:100]
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, tmp_path / "a.safetensors")
    assert read_raw(tmp_path / "a.safetensors", image_size=1024).config.hidden_dim != 100


def test_own_files_with_a_damaged_configuration(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {k: np.ascontiguousarray(v) for k, v in to_layout(small_model().params, Layout.FLAX).items()}
    for text, message in (("{", "is not JSON"), ('{"image_size": "big"}', "image_size"), ('{"flag": 1}', "flag")):
        save_file(tensors, path, {"edgetam_jax": text})
        with pytest.raises(CheckpointError, match=message):
            read_raw(path)


def test_damaged_orbax_folder(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "orbax"
    write_orbax(small_model().params, SMALL, folder, False)
    assert read_raw(folder).config == SMALL
    for file in (folder / "params").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged or incomplete Orbax checkpoint"):
        read_raw(folder)


def test_unreadable_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"PK")

    def refuse(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with pytest.raises(CheckpointError, match="could not be read: Permission denied"):
        read_raw(path)
