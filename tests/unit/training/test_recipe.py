"""Recipes are read completely, or refused with a sentence that names what is wrong."""

import math
from pathlib import Path
from typing import Any

import pytest

from edgetam_jax.config import NANO
from edgetam_jax.errors import ConfigError
from edgetam_jax.training.recipe import RENAMED, Recipe, read_recipe, recipe_from_dict, with_current_names

RECIPES = sorted((Path(__file__).parents[3] / "recipes").rglob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_project_can_be_read(path: Path) -> None:
    assert read_recipe(path) != Recipe()


def test_a_teacher_at_twice_the_size_gets_frames_of_its_size() -> None:
    recipe = read_recipe(next(path for path in RECIPES if path.stem == "distill-512"))
    assert recipe.teacher == recipe.start != "" and recipe.frame_size == 2 * recipe.image_size == 1024
    assert min(recipe.distillation.embedding, recipe.distillation.conditioned) > 0


def test_an_empty_recipe_is_the_default() -> None:
    assert recipe_from_dict({}) == Recipe()


def test_every_level_is_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        """
        steps = 7
        batch = 6
        accumulate = 3
        mask_size = 32
        dtype = "bfloat16"
        [[data]]
        path = "DAVIS"
        frames = 5
        augment = { flip = 0.25 }
        [user]
        corrections = 2
        [losses]
        focal = 10
        [optimizer]
        max_grad_norm = inf
        [optimizer.lr_multipliers]
        "^image_encoder/" = 0.0
        "neck" = 0.5
        """
    )
    recipe = read_recipe(path)
    assert (recipe.steps, recipe.frames, recipe.data[0].path, recipe.data[0].augment.flip) == (7, 5, "DAVIS", 0.25)
    assert recipe.optimizer.lr_multipliers == (("^image_encoder/", 0.0), ("neck", 0.5)) and math.isinf(
        recipe.optimizer.max_grad_norm
    )
    config = recipe.train_step_config(NANO)
    rollout = config.rollout
    assert (rollout.mask_size, rollout.dtype, rollout.user.corrections, rollout.weights.focal) == (
        32,
        "bfloat16",
        2,
        10,
    )
    assert (config.model, config.accumulate, config.optimizer) == (NANO, 3, recipe.optimizer)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 3}, r"unknown keys \['stepz'\]; known are .*'steps'"),
        ({"optimizer": {"lr": 1.0}}, r"recipe\.optimizer: unknown keys \['lr'\]"),
        ({"data": [{"path": "x", "size": 3}]}, r"data 0: unknown keys \['size'\]"),
        ({"data": [{"path": "x", "augment": {"twist": 1}}]}, r"augment: unknown keys \['twist'\]"),
        ({"data": [{"frames": 3}]}, "data 0 has no path"),
        ({"data": {"path": "x"}}, r"expected a list of tables, \[\[data\]\]"),
        ({"steps": "many"}, r"recipe\.steps: expected int, got 'many'"),
        ({"steps": 1.5}, "expected int, got 1.5"),
        ({"steps": True}, "expected int, got True"),
        ({"shard_parameters": 1}, "expected bool, got 1"),
        ({"user": 3}, r"recipe\.user: expected a mapping, got 3"),
        ({"optimizer": {"lr_multipliers": ["neck"]}}, "expected a mapping"),
        (
            {"optimizer": {"lr_multipliers": {"neck": "slow"}}},
            r"recipe\.optimizer\.lr_multipliers\.neck: expected float, got 'slow'",
        ),
        ({"optimizer": {"lr_multipliers": {"neck": -1}}}, "lr_multiplier of 'neck' is -1.0; expected 0 or more"),
        ({"optimizer": {"lr_multipliers": {"(": 1.0}}}, r"'\(' in lr_multipliers is not a regular expression"),
        ({"optimizer": {"learning_rate": -1.0}}, "learning_rate is -1.0; expected 0.0 to 10.0"),
        ({"optimizer": {"learning_rate": math.nan}}, "learning_rate is nan"),
        ({"optimizer": {"max_grad_norm": 0.0}}, "max_grad_norm is 0.0; expected a number above 0"),
        ({"network": "huge"}, "network is 'huge'; expected one of .*'nano'"),
        ({"norm": "group"}, "norm is 'group'; expected one of"),
        ({"norm": "batch"}, r'norm is "batch" with 8 frames .* Use norm = "frozen"'),
        ({"dtype": "float16"}, "dtype is 'float16'; expected one of"),
        ({"steps": 0}, "steps is 0; expected at least 1"),
        ({"image_size": 100}, "image_size is 100; it must be a positive multiple of 32"),
        ({"frame_size": 8}, "frame_size is 8; expected an even number from 16 on"),
        ({"frame_size": 63, "data": [{"path": "x"}]}, "frame_size is 63; expected an even number"),
        ({"seed": -1}, "seed is -1; expected 0 to 2147483647"),
        ({"seed": 1 << 31}, "seed is 2147483648; expected 0 to 2147483647"),
        ({"batch": 4, "accumulate": 3}, "accumulate is 3; expected a divisor of the batch, 4"),
        ({"losses": {"dice": -1.0}}, "weights of losses are .*expected 0 or more"),
        ({"distillation": {"embedding": math.inf}}, "weights of distillation are .*expected 0 or more"),
        ({"user": {"points": 1.5}}, "points is 1.5; expected a share"),
        ({"user": {"first_frames": 3}}, "first_frames is 3 and corrected_frames 2"),
        ({"synthetic": {"stills": 2}}, "stills is 2; expected at least 1, and no more where there are several"),
        ({"synthetic": {"radius": ["small", "large"]}}, r"radius: expected 2 numbers, got \['small', 'large'\]"),
        ({"synthetic": {"leaving": 2.0}}, "leaving is 2.0; expected a share"),
        ({"data": [{"path": "x", "augment": {"scale": [0.5, True]}}]}, r"scale: expected 2 numbers, got \[0.5, True\]"),
        ({"data": [{"path": "x", "split": ["train"]}]}, r"data 0\.split: expected str, got \['train'\]"),
        ({"evaluation": {"frames": 2}}, "2 frames; expected"),
        ({"evaluation": {"every": 5, "path": "x", "videos": 0}}, "on 0 videos; expected at least 1"),
        ({"evaluation": {"every": 5, "path": "x", "split": 3}}, r"evaluation\.split: expected str, got 3"),
        ({"evaluation": {"path": "x"}}, "path x, but every is 0; set every to a number of steps"),
        ({"evaluation": {"every": 5, "split": "valid"}}, "split valid, but no path; set path"),
        ({"data": [{"path": "x", "frames": 0}]}, "frames is 0; expected at least 1"),
        ({"synthetic": {"real": 2.0}}, "real is 2.0; expected a share"),
        ({"synthetic": {"weight": -1.0}}, "weight is -1.0; expected 0 or more"),
        (
            {"data": [{"path": "x", "frames": 4}], "synthetic": {"weight": 1.0}},
            "synthetic clips have 8 frames and 3 objects, data has 4 and 3; a mixed batch needs the same of both",
        ),
    ],
)
def test_errors_name_what_is_wrong(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe_from_dict(values)


@pytest.mark.parametrize("content", [None, b"steps = ", b"\xff\xfe"])
def test_files_that_are_not_recipes(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"recipe\.toml is not a recipe that can be read .* expected a TOML file"):
        read_recipe(path)


@pytest.mark.parametrize("old", RENAMED["optimizer"])
def test_former_names_are_refused_with_the_current_one(tmp_path: Path, old: str) -> None:
    new = RENAMED["optimizer"][old]
    with pytest.raises(ConfigError, match=rf"recipe\.optimizer has former names of keys: {old} is now {new}\. Rename"):
        recipe_from_dict({"optimizer": {old: 0.5}})
    path = tmp_path / "recipe.toml"
    path.write_text("")
    with pytest.raises(ConfigError, match=f"{old} is now {new}"):
        read_recipe(path, [f"optimizer.{old}=0.5"])


def test_stored_recipes_get_current_names() -> None:
    old = {"steps": 3, "optimizer": {"rate": 1.0, "rates": [["neck", 0.5]], "final_rate": 0.5, "warmup": 2}}
    new = {"learning_rate": 1.0, "lr_multipliers": [["neck", 0.5]], "final_lr_ratio": 0.5, "warmup": 2}
    assert with_current_names(old) == {"steps": 3, "optimizer": new}
    assert with_current_names({"steps": 3}) == {"steps": 3}


def test_assignments_replace_and_add_values(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("steps = 7\nbatch = 2\n[optimizer]\nwarmup = 3\n[optimizer.lr_multipliers]\nneck = 0.5\n")
    recipe = read_recipe(
        path,
        [
            "steps=9",
            "optimizer.learning_rate = 1e-5",
            'optimizer.lr_multipliers."^sam_mask_decoder/"=0',
            'dtype="bfloat16"',
            "steps=8",
            'data=[{path="DAVIS", frames=3}]',
            "user.corrections=2",
        ],
    )
    assert (recipe.steps, recipe.batch, recipe.dtype, recipe.user.corrections) == (8, 2, "bfloat16", 2)
    assert (recipe.optimizer.learning_rate, recipe.optimizer.warmup) == (1e-5, 3)
    assert recipe.optimizer.lr_multipliers == (("neck", 0.5), ("^sam_mask_decoder/", 0))
    assert [(data.path, data.frames) for data in recipe.data] == [("DAVIS", 3)]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("steps", "--set steps cannot be read .*; expected KEY=VALUE with a TOML value, such as optimizer.learning_"),
        ("steps=", "--set steps= cannot be read"),
        ("dtype=bfloat16", 'or dtype="bfloat16" with the quotes of a string'),
        ("", "--set  cannot be read"),
        ("# steps=3", "--set # steps=3 cannot be read"),
        ("[optimizer]", r"--set \[optimizer\] cannot be read"),
        ("stepz=3", r"recipe\.toml with --set: unknown keys \['stepz'\]"),
        ("optimizer.lr=3", r"with --set\.optimizer: unknown keys \['lr'\]; known are .*'learning_rate'"),
        ("steps=1.5", r"with --set\.steps: expected int, got 1\.5"),
        ("optimizer=3", r"with --set\.optimizer: expected a mapping, got 3"),
        ("steps.most=3", r"with --set\.steps: expected int, got \{'most': 3\}"),
        ("optimizer.learning_rate=-1", "learning_rate is -1.0; expected 0.0 to 10.0"),
    ],
)
def test_assignments_that_cannot_be_used(tmp_path: Path, assignment: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("steps = 7")
    with pytest.raises(ConfigError, match=message):
        read_recipe(path, [assignment])
