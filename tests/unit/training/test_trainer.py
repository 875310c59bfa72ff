"""Runs are interrupted, resumed, and refused. What a step does to a network is in test_train_step.py."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import pytest

from edgetam_jax import load
from edgetam_jax.cli.main import main
from edgetam_jax.errors import TrainingError
from edgetam_jax.evaluation import held_out
from edgetam_jax.training.optimizer import OptimizerConfig
from edgetam_jax.training.recipe import RENAMED, EvaluationConfig, Recipe
from edgetam_jax.training.trainer import MODEL, train
from tests.support.waiting import HANG_SECONDS
from tests.unit.training.network import tiny_model
from tests.unit.training.runs import MOVING, make_recipe, metrics, of_training, real_recipe, small_steps

ROOT = Path(__file__).parents[3]
pytestmark = of_training


@pytest.fixture(autouse=True, scope="module")
def compiled_fast() -> None:
    """Disabled here: runs in other processes compile with all optimizations, and must match these bit by bit."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    return make_recipe(folder)


@pytest.fixture(scope="module")
def full_run(recipe: Recipe, folder: Path) -> Path:
    """A run without interruption."""
    with small_steps():
        train(recipe, folder / "whole")
    return folder / "whole"


def states(out: Path) -> tuple[int | None, Any]:
    with ocp.CheckpointManager(out / "checkpoints") as checkpoints:
        items = ocp.args.Composite(state=ocp.args.StandardRestore(), data=ocp.args.JsonRestore())
        return checkpoints.latest_step(), checkpoints.restore(None, args=items)


def assert_same_run(found: Path, wanted: Path) -> None:
    """Compares metrics, the last state, the position in the data, and the network bit by bit."""
    assert metrics(found) == metrics(wanted)
    (step, state), (last, want) = states(found), states(wanted)
    assert step == last and state["data"] == want["data"]
    for name in ("params", "average", "optimizer"):
        assert_equal(state["state"][name], want["state"][name])
    assert_equal(load(found / MODEL).params, load(wanted / MODEL).params)


def assert_equal(found: Any, wanted: Any) -> None:
    if isinstance(wanted, dict | list):
        assert len(found) == len(wanted)
        for key in wanted if isinstance(wanted, dict) else range(len(wanted)):
            assert_equal(found[key], wanted[key])
    else:
        np.testing.assert_array_equal(found, wanted)


def test_a_run_trains_its_network(full_run: Path, recipe: Recipe) -> None:
    found = metrics(full_run)
    assert [line["step"] for line in found] == list(range(recipe.steps))
    assert len({line["loss"] for line in found}) == recipe.steps
    before, after = tiny_model().params, load(full_run / MODEL).params
    assert np.abs(after[MOVING] - before[MOVING]).max() > 0.01
    np.testing.assert_array_equal(after["no_obj_ptr"], before["no_obj_ptr"])
    (board,) = (full_run / "tensorboard").iterdir()
    assert all(name in board.read_bytes() for name in (b"loss_dice", b"iou", b"seconds"))


@pytest.mark.slow
def test_a_run_that_was_killed_is_resumed_exactly(full_run: Path, recipe: Recipe, folder: Path) -> None:
    out = killed(folder, "killed", "4")
    assert [line["step"] for line in metrics(out)] == [0, 1, 2, 3, 4] and states(out)[0] == 3
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # as if it had been killed there
    with small_steps():
        train(recipe, out)
    assert_same_run(out, full_run)


def killed(folder: Path, name: str, *arguments: str) -> Path:
    line = [sys.executable, "-m", "tests.unit.training.runs", str(folder), str(folder / name), *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)
    assert done.returncode == -9, done.stderr
    return folder / name


@pytest.mark.slow
def test_a_run_with_real_steps_is_resumed_exactly(folder: Path) -> None:
    recipe = real_recipe(folder)
    train(recipe, folder / "whole-real")
    out = killed(folder, "killed-real", "2", "real")
    assert [line["step"] for line in metrics(out)] == [0, 1, 2] and states(out)[0] == 2
    (out / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir()  # as if it had been killed while it saved
    train(recipe, out)
    assert_same_run(out, folder / "whole-real")


@pytest.mark.parametrize("step", [4, 3], ids=["between", "just-saved"])
def test_a_step_that_is_not_finite_ends_a_run_and_keeps_the_state_before_it(
    full_run: Path, recipe: Recipe, folder: Path, step: int
) -> None:
    out = folder / f"broken-{step}"
    with (
        small_steps(broken=step),
        pytest.raises(TrainingError, match=rf"not finite at step {step}\. .* kept in .*broken"),
    ):
        train(recipe, out)
    assert states(out)[0] == step and metrics(out) == metrics(full_run)[:step]
    load(out / MODEL)
    with small_steps():
        train(recipe, out)
    assert_same_run(out, full_run)


def test_folders_of_other_recipes_are_refused(full_run: Path, recipe: Recipe, folder: Path) -> None:
    before = (full_run / "recipe.json").read_text()
    with small_steps():
        with pytest.raises(TrainingError, match="run of another recipe: seed changed. Only steps, save_every, eval"):
            train(dataclasses.replace(recipe, seed=4), full_run)
        with pytest.raises(TrainingError, match="holds a run that is at step 8; the recipe ends at 5"):
            train(dataclasses.replace(recipe, steps=5), full_run)
        with pytest.raises(TrainingError, match="cannot be the folder of a run"):
            train(recipe, full_run / MODEL)
    assert (full_run / "recipe.json").read_text() == before


def test_a_run_that_was_stored_with_former_names_is_resumed(full_run: Path, recipe: Recipe, folder: Path) -> None:
    """Its recipe.json is read with the current names; checkpoints have always had theirs."""
    out = shutil.copytree(full_run, folder / "former")
    description = json.loads((full_run / "recipe.json").read_text())
    former = {new: old for old, new in RENAMED["optimizer"].items()}
    description["optimizer"] = {former.get(name, name): x for name, x in description["optimizer"].items()}
    assert set(former.values()) < set(description["optimizer"])
    (out / "recipe.json").write_text(json.dumps(description))
    with small_steps():
        train(recipe, out)
        with pytest.raises(TrainingError, match="run of another recipe: optimizer changed"):
            train(dataclasses.replace(recipe, optimizer=OptimizerConfig()), out)
    assert (out / "recipe.json").read_text() == (full_run / "recipe.json").read_text()


def test_a_checkpoint_of_another_configuration_is_refused(full_run: Path, recipe: Recipe, folder: Path) -> None:
    """The file that `start` names may have been replaced."""
    out = shutil.copytree(full_run, folder / "other")
    path = out / "recipe.json"
    description = json.loads(path.read_text())
    description["configuration"]["memory_frames"] += 1
    for content, message in (
        (json.dumps(description), "run of another recipe: configuration changed"),
        ("{", r"recipe\.json is broken \(.*\); remove it, or start in an empty folder"),
        ("[]", r"recipe\.json is broken"),
    ):
        path.write_text(content)
        with small_steps(), pytest.raises(TrainingError, match=message):
            train(recipe, out)


def test_broken_checkpoints_and_those_of_other_networks_are_refused(
    full_run: Path, recipe: Recipe, folder: Path
) -> None:
    """Even without recipe.json."""
    other = dataclasses.replace(recipe.optimizer, lr_multipliers=((".", 1.0),))
    for name, changed, broken in (
        ("other", dataclasses.replace(recipe, optimizer=other, steps=9), False),
        ("broken", dataclasses.replace(recipe, steps=9), True),
    ):
        out = shutil.copytree(full_run, folder / f"{name}-network")
        (out / "recipe.json").unlink()
        if broken:
            for path in (out / "checkpoints" / "8" / "state").iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        before = (out / "metrics.jsonl").read_text()
        with (
            small_steps(),
            pytest.raises(TrainingError, match="another network or optimizer, or one that cannot be read"),
        ):
            train(changed, out)
        assert (out / "metrics.jsonl").read_text() == before and not (out / "recipe.json").exists()


def test_evaluation_during_training_is_on_held_out_clips(recipe: Recipe, folder: Path) -> None:
    once = EvaluationConfig(every=8, clips=1, frames=3)
    with small_steps():
        train(dataclasses.replace(recipe, evaluation=once), folder / "evaluated")
    *_, last = metrics(folder / "evaluated")
    found = [last[f"held_out_{kind}"] for kind in held_out.PROMPT_KINDS]
    assert all(0 <= value <= 1 for value in found) and len(set(found)) > 1


def test_evaluation_during_training_writes_its_metrics(
    recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are those of the moving average, and are logged too."""
    seen = []

    def evaluate(model: Any, clips: Any) -> Any:
        seen.append(model.params[MOVING])
        return {"click": SimpleNamespace(score=SimpleNamespace(jf=0.25 + len(seen)))}

    monkeypatch.setattr(held_out, "evaluate", evaluate)
    evaluation = dataclasses.replace(recipe.evaluation, every=3)
    with small_steps():
        model = train(dataclasses.replace(recipe, evaluation=evaluation), folder / "with-metrics")
    found = {
        line["step"]: line["held_out_click"] for line in metrics(folder / "with-metrics") if "held_out_click" in line
    }
    assert found == {2: 1.25, 5: 2.25, 7: 3.25}
    *_, shown = capsys.readouterr().err.splitlines()
    assert shown.startswith("8/8  loss ") and "held_out_click 3.25" in shown
    np.testing.assert_array_equal(seen[-1], model.params[MOVING])
    assert np.any(seen[0] != seen[1])


@pytest.mark.parametrize(
    ("content", "extra", "message"),
    [
        (None, [], "recipe.toml is not a recipe that can be read"),
        ("stepz = 3", [], "unknown keys ['stepz']"),
        ("steps = [", [], "is not a recipe that can be read"),
        ("steps = 1", ["--set", "seed=2", "--set", "optimizer.lr=1"], "unknown keys ['lr']"),
        ("steps = 1", ["--set", "steps"], "--set steps cannot be read"),
        ('start = "here"', ["--set", 'start="nowhere"'], "nowhere"),
        ("steps = 1", ["--processes", "2"], "expected all three, and the process from 0"),
        ('start = "nowhere"', [], "nowhere"),
        ('[[data]]\npath = "nowhere"\n', [], "nowhere"),
    ],
)
def test_errors_of_the_command_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, extra: list[str], message: str
) -> None:
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_text(content)
    assert main(["train", str(path), "--out", str(tmp_path / "out"), *extra]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and message in printed.err
    assert not printed.out
