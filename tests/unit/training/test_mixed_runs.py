"""Runs whose clips come from a bank and from a dataset: resumed bit for bit, and only with the same bank."""

import dataclasses
import json
from pathlib import Path

import pytest

from edgetam_jax.data.packing import Source, pack_bank
from edgetam_jax.data.synthetic.batches import SyntheticConfig
from edgetam_jax.errors import CheckpointError, FrameError
from edgetam_jax.training.recipe import Recipe
from edgetam_jax.training.trainer import train
from tests.unit.data.textures import make_folders
from tests.unit.training.runs import make_recipe, metrics, of_training, small_steps

pytestmark = of_training


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    """Half of the examples are from the dataset."""
    bank, pictures = folder / "bank", make_folders(folder / "pictures")
    pack_bank([Source("photographs", pictures["photographs"]), Source("cutouts", pictures["cutouts"])], bank)
    synthetic = SyntheticConfig(frames=1, objects=2, bank=str(bank), weight=1.0, radius=(0.2, 0.4))
    return dataclasses.replace(make_recipe(folder), synthetic=synthetic)


def stop_after(recipe: Recipe, out: Path, last: int) -> None:
    def stop(step: int, _: dict[str, float]) -> None:
        if step == last:
            raise StoppedError

    with small_steps(), pytest.raises(StoppedError):
        train(recipe, out, stop)


def test_a_run_is_resumed_exactly(recipe: Recipe, folder: Path) -> None:
    with small_steps():
        train(recipe, folder / "whole")
    stop_after(recipe, folder / "stopped", 4)
    with small_steps():
        train(recipe, folder / "stopped")
    assert metrics(folder / "stopped") == metrics(folder / "whole")
    assert len({line["loss"] for line in metrics(folder / "whole")}) == recipe.steps
    synthetic = dataclasses.replace(recipe, data=(), steps=2)
    with small_steps():
        train(synthetic, folder / "synthetic")
    assert metrics(folder / "synthetic")[0]["loss"] != metrics(folder / "whole")[0]["loss"]


def test_another_bank_is_refused_before_the_first_step(recipe: Recipe, folder: Path) -> None:
    out, bank = folder / "other", Path(recipe.synthetic.bank)
    stop_after(recipe, out, 4)
    before = metrics(out)
    kept = bank.read_bytes()
    pack_bank([Source("cutouts", folder / "pictures" / "cutouts")], bank, force=True)
    with small_steps(), pytest.raises(CheckpointError, match="bank of textures has the fingerprint"):
        train(recipe, out)
    bank.write_bytes(b"")
    with small_steps(), pytest.raises(FrameError, match="not a bank that can be read"):
        train(recipe, out)
    bank.write_bytes(kept)
    assert metrics(out) == before


def test_a_run_from_before_there_were_banks_is_resumed(recipe: Recipe, folder: Path) -> None:
    """Its recipe.json does not have their keys."""
    plain = dataclasses.replace(recipe, data=(), synthetic=SyntheticConfig(frames=1, objects=2))
    out = folder / "former"
    stop_after(plain, out, 4)
    stored = json.loads((out / "recipe.json").read_text())
    for name in ("bank", "real", "weight"):
        del stored["synthetic"][name]
    (out / "recipe.json").write_text(json.dumps(stored))
    with small_steps():
        train(plain, out)
    assert len(metrics(out)) == plain.steps
