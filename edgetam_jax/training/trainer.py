"""A training run: from a recipe to a network, through as many interruptions as there may be.

    model = train(read_recipe("recipes/finetune.toml"), "runs/finetune")

The folder of a run holds checkpoints, from which the same call goes on, its metrics, and in the end model.safetensors,
the moving average of the parameters. What a step does follows from the recipe, the state of the step before, and the
number of the step; so a run that was killed and goes on is bit by bit what it would have been.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from edgetam_jax.checkpoint import load, save
from edgetam_jax.config import PRESETS, Config
from edgetam_jax.errors import TrainingError
from edgetam_jax.model import Model, init_params
from edgetam_jax.training.data import batches
from edgetam_jax.training.distillation import Teacher, model_teacher, stored_teacher
from edgetam_jax.training.journal import Journal
from edgetam_jax.training.optimizer import make_optimizer
from edgetam_jax.training.placement import make_mesh, over_batch, shardings
from edgetam_jax.training.recipe import Recipe
from edgetam_jax.training.synthetic.batches import SyntheticBatches
from edgetam_jax.training.update import Report, TrainState, Update, init_train_state, make_update, plans_for

KEPT = 2  # checkpoints
MODEL = "model.safetensors"


class Run(NamedTuple):
    """What does not change in the course of a run."""

    recipe: Recipe
    config: Config
    mesh: Mesh
    update: Update
    data: Any
    teacher: Teacher | None


def train(recipe: Recipe, out: str | Path, on_report: Callable[[int, dict[str, Any]], None] | None = None) -> Model:
    """Trains, or goes on, up to the recipe's last step. `on_report` gets each step's number and metrics."""
    out = Path(out)
    run, state = _prepare(recipe)
    with _checkpoints(out) as checkpoints:
        if checkpoints.latest_step() is not None:
            state = _restore(checkpoints, run, state, out)
        first = int(state.step)
        journal = Journal(out, first, recipe.steps) if jax.process_index() == 0 else None
        for step in range(first, recipe.steps):
            state, metrics = _advance(run, state, step)
            if not metrics.pop("finite"):
                _save(checkpoints, run, state)
                raise TrainingError(
                    f"the loss or its gradient is not finite at step {step}. The state before it is kept in {out}. "
                    "Lower optimizer.rate or optimizer.clip, or look for broken examples, and start the run again."
                )
            last = step + 1 == recipe.steps
            if recipe.evaluation.every and ((step + 1) % recipe.evaluation.every == 0 or last):
                metrics |= _evaluate(run, state)
            if journal is not None:
                journal.write(step, metrics)
            if on_report is not None:
                on_report(step, metrics)
            if (step + 1) % recipe.save_every == 0 or last:
                _save(checkpoints, run, state)
        if journal is not None:
            journal.close()
    model = Model(jax.tree.map(np.asarray, state.average), run.config)
    if jax.process_index() == 0:
        save(model, out / MODEL, force=True)
    return model


def _prepare(recipe: Recipe) -> tuple[Run, TrainState]:
    """A run, and the state in which it begins."""
    if recipe.start:
        model = load(recipe.start, image_size=recipe.image_size)
        model.check_for_video()
    else:
        config = PRESETS[recipe.network].resized(recipe.image_size)
        model = Model(init_params(config, jax.random.key(recipe.seed)), config)
    mesh = make_mesh()
    if recipe.batch % (mesh.size * recipe.accumulate):
        raise TrainingError(
            f"a batch of {recipe.batch} in {recipe.accumulate} parts cannot be divided over {mesh.size} devices; "
            "choose a multiple."
        )
    optimizer = make_optimizer(model.params, recipe.optimizer, recipe.steps)
    begin = partial(init_train_state, optimizer=optimizer)
    places = shardings(mesh, jax.eval_shape(begin, model.params), recipe.shard_parameters)
    state = jax.jit(begin, out_shardings=places)(model.params)
    update = jax.jit(
        make_update(recipe.settings(model.config), optimizer), donate_argnums=0, out_shardings=(places, None)
    )
    return Run(recipe, model.config, mesh, update, _data(recipe), _teacher(recipe)), state


def _data(recipe: Recipe) -> Any:
    shard = jax.process_index(), jax.process_count()
    if recipe.data:
        return batches(recipe.data, recipe.image_size, recipe.batch, recipe.seed, shard)
    return SyntheticBatches(recipe.synthetic, recipe.image_size, recipe.batch, recipe.seed, shard)


def _teacher(recipe: Recipe) -> Teacher | None:
    if not recipe.teacher:
        return None
    path = Path(recipe.teacher)
    if path.is_dir() and any(path.glob("*[0-9].safetensors")):
        return stored_teacher(path)
    return model_teacher(load(recipe.teacher), recipe.course)


def _advance(run: Run, state: TrainState, step: int) -> tuple[TrainState, dict[str, Any]]:
    """One step, and what to write about it."""
    begin = time.perf_counter()
    examples = jax.block_until_ready(over_batch(run.mesh, next(run.data)))
    loaded = time.perf_counter()
    key = jax.random.fold_in(jax.random.key(run.recipe.seed), step)
    features = None
    if run.teacher is not None:
        features = run.teacher(step, examples, *plans_for(run.recipe.settings(run.config), examples, key))
    state, report = run.update(state, examples, key, features)
    metrics = _metrics(report)
    end = time.perf_counter()
    return state, metrics | {"seconds": end - begin, "data_share": (loaded - begin) / (end - begin)}


def _metrics(report: Report) -> dict[str, Any]:
    report = jax.tree.map(lambda x: x.item(), report)
    losses = report.losses._asdict()
    rest = {name: value for name, value in report._asdict().items() if name != "losses"}
    return {"loss": losses.pop("total"), **{f"loss_{name}": value for name, value in losses.items()}, **rest}


def _evaluate(run: Run, state: TrainState) -> dict[str, Any]:
    """Of the moving average, on the same clips each time."""
    from edgetam_jax.evaluation.held_out import evaluate, held_out_clip
    from edgetam_jax.training.synthetic import ClipConfig

    options, size = run.recipe.evaluation, run.recipe.image_size
    config = ClipConfig(frames=options.frames, height=size, width=size)
    model = Model(jax.tree.map(np.asarray, state.average), run.config)
    results = evaluate(model, (held_out_clip(number, config) for number in range(options.clips)))
    return {f"held_out_{kind}": float(result.score.jf) for kind, result in results.items()}


def _checkpoints(out: Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, enable_async_checkpointing=False)
    return ocp.CheckpointManager((out / "checkpoints").absolute(), options=options)


def _save(checkpoints: ocp.CheckpointManager, run: Run, state: TrainState) -> None:
    items = {"state": ocp.args.StandardSave(state._asdict()), "data": ocp.args.JsonSave(run.data.get_state())}
    checkpoints.save(int(state.step), args=ocp.args.Composite(**items))


def _restore(checkpoints: ocp.CheckpointManager, run: Run, state: TrainState, out: Path) -> TrainState:
    like = ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, state._asdict()))
    try:
        restored = checkpoints.restore(None, args=ocp.args.Composite(state=like, data=ocp.args.JsonRestore()))
    except ValueError as error:
        raise TrainingError(
            f"{out} holds the checkpoint of another network or optimizer ({error}). "
            "Start in an empty folder, or with the recipe of that run."
        ) from error
    run.data.set_state(restored["data"])
    return TrainState(**restored["state"])
