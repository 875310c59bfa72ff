"""Training on several devices and processes gives the same network as on a single device."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from edgetam_jax import load
from edgetam_jax.checkpoints.api import save
from edgetam_jax.checkpoints.mapping import flatten_params
from edgetam_jax.data.example import Example
from edgetam_jax.data.simulated_user import Plan
from edgetam_jax.training.distillation import TeacherFeatures
from edgetam_jax.training.optimizer import OptimizerConfig, group_params
from edgetam_jax.training.recipe import read_recipe, recipe_from_dict
from edgetam_jax.training.sharding import flat_shardings
from edgetam_jax.training.train_step import init_train_state
from edgetam_jax.training.trainer import MODEL, store_features, train
from tests.support.ports import free_port
from tests.support.waiting import HANG_SECONDS
from tests.unit.data.footage import make_coco, make_videos
from tests.unit.training.network import SIZE, TINY, tiny_model
from tests.unit.training.runs import metrics, of_training

ATOL = 1e-5
STATISTICS = "/bn/(mean|var)$"
HEADS = "^sam_mask_decoder/(iou_prediction_head|output_hypernetworks_mlps_2)/"
KERNEL = "^image_encoder/trunk/body/stages_2/downsample/channel_downsample/c/kernel$"
MEMORY = "^memory_attention/layers_0/linear"


def only(moving: str) -> str:
    """The optimizer of a recipe that trains only the parameters that match."""
    return f"""
[optimizer]
learning_rate = 1e-3
max_grad_norm = 1.0
[optimizer.lr_multipliers]
"." = 0.0
"{moving}" = 1.0
"""


STILLS = f"""
start = "start.safetensors"
teacher = "teacher.safetensors"
image_size = {SIZE}
steps = 2
save_every = 1
batch = 8
norm = "batch"
[user]
corrections = 0
[[data]]
path = "images"
frames = 1
objects = 2
{only(f"{HEADS}|{KERNEL}")}"""
# In two parts, one clip of each for a device.
CLIPS = f"""
start = "start.safetensors"
teacher = "features"
image_size = {SIZE}
steps = 2
batch = 16
accumulate = 2
[user]
points = 1.0
corrections = 0
[[data]]
path = "videos"
frames = 2
objects = 2
{only(MEMORY)}"""


pytestmark = of_training


def train_together(recipe: Path, out: Path, devices: int, processes: int) -> None:
    """Trains with several processes, which have `devices` each."""
    flags = {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(recipe.parent / "programs"),
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
            code = process.wait(timeout=HANG_SECONDS)
            log.seek(0)
            assert not code, log.read()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with all files that the recipes name."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("start", "teacher")):
        save(tiny_model(seed), Path(f"{name}.safetensors"))
    make_coco(Path("images"), 5)
    make_videos(Path("videos"), dict.fromkeys("abcde", 4))
    return tmp_path


def assert_matches_one_device(folder: Path, text: str, moves: str, processes: int) -> Path:
    """Checks that a run with sharded parameters, and one image of a batch on each device, matches a run on one device.

    Metrics are compared too, because Adam's updates do not show the scale of gradients. Returns the second recipe.
    """
    recipe, sharded = folder / "recipe.toml", folder / "sharded.toml"
    recipe.write_text(text)
    sharded.write_text("shard_parameters = true\n" + text)
    train(read_recipe(recipe), folder / "one")
    train_together(sharded, folder / "many", devices=8 // processes, processes=processes)
    reports = [metrics(folder / run) for run in ("one", "many")]
    assert len(reports[0]) == 2
    for one, many in zip(*reports, strict=True):
        assert one["imitation"] > 0
        assert many == {name: pytest.approx(value, rel=ATOL) for name, value in one.items()}
    files = ("start.safetensors", f"one/{MODEL}", f"many/{MODEL}")
    before, one, many = (flatten_params(jax.device_get(load(folder / file).params)) for file in files)
    for name, value in before.items():
        assert bool(np.abs(one[name] - value).max() > 10 * ATOL) == bool(re.search(moves, name)), name
        np.testing.assert_allclose(many[name], one[name], rtol=0, atol=ATOL, err_msg=name)
    return sharded


@pytest.mark.slow
def test_two_processes_match_one(folder: Path) -> None:
    """With four devices each. Interrupted after a step, they resume to the same result bit by bit."""
    sharded = assert_matches_one_device(folder, STILLS, f"{HEADS}|{KERNEL}|{STATISTICS}", processes=2)
    stopped = shutil.copytree("many", folder / "stopped")
    (stopped / MODEL).unlink()
    shutil.rmtree(stopped / "checkpoints" / "2")
    train_together(sharded, stopped, devices=4, processes=2)
    assert metrics(stopped) == metrics(folder / "many")
    jax.tree.map(np.testing.assert_array_equal, load(stopped / MODEL).params, load(Path("many", MODEL)).params)


def random_teacher(step: int, examples: Example, plan: Plan, keys: jax.Array) -> TeacherFeatures:
    """A teacher of random features, so that nothing is compiled."""
    del plan, keys
    rng, (clips, length) = np.random.default_rng(step), examples.frames.shape[:2]
    grid = TINY.embedding_size, TINY.embedding_size, TINY.hidden_dim
    embedding, conditioned = (rng.standard_normal((length, clips, *each, *grid)) for each in ((), (2,)))
    return TeacherFeatures(jnp.asarray(embedding), jnp.asarray(conditioned))


@pytest.mark.slow
def test_eight_devices_match_one(folder: Path) -> None:
    store_features(recipe_from_dict({**tomllib.loads(CLIPS), "teacher": ""}), "features", random_teacher)
    assert_matches_one_device(folder, CLIPS, MEMORY, processes=1)


def test_parameters_are_sharded() -> None:
    """Vectors whose length is a multiple of the number of devices are sharded; scalars are replicated."""
    mesh: Any = AbstractMesh((8,), ("data",))
    parts = [place.spec for place in flat_shardings(mesh, [np.zeros(16), np.zeros(9)], True)]
    assert parts == [PartitionSpec("data"), PartitionSpec()]
    packed = group_params(tiny_model().params, OptimizerConfig()).flatten(tiny_model().params)
    state = jax.eval_shape(partial(init_train_state, optimizer=optax.adam(1e-3)), packed)
    for divided, spec in ((True, PartitionSpec("data")), (False, PartitionSpec())):
        for x, place in zip(*map(jax.tree.leaves, (state, flat_shardings(mesh, state, divided))), strict=True):
            assert place.spec == (spec if x.ndim else PartitionSpec())
