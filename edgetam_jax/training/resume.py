"""Checkpoints of a run, from which it is resumed, and the check that a folder belongs to the same recipe."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from edgetam_jax.errors import TrainingError
from edgetam_jax.media.atomic import replacing
from edgetam_jax.training.recipe import Recipe, with_current_names
from edgetam_jax.training.run import Run
from edgetam_jax.training.train_step import TrainState

MAX_TO_KEEP = 2  # checkpoints
RECIPE = "recipe.json"
RESUMABLE_FIELDS = ("steps", "save_every", "evaluation")  # of a recipe, which may change when a run is resumed
STORED_NAMES = {"ema_params": "average", "opt_state": "optimizer"}  # of fields of `TrainState`, in checkpoints


def open_checkpoints(out: Path) -> ocp.CheckpointManager:
    """The checkpoints in the folder of a run."""
    options = ocp.CheckpointManagerOptions(
        max_to_keep=MAX_TO_KEEP, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    return ocp.CheckpointManager((out / "checkpoints").absolute(), options=options)


def save_state(checkpoints: ocp.CheckpointManager, state: TrainState, data: dict[str, Any]) -> None:
    """Writes a checkpoint of a state and of the data iterator's state."""
    items = {"state": ocp.args.StandardSave(_to_stored(state)), "data": ocp.args.JsonSave(data)}
    checkpoints.save(int(state.step), args=ocp.args.Composite(**items))


def restore_or_init(checkpoints: ocp.CheckpointManager, run: Run, state: TrainState, out: Path) -> TrainState:
    """The state of the last checkpoint, or `state` if there is none. Writes the recipe to the folder.

    Raises:
        TrainingError: The folder belongs to another recipe or cannot be read.
    """
    step = checkpoints.latest_step()
    if step is not None:
        _check_folder(run, step, out)
        state = _restore(checkpoints, run, state, out)
    if jax.process_index() == 0:
        with replacing(out / RECIPE, force=True) as partial:
            partial.write_text(json.dumps(_description(run), indent=1) + "\n")
    return state


def _description(run: Run) -> dict[str, Any]:
    """The recipe, and the configuration of the network, which may come from a checkpoint."""
    return dataclasses.asdict(run.recipe) | {"configuration": run.config.to_dict()}


def _check_folder(run: Run, step: int, out: Path) -> None:
    if step > run.recipe.steps:
        raise TrainingError(f"{out} holds a run that is at step {step}; the recipe ends at {run.recipe.steps}.")
    if not (out / RECIPE).exists():
        return
    try:
        before = _with_defaults(with_current_names(json.loads((out / RECIPE).read_text())))
    except (ValueError, TypeError, AttributeError) as error:
        raise TrainingError(f"{out / RECIPE} is broken ({error}); remove it, or start in an empty folder.") from error
    now = json.loads(json.dumps(_description(run)))
    changed = [name for name in now if name not in RESUMABLE_FIELDS and now[name] != before.get(name, now[name])]
    if changed:
        raise TrainingError(
            f"{out} holds a run of another recipe: {', '.join(changed)} changed. "
            f"Only {', '.join(RESUMABLE_FIELDS)} may. "
            "Start in an empty folder, or with the recipe of that run."
        )


def _with_defaults(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored recipe with the defaults of keys that recipes did not have when it was stored, in tables too."""
    defaults = json.loads(json.dumps(dataclasses.asdict(Recipe())))
    filled = {name: defaults[name] | stored[name] for name in stored if isinstance(defaults.get(name), dict)}
    return defaults | stored | filled


def _restore(checkpoints: ocp.CheckpointManager, run: Run, state: TrainState, out: Path) -> TrainState:
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, _to_stored(state))
    items = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), data=ocp.args.JsonRestore())
    try:
        restored = checkpoints.restore(None, args=items)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise TrainingError(
            f"{out} holds a checkpoint of another network or optimizer, or one that cannot be read ({error}). "
            "Start in an empty folder, or with the recipe of that run."
        ) from error
    run.data.set_state(restored["data"])
    return TrainState(**{name: restored["state"][STORED_NAMES.get(name, name)] for name in TrainState._fields})


def _to_stored(state: TrainState) -> dict[str, Any]:
    return {STORED_NAMES.get(name, name): value for name, value in state._asdict().items()}
