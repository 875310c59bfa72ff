"""A network that several devices and processes train is the one that a single device would have trained."""

import contextlib
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from convert.layouts import flat
from edgetam_jax import load
from edgetam_jax.checkpoint import save
from edgetam_jax.training.optimizer import Optimizer, arrange
from edgetam_jax.training.placement import shardings
from edgetam_jax.training.recipe import read_recipe
from edgetam_jax.training.trainer import MODEL, train
from edgetam_jax.training.update import init_train_state
from tests.ports import free_port
from tests.unit.training.network import SIZE, tiny_model
from tests.unit.training.runs import of_training

ATOL = 1e-5
STATISTICS = "/bn/(mean|var)$"
HEADS = "^sam_mask_decoder/(iou_prediction_head|output_hypernetworks_mlps_2)/"
MEMORY = "^memory_attention/layers_0/linear"


def only(moving: str) -> str:
    """What moves, and how."""
    return f"""
[optimizer]
rate = 1e-3
clip = 1.0
[optimizer.rates]
"." = 0.0
"{moving}" = 1.0
"""


STILLS = f"""
start = "start.safetensors"
image_size = {SIZE}
steps = 2
batch = 8
norm = "batch"
[user]
corrections = 0
[synthetic]
frames = 1
objects = 2
{only(HEADS)}"""
# Taught, and taken in two parts, one clip of each for a device.
CLIPS = f"""
start = "start.safetensors"
teacher = "teacher.safetensors"
image_size = {SIZE}
steps = 2
batch = 16
accumulate = 2
[user]
corrections = 0
[synthetic]
frames = 2
objects = 2
{only(MEMORY)}"""


pytestmark = of_training


def train_together(recipe: Path, out: Path, devices: int, processes: int) -> None:
    """By so many processes with so many devices each."""
    flags = {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    line = [sys.executable, "-m", "edgetam_jax", "train", str(recipe), "--out", str(out)]
    line += ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", str(processes)]
    with contextlib.ExitStack() as stack:
        logs = [stack.enter_context((recipe.parent / f"process-{i}.log").open("w+")) for i in range(processes)]
        started = [
            subprocess.Popen(
                [*line, "--process", str(i)],
                cwd=recipe.parent,
                env={**os.environ, **flags, "JAX_DEFAULT_MATMUL_PRECISION": "highest"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            for i, log in enumerate(logs)
        ]
        for process in started:
            stack.callback(process.kill)
        for process, log in zip(started, logs, strict=True):
            code = process.wait(timeout=600)
            log.seek(0)
            assert not code, log.read()


@pytest.mark.parametrize(
    ("text", "moves", "processes"),
    [(STILLS, f"{HEADS}|{STATISTICS}", 2), (CLIPS, MEMORY, 1)],
    ids=["stills", "clips"],
)
def test_eight_devices_are_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, moves: str, processes: int
) -> None:
    """Also of two processes, and where each device keeps a part of the parameters only, and sees one image of a batch.

    Losses and gradients are compared too: Adam's steps do not tell how long a gradient is.
    """
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("start", "teacher")):
        save(tiny_model(seed), Path(f"{name}.safetensors"))
    recipe, sharded = tmp_path / "recipe.toml", tmp_path / "sharded.toml"
    recipe.write_text(text)
    sharded.write_text("shard_parameters = true\n" + text)
    train(read_recipe(recipe), tmp_path / "one")
    train_together(sharded, tmp_path / "many", devices=8 // processes, processes=processes)
    journals = [tmp_path / run / "metrics.jsonl" for run in ("one", "many")]
    reports = [[json.loads(line) for line in file.read_text().splitlines()] for file in journals]
    assert len(reports[0]) == 2
    for one, many in zip(*reports, strict=True):
        assert bool(one["imitation"]) == (text == CLIPS)
        for name in set(one) - {"seconds", "data_share"}:
            assert many[name] == pytest.approx(one[name], rel=ATOL), name
    files = ("start.safetensors", f"one/{MODEL}", f"many/{MODEL}")
    before, one, many = (flat(jax.device_get(load(tmp_path / file).params)) for file in files)
    for name, value in before.items():
        assert bool(np.abs(one[name] - value).max() > 10 * ATOL) == bool(re.search(moves, name)), name
        np.testing.assert_allclose(many[name], one[name], rtol=0, atol=ATOL, err_msg=name)


def test_parameters_are_divided() -> None:
    """All that can be cut into as many equal parts as there are devices; scalars are everywhere."""
    mesh: Any = AbstractMesh((8,), ("data",))
    parts = [place.spec for place in shardings(mesh, [np.zeros(16), np.zeros(9)], True)]
    assert parts == [PartitionSpec("data"), PartitionSpec()]
    packed = arrange(tiny_model().params, Optimizer()).pack(tiny_model().params)
    state = jax.eval_shape(partial(init_train_state, optimizer=optax.adam(1e-3)), packed)
    for divided, spec in ((True, PartitionSpec("data")), (False, PartitionSpec())):
        for x, place in zip(*map(jax.tree.leaves, (state, shardings(mesh, state, divided))), strict=True):
            assert place.spec == (spec if x.ndim else PartitionSpec())
