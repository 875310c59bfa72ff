"""A training run: from a recipe to a network, through as many interruptions as there may be.

    model = train(read_recipe("recipes/finetune.toml"), "runs/finetune")

The folder of a run holds its recipe, checkpoints, from which the same call goes on, its metrics, and in the end
model.safetensors, the moving average of the parameters. What a step does follows from the recipe, the state of the step
before, and the number of the step; so a run that was killed and goes on is bit by bit what it would have been.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax import Array
from jax.sharding import Mesh

from edgetam_jax.checkpoints.api import load, save
from edgetam_jax.config import PRESETS, Config
from edgetam_jax.data import batches
from edgetam_jax.data.datasets import Dataset
from edgetam_jax.data.synthetic.batches import SyntheticBatches
from edgetam_jax.errors import TrainingError
from edgetam_jax.evaluation.validation import open_validation, validate
from edgetam_jax.media.atomic import replacing
from edgetam_jax.model import Model
from edgetam_jax.training.distillation import Teacher, model_teacher, store, stored_path, stored_teacher
from edgetam_jax.training.flat_params import Packing
from edgetam_jax.training.init import initial_params
from edgetam_jax.training.metrics_writer import MetricsWriter
from edgetam_jax.training.optimizer import group_params, make_optimizer
from edgetam_jax.training.recipe import Recipe
from edgetam_jax.training.sharding import make_mesh, replicated, shard_batch, shardings
from edgetam_jax.training.train_step import (
    StepMetrics,
    TrainState,
    TrainStep,
    init_train_state,
    make_train_step,
    plans_for,
)

KEPT = 2  # checkpoints
MODEL, RECIPE = "model.safetensors", "recipe.json"
RESUMABLE_FIELDS = ("steps", "save_every", "evaluation")  # what may change in the recipe of a run that goes on


class Run(NamedTuple):
    """What does not change in the course of a run."""

    recipe: Recipe
    config: Config
    mesh: Mesh
    packing: Packing
    update: TrainStep
    data: Any  # `data.Batches` or the like
    teacher: Teacher | None


def train(
    recipe: Recipe,
    out: str | Path,
    on_report: Callable[[int, dict[str, Any]], None] | None = None,
    teacher: Teacher | None = None,
) -> Model:
    """Trains, or goes on, up to the recipe's last step. `on_report` gets each step's number and metrics.

    A `teacher` of any kind may be given where the recipe names none: the same one to go on.
    """
    validation = _validation(recipe)
    run, state = _prepare(recipe, teacher)
    out = _folder(out)
    with contextlib.closing(run.data), _checkpoints(out) as checkpoints:
        state = _restore_or_init(checkpoints, run, state, out)
        first = int(state.step)
        journal = MetricsWriter(out, first, recipe.steps) if jax.process_index() == 0 else None
        with contextlib.closing(journal) if journal is not None else contextlib.nullcontext():
            for step in range(first, recipe.steps):
                before = run.data.get_state()
                state, metrics = _advance(run, state, step)
                if not metrics.pop("finite"):
                    _save(checkpoints, state, before)
                    _write(run, state, out)
                    raise TrainingError(
                        f"the loss or its gradient is not finite at step {step}. The state before it is kept in {out}, "
                        f"and its moving average in {MODEL}: start from that in another folder, with a lower "
                        "optimizer.rate or optimizer.clip, or without broken examples."
                    )
                last = step + 1 == recipe.steps
                if recipe.evaluation.every and ((step + 1) % recipe.evaluation.every == 0 or last):
                    metrics |= _evaluate(run, state, validation)
                if journal is not None:
                    journal.write(step, metrics)
                if on_report is not None:
                    on_report(step, metrics)
                if (step + 1) % recipe.save_every == 0 or last:
                    _save(checkpoints, state, run.data.get_state())
    return _write(run, state, out)


def store_features(recipe: Recipe, out: str | Path, teacher: Teacher | None = None) -> None:
    """What the recipe's teacher, or one that is given, makes of each step's clips.

    With `teacher = out` that stands for it, and no step waits. Goes on where it was stopped.
    """
    run, _ = _prepare(recipe, teacher)
    if run.teacher is None or jax.process_count() > 1:
        raise TrainingError("features are stored of a teacher, whom the recipe names or the call, and by one process.")
    out = _folder(out)
    first = next(step for step in range(recipe.steps + 1) if not stored_path(out, step).exists())
    with contextlib.closing(run.data):
        run.data.set_state(run.data.get_state() | {"batches": first})
        for step in range(first, recipe.steps):
            examples = shard_batch(run.mesh, next(run.data))
            plan, keys = plans_for(recipe.course, examples, _key(recipe, step))
            store(out, step, keys, run.teacher(step, examples, plan, keys))


def _folder(path: str | Path) -> Path:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{path} cannot be the folder of a run ({error}); choose another.") from error
    return Path(path)


def _prepare(recipe: Recipe, teacher: Teacher | None) -> tuple[Run, TrainState]:
    """A run, and the state in which it begins."""
    if teacher is not None and recipe.teacher:
        raise TrainingError(
            f"the recipe's teacher is {recipe.teacher!r}, and another one is given; choose one of them."
        )
    data = _data(recipe)
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
    packing = group_params(model.params, recipe.optimizer)
    packed = packing.pack(jax.tree.map(np.asarray, model.params))
    optimizer = make_optimizer(model.params, recipe.optimizer, recipe.steps)
    begin = partial(init_train_state, optimizer=optimizer)
    places = shardings(mesh, jax.eval_shape(begin, packed), recipe.shard_parameters)
    state = jax.jit(begin, out_shardings=places)(packed)
    update = jax.jit(
        make_train_step(recipe.settings(model.config), optimizer, packing, mesh),
        donate_argnums=0,
        out_shardings=(places, replicated(mesh)),
    )
    return Run(recipe, model.config, mesh, packing, update, data, teacher or _teacher(recipe)), state


def _validation(recipe: Recipe) -> Dataset | None:
    options = recipe.evaluation
    return open_validation(options.path, options.split, options.videos) if options.path else None


def _data(recipe: Recipe) -> Any:
    shard = jax.process_index(), jax.process_count()
    size = recipe.frame_size or recipe.image_size
    if recipe.data:
        return batches(recipe.data, size, recipe.batch, recipe.seed, shard)
    return SyntheticBatches(recipe.synthetic, size, recipe.batch, recipe.seed, shard)


def _teacher(recipe: Recipe) -> Teacher | None:
    if not recipe.teacher:
        return None
    if stored_path(Path(recipe.teacher), 0).exists():
        return stored_teacher(Path(recipe.teacher))
    model = load(recipe.teacher)
    model.check_for_video()
    return model_teacher(model, recipe.course)


def _restore_or_init(checkpoints: ocp.CheckpointManager, run: Run, state: TrainState, out: Path) -> TrainState:
    """The state of the last checkpoint, if there is one. From here on the folder is of this recipe."""
    done = checkpoints.latest_step()
    if done is not None:
        _check_folder(run, done, out)
        state = _restore(checkpoints, run, state, out)
    if jax.process_index() == 0:
        with replacing(out / RECIPE, force=True) as partial:
            partial.write_text(json.dumps(_description(run), indent=1) + "\n")
    return state


def _description(run: Run) -> dict[str, Any]:
    """What a folder is about: the recipe, and the configuration of its network, which may come from a checkpoint."""
    return dataclasses.asdict(run.recipe) | {"configuration": run.config.to_dict()}


def _check_folder(run: Run, done: int, out: Path) -> None:
    if done > run.recipe.steps:
        raise TrainingError(f"{out} holds a run that is at step {done}; the recipe ends at {run.recipe.steps}.")
    if not (out / RECIPE).exists():
        return
    try:
        before = dataclasses.asdict(Recipe()) | json.loads((out / RECIPE).read_text())
    except (ValueError, TypeError) as error:
        raise TrainingError(f"{out / RECIPE} is broken ({error}); remove it, or start in an empty folder.") from error
    now = json.loads(json.dumps(_description(run)))
    changed = [name for name in now if name not in RESUMABLE_FIELDS and now[name] != before.get(name, now[name])]
    if changed:
        raise TrainingError(
            f"{out} holds a run of another recipe: {', '.join(changed)} changed. "
            f"Only {', '.join(RESUMABLE_FIELDS)} may. "
            "Start in an empty folder, or with the recipe of that run."
        )


def _advance(run: Run, state: TrainState, step: int) -> tuple[TrainState, dict[str, Any]]:
    """One step, and what to write about it."""
    begin = time.perf_counter()
    examples = jax.block_until_ready(shard_batch(run.mesh, next(run.data)))
    loaded = time.perf_counter()
    key = _key(run.recipe, step)
    features = None
    if run.teacher is not None:
        features = run.teacher(step, examples, *plans_for(run.recipe.course, examples, key))
    state, report = run.update(state, examples, key, features)
    metrics = _metrics(report)
    end = time.perf_counter()
    return state, metrics | {"seconds": end - begin, "data_share": (loaded - begin) / (end - begin)}


def _key(recipe: Recipe, step: int) -> Array:
    return jax.random.fold_in(jax.random.key(recipe.seed), step)


def _metrics(report: StepMetrics) -> dict[str, Any]:
    report = jax.tree.map(lambda x: x.item(), jax.device_get(report))
    losses = report.losses._asdict()
    rest = {name: value for name, value in report._asdict().items() if name != "losses"}
    return {"loss": losses.pop("total"), **{f"loss_{name}": value for name, value in losses.items()}, **rest}


def _mean_model(run: Run, state: TrainState) -> Model:
    """The moving average, on this host."""
    whole = jax.jit(lambda packed: packed, out_shardings=replicated(run.mesh))(state.average)
    return Model(run.packing.unpack(jax.tree.map(np.asarray, whole)), run.config)


def _evaluate(run: Run, state: TrainState, validation: Dataset | None) -> dict[str, Any]:
    """On the same videos or clips each time."""
    from edgetam_jax.data.synthetic import ClipConfig
    from edgetam_jax.evaluation.held_out import evaluate, held_out_clip

    model = _mean_model(run, state)
    if validation is not None:
        score = validate(model, validation)
        return {"validation_jf": score.jf, "validation_j": score.j.mean, "validation_f": score.f.mean}
    options, size = run.recipe.evaluation, run.recipe.image_size
    config = ClipConfig(frames=options.frames, height=size, width=size)
    clips = (held_out_clip(number, config) for number in range(options.clips))
    results = evaluate(model, clips)
    return {f"held_out_{kind}": float(result.score.jf) for kind, result in results.items()}


def _checkpoints(out: Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEPT, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    return ocp.CheckpointManager((out / "checkpoints").absolute(), options=options)


def _save(checkpoints: ocp.CheckpointManager, state: TrainState, data: dict[str, Any]) -> None:
    items = {"state": ocp.args.StandardSave(state._asdict()), "data": ocp.args.JsonSave(data)}
    checkpoints.save(int(state.step), args=ocp.args.Composite(**items))


def _restore(checkpoints: ocp.CheckpointManager, run: Run, state: TrainState, out: Path) -> TrainState:
    like = ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, state._asdict()))
    try:
        restored = checkpoints.restore(None, args=ocp.args.Composite(state=like, data=ocp.args.JsonRestore()))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise TrainingError(
            f"{out} holds a checkpoint of another network or optimizer, or one that cannot be read ({error}). "
            "Start in an empty folder, or with the recipe of that run."
        ) from error
    run.data.set_state(restored["data"])
    return TrainState(**restored["state"])


def _write(run: Run, state: TrainState, out: Path) -> Model:
    model = _mean_model(run, state)
    if jax.process_index() == 0:
        save(model, out / MODEL, force=True)
    return model
