"""Training from a recipe to a network, through any number of interruptions.

    model = train(read_recipe("recipes/distill-512.toml"), "runs/distill-512")

The folder of a run holds its recipe, its metrics, the checkpoints from which the same call resumes it, and in the end
model.safetensors, the moving average of the parameters. A step depends only on the recipe, the previous state and the
number of the step. A run that was interrupted and resumed is therefore bit by bit the same as one that was not.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from edgetam_jax.checkpoints.api import save
from edgetam_jax.data.datasets import Dataset
from edgetam_jax.errors import TrainingError
from edgetam_jax.evaluation.validation import open_validation, validate
from edgetam_jax.model import Model
from edgetam_jax.training.distillation import Teacher, features_path, save_features
from edgetam_jax.training.metrics_writer import MetricsWriter
from edgetam_jax.training.recipe import Recipe
from edgetam_jax.training.resume import open_checkpoints, restore_or_init, save_state
from edgetam_jax.training.run import Run, ema_model, prepare_run, run_folder, step_key
from edgetam_jax.training.sharding import shard_batch
from edgetam_jax.training.train_step import StepMetrics, TrainState, plan_batch

MODEL = "model.safetensors"
WRITTEN_NAMES = {"distillation": "imitation", "grad_norm": "gradient"}  # of fields of `StepMetrics`, in metrics.jsonl


def train(
    recipe: Recipe,
    out: str | Path,
    on_metrics: Callable[[int, dict[str, Any]], None] | None = None,
    teacher: Teacher | None = None,
) -> Model:
    """Trains a network, or resumes its training, until the last step of the recipe.

    Args:
        recipe: Everything that determines the run.
        out: The folder of the run, which is created.
        on_metrics: Called after each step with its number and its metrics.
        teacher: The teacher for distillation, if the recipe names none. To resume a run, pass the same one.

    Returns:
        The trained network: the moving average of the parameters.

    Raises:
        TrainingError: The folder belongs to another recipe, or a loss or gradient is not finite.
        ConfigError, CheckpointError, FrameError: Something that the recipe names cannot be used.
    """
    validation = _open_validation(recipe)
    run, state = prepare_run(recipe, teacher)
    out = run_folder(out)
    with contextlib.closing(run.data), open_checkpoints(out) as checkpoints:
        state = restore_or_init(checkpoints, run, state, out)
        first = int(state.step)
        writer = MetricsWriter(out, first, recipe.steps) if jax.process_index() == 0 else None
        with contextlib.closing(writer) if writer is not None else contextlib.nullcontext():
            for step in range(first, recipe.steps):
                before = run.data.get_state()
                state, metrics = _take_step(run, state, step)
                if not metrics.pop("finite"):
                    save_state(checkpoints, state, before)
                    _save_model(run, state, out)
                    raise TrainingError(
                        f"the loss or its gradient is not finite at step {step}. The state before it is kept in {out}, "
                        f"and its moving average in {MODEL}. Train from that file in another folder, with a lower "
                        "optimizer.learning_rate or optimizer.max_grad_norm, or without the broken examples."
                    )
                last = step + 1 == recipe.steps
                if recipe.evaluation.every and ((step + 1) % recipe.evaluation.every == 0 or last):
                    metrics |= _evaluate(run, state, validation)
                if writer is not None:
                    writer.write(step, metrics)
                if on_metrics is not None:
                    on_metrics(step, metrics)
                if (step + 1) % recipe.save_every == 0 or last:
                    save_state(checkpoints, state, run.data.get_state())
    return _save_model(run, state, out)


def store_features(recipe: Recipe, out: str | Path, teacher: Teacher | None = None) -> None:
    """Stores a teacher's features for the clips of every step, and continues where it was stopped.

    A recipe that is the same otherwise, with `teacher = out`, then trains without computing them.

    Args:
        recipe: The recipe of the run in which the features are used.
        out: A folder, to which a file is written for each step.
        teacher: The teacher, if the recipe names none.

    Raises:
        TrainingError: There is no teacher, or there are several processes.
    """
    run, _ = prepare_run(recipe, teacher)
    if run.teacher is None or jax.process_count() > 1:
        raise TrainingError(
            "storing features needs a teacher, in the recipe or as an argument, and a run of one process."
        )
    out = run_folder(out)
    first = next(step for step in range(recipe.steps + 1) if not features_path(out, step).exists())
    with contextlib.closing(run.data):
        run.data.set_state(run.data.get_state() | {"batches": first})
        for step in range(first, recipe.steps):
            examples = shard_batch(run.mesh, next(run.data))
            plan, keys = plan_batch(recipe.rollout_config, examples, step_key(recipe, step))
            save_features(out, step, keys, run.teacher(step, examples, plan, keys))


def _take_step(run: Run, state: TrainState, step: int) -> tuple[TrainState, dict[str, Any]]:
    """The state after a step, and its metrics."""
    begin = time.perf_counter()
    examples = jax.block_until_ready(shard_batch(run.mesh, next(run.data)))
    loaded = time.perf_counter()
    key = step_key(run.recipe, step)
    features = None
    if run.teacher is not None:
        features = run.teacher(step, examples, *plan_batch(run.recipe.rollout_config, examples, key))
    state, step_metrics = run.train_step(state, examples, key, features)
    metrics = _to_dict(step_metrics)
    end = time.perf_counter()
    return state, metrics | {"seconds": end - begin, "data_share": (loaded - begin) / (end - begin)}


def _to_dict(step_metrics: StepMetrics) -> dict[str, Any]:
    """Numbers by the names that metrics.jsonl has for them."""
    values: dict[str, Any] = jax.tree.map(lambda x: x.item(), jax.device_get(step_metrics))._asdict()
    losses = values.pop("losses")._asdict()
    named: dict[str, Any] = {"loss": losses.pop("total"), **{f"loss_{name}": value for name, value in losses.items()}}
    return named | {WRITTEN_NAMES.get(name, name): value for name, value in values.items()}


def _open_validation(recipe: Recipe) -> Dataset | None:
    options = recipe.evaluation
    return open_validation(options.path, options.split, options.videos) if options.path else None


def _evaluate(run: Run, state: TrainState, validation: Dataset | None) -> dict[str, Any]:
    """Scores of the moving average, always on the same videos or synthetic clips."""
    from edgetam_jax.data.synthetic import ClipConfig
    from edgetam_jax.evaluation.held_out import evaluate, held_out_clip

    model = ema_model(run, state)
    if validation is not None:
        score = validate(model, validation)
        return {"validation_jf": score.jf, "validation_j": score.j.mean, "validation_f": score.f.mean}
    options, size = run.recipe.evaluation, run.recipe.image_size
    config = ClipConfig(frames=options.frames, height=size, width=size)
    clips = (held_out_clip(number, config) for number in range(options.clips))
    results = evaluate(model, clips)
    return {f"held_out_{kind}": float(result.score.jf) for kind, result in results.items()}


def _save_model(run: Run, state: TrainState, out: Path) -> Model:
    model = ema_model(run, state)
    if jax.process_index() == 0:
        save(model, out / MODEL, force=True)
    return model
