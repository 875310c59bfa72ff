"""StableHLO files in a process without this package."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from edgetam_jax import Model, track_step
from edgetam_jax.export.api import export
from tests.support.compiling import IN_SUBPROCESSES
from tests.support.exported import prompt_arrays, requested, requests, track_live
from tests.unit.export.conftest import OBJECTS, OPTIONS

READER = Path(__file__).parents[2] / "support" / "read_stablehlo.py"


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "tracker"
    export(model, path, "stablehlo", points=OPTIONS.points, slots=OPTIONS.slots)
    return path


def read(folder: Path, model: Model, frames: np.ndarray, out: Path) -> dict[str, np.ndarray]:
    every = requests(model.config.image_size)
    rows = [[prompt_arrays(model, requested(t, o, every), OPTIONS) for o in range(OBJECTS)] for t in range(len(frames))]
    prompts: dict[str, Any] = {name: np.stack([[each[name] for each in row] for row in rows]) for name in rows[0][0]}
    np.savez(out / "inputs.npz", frames=frames, **prompts)
    command = [sys.executable, str(READER), str(folder), str(out / "inputs.npz"), str(out / "outputs.npz")]
    # Compiled as the tests here are: XLA rounds differently if it optimizes more.
    environment = {**os.environ, **IN_SUBPROCESSES}
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return dict(np.load(out / "outputs.npz"))


@pytest.mark.slow
def test_every_bit_is_that_of_track_step(folder: Path, model: Model, frames: np.ndarray, tmp_path: Path) -> None:
    """Under `jax.jit`, `track_step` folds its parameters inside its program, as the export does."""
    every = requests(model.config.image_size)
    live = track_live(model, frames, every, OBJECTS, OPTIONS, jax.jit(track_step))
    got = read(folder, model, frames, tmp_path)
    np.testing.assert_array_equal(got["logits"], live.logits)
    np.testing.assert_array_equal(got["score"], live.scores)
    np.testing.assert_array_equal(got["iou"], live.ious)
    for name, want in live.state.items():
        np.testing.assert_array_equal(got[name], want, err_msg=name)


def test_the_specification_describes_the_files(folder: Path) -> None:
    spec = json.loads((folder / "edgetam.json").read_text())
    assert {each.name for each in folder.iterdir()} == {"edgetam.json", *spec["files"]}
    track = {each["name"]: each for each in spec["programs"]["track"]["inputs"]}
    assert track["conditioning_tokens"]["shape"][0] == "objects" and track["labels"]["dtype"] == "int32"
    assert set(spec["state"]["names"]) < set(track)
    outputs = {each["name"] for each in spec["programs"]["track"]["outputs"]}
    assert {spec["state"]["next"] + name for name in spec["state"]["names"]} < outputs
