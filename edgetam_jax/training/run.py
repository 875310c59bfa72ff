"""A run: everything that is built from a recipe before the first step."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Key

from edgetam_jax.checkpoints.api import load
from edgetam_jax.config import PRESETS, Config
from edgetam_jax.data import batches
from edgetam_jax.data.mixing import MixedBatches
from edgetam_jax.data.synthetic.batches import SyntheticBatches
from edgetam_jax.errors import TrainingError
from edgetam_jax.model import Model
from edgetam_jax.training.distillation import Teacher, features_path, model_teacher, stored_teacher
from edgetam_jax.training.flat_params import FlatLayout
from edgetam_jax.training.init import initial_params
from edgetam_jax.training.optimizer import group_params, make_optimizer
from edgetam_jax.training.recipe import Recipe
from edgetam_jax.training.sharding import flat_shardings, make_mesh, replicated
from edgetam_jax.training.train_step import TrainState, TrainStep, init_train_state, make_train_step


class Run(NamedTuple):
    """What stays the same in all steps."""

    recipe: Recipe
    config: Config
    mesh: Mesh
    layout: FlatLayout
    train_step: TrainStep
    data: Any  # an iterator with a state: `Batches`, `SyntheticBatches` or `MixedBatches`
    teacher: Teacher | None


def prepare_run(recipe: Recipe, teacher: Teacher | None = None) -> tuple[Run, TrainState]:
    """Opens the data, loads or initializes the network, and compiles nothing yet.

    Args:
        recipe: The recipe of the run.
        teacher: The teacher for distillation, if the recipe names none.

    Returns:
        The run, and its initial state on the devices.

    Raises:
        TrainingError: There are two teachers, or the batch cannot be divided over the devices.
    """
    if teacher is not None and recipe.teacher:
        raise TrainingError(
            f"the recipe's teacher is {recipe.teacher!r}, and another one is given; choose one of them."
        )
    data = _open_data(recipe)
    if recipe.start:
        model = load(recipe.start, image_size=recipe.image_size)
        model.check_for_video()
    else:
        config = PRESETS[recipe.network].resized(recipe.image_size)
        model = Model(initial_params(config, jax.random.key(recipe.seed)), config)
    mesh = make_mesh()
    if recipe.batch % (mesh.size * recipe.accumulate):
        raise TrainingError(
            f"a batch of {recipe.batch} in {recipe.accumulate} parts cannot be divided over {mesh.size} devices; "
            "choose a multiple."
        )
    layout = group_params(model.params, recipe.optimizer)
    params = layout.flatten(jax.tree.map(np.asarray, model.params))
    optimizer = make_optimizer(model.params, recipe.optimizer, recipe.steps)
    init = partial(init_train_state, optimizer=optimizer)
    shardings = flat_shardings(mesh, jax.eval_shape(init, params), recipe.shard_parameters)
    state = jax.jit(init, out_shardings=shardings)(params)
    train_step = jax.jit(
        make_train_step(recipe.train_step_config(model.config), optimizer, layout, mesh),
        donate_argnums=0,
        out_shardings=(shardings, replicated(mesh)),
    )
    return Run(recipe, model.config, mesh, layout, train_step, data, teacher or _open_teacher(recipe)), state


def run_folder(path: str | Path) -> Path:
    """Creates the folder of a run."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{path} cannot be the folder of a run ({error}); choose another.") from error
    return Path(path)


def step_key(recipe: Recipe, step: int) -> Key[Array, ""]:
    """The key of a step's random numbers."""
    return jax.random.fold_in(jax.random.key(recipe.seed), step)


def ema_model(run: Run, state: TrainState) -> Model:
    """The moving average of the parameters, on this host."""
    params = jax.jit(lambda params: params, out_shardings=replicated(run.mesh))(state.ema_params)
    return Model(run.layout.unflatten(jax.tree.map(np.asarray, params)), run.config)


def _open_data(recipe: Recipe) -> Any:
    shard = jax.process_index(), jax.process_count()
    size = recipe.frame_size or recipe.image_size
    if recipe.data and recipe.synthetic.weight:
        weight, count = sum(one.weight for one in recipe.data), shard[1]
        synthetic = SyntheticBatches(recipe.synthetic, size, recipe.batch, recipe.seed, shard)
        data = batches(recipe.data, size, count, recipe.seed, shard)
        return MixedBatches(synthetic, data, recipe.batch // count, weight / (weight + recipe.synthetic.weight))
    if recipe.data:
        return batches(recipe.data, size, recipe.batch, recipe.seed, shard)
    return SyntheticBatches(recipe.synthetic, size, recipe.batch, recipe.seed, shard)


def _open_teacher(recipe: Recipe) -> Teacher | None:
    if not recipe.teacher:
        return None
    if features_path(Path(recipe.teacher), 0).exists():
        return stored_teacher(Path(recipe.teacher))
    model = load(recipe.teacher)
    model.check_for_video()
    return model_teacher(model, recipe.rollout_config)
