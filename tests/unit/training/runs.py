"""Training runs with cheap steps, which depend on everything that a step depends on except the network.

python -m tests.unit.training.runs FOLDER OUT STEP            # a run that is killed after that step
python -m tests.unit.training.runs FOLDER OUT STEP real       # the same with real steps
"""

import contextlib
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import Mesh

from edgetam_jax.checkpoints.api import save
from edgetam_jax.data import DataConfig
from edgetam_jax.data.simulated_user import User
from edgetam_jax.data.synthetic.batches import SyntheticConfig
from edgetam_jax.training import run, trainer
from edgetam_jax.training.flat_params import FlatLayout
from edgetam_jax.training.losses import Losses
from edgetam_jax.training.optimizer import OptimizerConfig, freeze, update_ema
from edgetam_jax.training.recipe import Recipe
from edgetam_jax.training.train_step import StepMetrics, TrainState, TrainStep, TrainStepConfig
from tests.unit.data.footage import make_coco
from tests.unit.training.network import SIZE, tiny_model

MOVING = "no_mem_embed"
# Mark for tests in which a run writes its files.
of_training = pytest.mark.filterwarnings("ignore::DeprecationWarning:orbax", "ignore::DeprecationWarning:tensorboardX")


def make_recipe(folder: Path) -> Recipe:
    """For a dataset of three images and a network, which the first call writes to the folder."""
    start, images = folder / "start.safetensors", folder / "images"
    if not start.exists():
        make_coco(images, 3)
        save(tiny_model(), start)
    return Recipe(
        start=str(start),
        image_size=SIZE,
        steps=8,
        batch=2,
        seed=3,
        save_every=3,
        data=(DataConfig(str(images), frames=1, objects=2),),
        optimizer=OptimizerConfig(learning_rate=0.1, warmup=2, lr_multipliers=((".", 0.0), (f"^{MOVING}$", 1.0))),
    )


def real_recipe(folder: Path) -> Recipe:
    """For synthetic clips, and with real steps that train one part of that network."""
    head = OptimizerConfig(
        learning_rate=1e-3, lr_multipliers=((".", 0.0), ("^sam_mask_decoder/iou_prediction_head/", 1.0))
    )
    return dataclasses.replace(
        make_recipe(folder),
        steps=4,
        save_every=2,
        data=(),
        synthetic=SyntheticConfig(frames=1, objects=2),
        user=User(corrections=0),
        optimizer=head,
    )


def small_steps(broken: int = -1) -> Any:
    """In this context the loss is the distance of one parameter from a mean of the examples; NaN at step `broken`."""

    def make_train_step(
        config: TrainStepConfig, optimizer: optax.GradientTransformation, layout: FlatLayout, mesh: Mesh
    ) -> TrainStep:
        def loss(params: Any, step: Any, examples: Any, key: Any) -> Any:
            aim = examples.frames.mean() / 255 + examples.masks.mean() + jax.random.uniform(key)
            distance = jnp.square(freeze(layout.unflatten(params), config.optimizer)[MOVING] - aim).mean()
            return jnp.where(step == broken, jnp.nan, distance)

        def train_step(state: TrainState, examples: Any, key: Any, features: Any = None) -> Any:
            value, grads = jax.value_and_grad(loss)(state.params, state.step, examples, key)
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            ema_params = update_ema(state.ema_params, params, config.optimizer, state.step)
            finite = jnp.isfinite(value)
            new = TrainState(state.step + 1, params, ema_params, opt_state)
            zero = jnp.zeros(())
            metrics = StepMetrics(Losses(zero, zero, zero, zero, value), zero, zero, zero, zero, zero, finite)
            return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state), metrics

        return train_step

    return mock.patch.object(run, "make_train_step", make_train_step)


def metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without times."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: x for name, x in line.items() if name not in ("seconds", "data_share")} for line in lines]


if __name__ == "__main__":
    folder, out, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

    def kill(step: int, metrics: dict[str, Any]) -> None:
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    real = sys.argv[4:] == ["real"]
    with contextlib.nullcontext() if real else small_steps():
        trainer.train((real_recipe if real else make_recipe)(folder), out, kill)
