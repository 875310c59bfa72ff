"""`from_pretrained`, against caches laid out as the hub's client does it. The network is never used."""

import os
import pathlib
import subprocess
import sys

import pytest

from edgetam_jax.checkpoints.api import from_pretrained
from edgetam_jax.checkpoints.writers import write_hf, write_torch
from edgetam_jax.errors import CheckpointError
from tests.support.checkpoints import SMALL, assert_same_model, small_model

ROOT = pathlib.Path(__file__).parents[3]


def hub_cache(cache: pathlib.Path, repo_id: str, revision: str = "0" * 40) -> pathlib.Path:
    """A snapshot's folder in a hub cache, laid out as the hub's client does it."""
    repo = cache / f"models--{repo_id.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(revision)
    snapshot = repo / "snapshots" / revision
    snapshot.mkdir(parents=True)
    return snapshot


def test_from_pretrained_uses_the_cache(tmp_path: pathlib.Path) -> None:
    write_hf(small_model().params, SMALL, tmp_path / "hf", False, False)
    snapshot = hub_cache(tmp_path / "cache", "yonigozlan/EdgeTAM-hf")
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "hf" / name).rename(blobs / f"hash-of-{name}")
        (snapshot / name).symlink_to(pathlib.Path("../../blobs") / f"hash-of-{name}")
    assert_same_model(from_pretrained("yonigozlan/EdgeTAM-hf", cache_dir=tmp_path / "cache"), small_model())
    write_torch(small_model().params, SMALL, hub_cache(tmp_path / "cache", "facebook/EdgeTAM") / "edgetam.pt", False)
    assert_same_model(from_pretrained("facebook/EdgeTAM", cache_dir=tmp_path / "cache"), small_model())
    model = from_pretrained("facebook/EdgeTAM", cache_dir=tmp_path / "cache", image_size=192)
    assert model.config.image_size == 192


@pytest.mark.slow
def test_from_pretrained_honours_the_environment(tmp_path: pathlib.Path) -> None:
    write_hf(small_model().params, SMALL, tmp_path / "hf", False, False)
    snapshot = hub_cache(tmp_path / "home" / "hub", "yonigozlan/EdgeTAM-hf")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "hf" / name).rename(snapshot / name)
    script = "from edgetam_jax import from_pretrained as f; print(f('yonigozlan/EdgeTAM-hf').config.to_dict())"
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, text=True, capture_output=True)
    assert done.stdout.strip() == str(SMALL.to_dict())


def test_from_pretrained_says_what_is_wrong(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match=r"facebook/EdgeTAM could not be fetched.*HF_HUB_OFFLINE"):
        from_pretrained("facebook/EdgeTAM", cache_dir=tmp_path)
    with pytest.raises(CheckpointError, match="could not be fetched"):
        from_pretrained("not a repository", cache_dir=tmp_path)
    snapshot = hub_cache(tmp_path, "some/repo")
    for names, found in (((), "none"), (("a.pt", "b.pt"), r"a\.pt, b\.pt")):
        for name in names:
            (snapshot / name).touch()
        with pytest.raises(CheckpointError, match=f"but: {found}"):
            from_pretrained("some/repo", cache_dir=tmp_path)
