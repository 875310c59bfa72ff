"""`make nano` from scratch: its recipes in order, with a trainer that does nothing."""

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from edgetam_jax import load, save
from edgetam_jax.checkpoints.api import read
from edgetam_jax.config import NANO
from edgetam_jax.data.bank import read_bank
from edgetam_jax.data.datasets import open_dataset
from edgetam_jax.errors import FrameError
from edgetam_jax.model import Model
from edgetam_jax.training.init import MEMORY_QK_GAIN
from edgetam_jax.training.recipe import Recipe, read_recipe
from tests.support.pages import ROOT
from tests.unit.data.textures import make_folders
from tests.unit.evaluation.folders import ids_of, make_davis, square

COUNTED = "no_mem_embed"  # is one more after each recipe


def train(recipe: Recipe, out: Path) -> Model:
    model = load(recipe.start or "nano", image_size=recipe.image_size)
    before = model.params[COUNTED] if recipe.start else np.zeros_like(model.params[COUNTED])
    model = Model({**model.params, COUNTED: before + 1}, model.config)
    out.mkdir()
    save(model, out / "model.safetensors")
    line = {"step": recipe.steps - 1, "loss": 1.0, "loss_focal": 0.0, "loss_dice": 0.0, "loss_iou": 0.0}
    line |= {"loss_score": 0.0, "iou": 0.5, "absent": 1.0, "seconds": 1.0, "data_share": 0.1, "held_out_click": 0.5}
    (out / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    return model


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("make_nano", ROOT / "recipes" / "nano" / "make.py")
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    for name, value in (("EMBEDDED_PATH", tmp_path / "nano.safetensors"), ("CURVE", tmp_path / "curve.json")):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "train", train)
    return module


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small folders, and what `cut_out.py` would make of them."""
    root = tmp_path / "data"
    folders = make_folders(root)
    videos = [f"cube-0{number}" for number in (1, 2, 3, 4)]
    masks = {name: [ids_of({1: square(2, 2, 9)})] * 3 for name in videos}
    make_davis(root / "cubes", masks, "train")

    def cut_out(command: list[Any], check: bool) -> None:
        assert check and command[2:] == [root / "photographs", Path("runs/nano/data/cut")]
        shutil.copytree(folders["cutouts"], command[3] / "cutouts")
        (command[3] / "annotations").mkdir()

    monkeypatch.setattr(subprocess, "run", cut_out)
    return root


@pytest.mark.slow
def test_each_recipe_starts_from_the_previous_network(make: Any, data: Path, tmp_path: Path) -> None:
    make.main([str(data)])
    found = read(tmp_path / "nano.safetensors")
    assert found.dtypes == ("float16",) and found.model.config == NANO
    np.testing.assert_array_equal(found.model.params[COUNTED], len(make.RECIPES))
    assert (tmp_path / "ATTRIBUTION.md").read_text() == (ROOT / "recipes" / "nano" / "ATTRIBUTION.md").read_text()
    begun = load("runs/nano/with-memory.safetensors").params["memory_attention"]
    asking = begun["layers_0"]["cross_attn_image"]["q_proj"]["kernel"]
    np.testing.assert_array_equal(asking, MEMORY_QK_GAIN * np.eye(NANO.hidden_dim))
    half = jax.tree.map(lambda x: np.asarray(x, np.float16), begun)
    jax.tree.map(np.testing.assert_array_equal, found.model.params["memory_attention"], half)
    curve = json.loads((tmp_path / "curve.json").read_text())
    assert list(curve) == ["bank", *make.RECIPES] and curve["3-clips"][-1]["held_out_click"] == 0.5
    assert curve["bank"] == read_bank("runs/nano/data/bank.safetensors").fingerprint


def test_data_is_prepared_once(make: Any, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two videos are held out, of which no frame comes into the bank."""
    make.prepare(data)
    bank = Path("runs/nano/data/bank.safetensors")
    names = {split: open_dataset("runs/nano/data/cubes", split).names for split in ("train", "val")}
    assert names == {"train": ("cube-01", "cube-04"), "val": make.HELD_OUT}
    textures = read_bank(bank).textures
    assert len(textures.photographs) == 2 and len(textures.clips) == 2
    assert len(textures.things) == 4 + 4 + 2 * 3
    before = bank.stat()
    monkeypatch.setattr(make, "pack_bank", None)
    make.prepare(data)
    assert bank.stat() == before
    with pytest.raises(FrameError, match="has no folder photographs, cutouts, clips, cubes"):
        make.prepare(data / "clips")


def test_recipes_follow_each_other_and_read_what_is_prepared(make: Any) -> None:
    folder = ROOT / "recipes" / "nano"
    recipes = [read_recipe(folder / f"{name}.toml") for name in make.RECIPES]
    starts = ["", "runs/nano/with-memory.safetensors"]
    starts += [f"runs/nano/{name}/model.safetensors" for name in make.RECIPES[1:-1]]
    assert [recipe.start for recipe in recipes] == starts and len(recipes) == 4
    assert {recipe.synthetic.bank for recipe in recipes} == {"runs/nano/data/bank.safetensors"}
    assert {Path(one.path).parent for recipe in recipes for one in recipe.data} == {Path("runs/nano/data")}
    assert all(one.split == "train" for recipe in recipes for one in recipe.data)
    assert all((folder / f"{name}.toml").read_text().startswith("# ") for name in make.RECIPES)
