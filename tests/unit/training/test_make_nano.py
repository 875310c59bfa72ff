"""`make nano` from nothing, with its recipes in their order, on two small steps each that no network takes."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetam_jax.checkpoint import read
from edgetam_jax.config import NANO
from edgetam_jax.training.recipe import Recipe, read_recipe
from tests.pages import ROOT
from tests.unit.training.runs import MOVING, of_training, small_steps

FRAME = 32  # pixels; the networks keep their sizes
pytestmark = of_training


def short(path: Path) -> Recipe:
    recipe = read_recipe(path)
    clips = dataclasses.replace(recipe.synthetic, frames=min(recipe.synthetic.frames, 2), objects=1, occluders=0)
    return dataclasses.replace(
        recipe, steps=2, save_every=2, batch=clips.stills, frame_size=FRAME, mask_size=0, synthetic=clips
    )


def test_each_recipe_begins_where_the_one_before_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("make_nano", ROOT / "recipes" / "nano" / "make.py")
    assert spec is not None and spec.loader is not None
    make: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(make, "EMBEDDED_PATH", tmp_path / "nano.safetensors")
    monkeypatch.setattr(make, "CURVE", tmp_path / "curve.json")
    monkeypatch.setattr(make, "read_recipe", short)
    with small_steps():
        make.main()
    curve = json.loads((tmp_path / "curve.json").read_text())
    assert list(curve) == make.RECIPES and all(points[-1]["step"] == 2 for points in curve.values())
    found = read(tmp_path / "nano.safetensors")
    assert found.dtypes == ("float16",) and found.model.config == NANO
    runs = [read(Path(f"runs/nano/{name}/model.safetensors")).model.params for name in make.RECIPES]
    steps = [np.abs(after[MOVING] - before[MOVING]).max() for before, after in zip(runs, runs[1:], strict=False)]
    assert min(steps) > 0
    np.testing.assert_allclose(found.model.params[MOVING], runs[-1][MOVING], atol=1e-3)
