"""`make nano` from scratch: its recipes in order, with a trainer that does nothing."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from edgetam_jax import load, save
from edgetam_jax.checkpoints.api import read
from edgetam_jax.config import NANO
from edgetam_jax.model import Model
from edgetam_jax.training.init import MEMORY_QK_GAIN
from edgetam_jax.training.recipe import Recipe
from tests.support.pages import ROOT

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


@pytest.mark.slow
def test_each_recipe_starts_from_the_previous_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("make_nano", ROOT / "recipes" / "nano" / "make.py")
    assert spec is not None and spec.loader is not None
    make: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    monkeypatch.chdir(tmp_path)
    make.RUNS.mkdir(parents=True)
    for name, value in (("EMBEDDED_PATH", tmp_path / "nano.safetensors"), ("CURVE", tmp_path / "curve.json")):
        monkeypatch.setattr(make, name, value)
    monkeypatch.setattr(make, "train", train)
    make.main()
    found = read(tmp_path / "nano.safetensors")
    assert found.dtypes == ("float16",) and found.model.config == NANO
    np.testing.assert_array_equal(found.model.params[COUNTED], len(make.RECIPES))
    begun = load("runs/nano/with-memory.safetensors").params["memory_attention"]
    asking = begun["layers_0"]["cross_attn_image"]["q_proj"]["kernel"]
    np.testing.assert_array_equal(asking, MEMORY_QK_GAIN * np.eye(NANO.hidden_dim))
    half = jax.tree.map(lambda x: np.asarray(x, np.float16), begun)
    jax.tree.map(np.testing.assert_array_equal, found.model.params["memory_attention"], half)
    curve = json.loads((tmp_path / "curve.json").read_text())
    assert list(curve) == make.RECIPES and curve["12-clips-256"][-1]["step"] == 1000
    assert curve["12-clips-256"][-1]["held_out_click"] == 0.5
