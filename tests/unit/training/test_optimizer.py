"""Parameter groups, learning rates, clipping, weight decay and the moving average."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from edgetam_jax.errors import ConfigError
from edgetam_jax.model import param_shapes
from edgetam_jax.training.optimizer import (
    OptimizerConfig,
    freeze,
    group_params,
    learning_rate_schedule,
    make_optimizer,
    resolve_lr_multipliers,
    update_ema,
)
from tests.support.scene import MINIMAL

TRUNK = dataclasses.replace(MINIMAL.trunk, depths=(2, 1, 1, 1))
PARAMS = {
    "trunk": {"bn": {name: np.ones(2, np.float32) for name in ("mean", "var", "scale")}},
    "neck": {"kernel": np.full((2, 2), 3, np.float32), "bias": np.full(2, 3, np.float32)},
    "head": {"kernel": np.full((2, 2), 3, np.float32), "positional_encoding_gaussian_matrix": np.ones(2, np.float32)},
}


@functools.cache
def shapes() -> Any:
    return param_shapes(dataclasses.replace(MINIMAL, trunk=TRUNK))


def factors(**options: Any) -> dict[str, float]:
    """The learning rate multipliers of the minimal network, by path."""
    tree = resolve_lr_multipliers(shapes(), OptimizerConfig(**options))
    flat: dict[Any, Any] = flatten_dict(tree)
    return {"/".join(path): factor for path, factor in flat.items()}


def step(options: OptimizerConfig, gradient: Any, steps: int = 10) -> Any:
    """The updates of `PARAMS` in one step."""
    optimizer, layout = make_optimizer(PARAMS, options, steps), group_params(PARAMS, options)

    @jax.jit
    def move(gradient: Any) -> Any:
        flat = layout.flatten(PARAMS)
        return layout.unflatten(optimizer.update(layout.flatten(gradient), optimizer.init(flat), flat)[0])

    return move(gradient)


def test_earlier_blocks_of_the_trunk_have_lower_learning_rates() -> None:
    found = factors(layer_decay=0.5)
    body = "image_encoder/trunk/body"
    order = ["stem", "stages_0/blocks_0", "stages_0/blocks_1"]
    for stage in (1, 2, 3):
        order += [f"stages_{stage}/downsample", f"stages_{stage}/blocks_0"]
    assert {name.split(body)[0] for name in found if "trunk" in name} == {""}
    for rank, block in enumerate(reversed(order)):
        rates = {rate for name, rate in found.items() if name.startswith(f"{body}/{block}/")} - {0.0}
        assert rates == {0.5 ** (rank + 1)}, block
    assert {rate for name, rate in found.items() if body not in name} == {0.0, 1.0}


def test_statistics_and_the_gaussian_are_frozen() -> None:
    found = factors(lr_multipliers=((".", 2.0),))
    still = {name for name, rate in found.items() if rate == 0}
    assert still == {n for n in found if n.endswith(("bn/mean", "bn/var", "positional_encoding_gaussian_matrix"))}
    assert len(still) > 2 and set(found.values()) == {0.0, 2.0}


def test_the_last_pattern_that_matches_counts() -> None:
    found = factors(lr_multipliers=(("^image_encoder/", 0.0), ("neck", 0.25)))
    neck, trunk = "image_encoder/neck/", "image_encoder/trunk/"
    assert {rate for name, rate in found.items() if name.startswith(neck)} == {0.25}
    assert {rate for name, rate in found.items() if name.startswith(trunk)} == {0.0}
    assert found["no_mem_embed"] == 1.0


def test_patterns_have_to_match_and_leave_something() -> None:
    with pytest.raises(ConfigError, match=r"no parameter's path matches the pattern 'necks'; one is '.*/.*'"):
        factors(lr_multipliers=(("necks", 0.0),))
    with pytest.raises(ConfigError, match="no parameter is left to train"):
        factors(lr_multipliers=((".", 0.0),))


def learning_rates_at(steps: list[int], options: OptimizerConfig, length: int) -> list[float]:
    return jax.jit(jax.vmap(learning_rate_schedule(options, length)))(jnp.asarray(steps)).tolist()


def test_learning_rate_warms_up_and_decays_along_a_cosine() -> None:
    options = OptimizerConfig(learning_rate=2.0, final_lr_ratio=0.25, warmup=10)
    found = learning_rates_at([0, 5, 10, 60, 110, 200], options, 110)
    assert found == pytest.approx([0, 1, 2, 1.25, 0.5, 0.5])


def test_a_run_may_have_no_warmup_or_end_within_it() -> None:
    assert learning_rates_at([0, 50], OptimizerConfig(learning_rate=2.0, final_lr_ratio=0.0), 50) == pytest.approx(
        [2, 0], abs=1e-6
    )
    assert learning_rates_at([0, 2, 4], OptimizerConfig(learning_rate=2.0, warmup=100), 5) == pytest.approx([0, 1, 2])


def test_steps_are_those_of_adamw() -> None:
    """The first update of Adam is the learning rate; weight decay is for matrices; frozen parameters stay."""
    options = OptimizerConfig(
        learning_rate=0.5, weight_decay=0.1, max_grad_norm=np.inf, lr_multipliers=(("^head/", 0.0), ("bias", 0.5))
    )
    gradient = jax.tree.map(lambda x: np.full_like(x, -2), PARAMS)
    found = step(options, gradient)
    assert found["neck"]["kernel"] == pytest.approx(0.5 * (1 - 0.1 * 3), abs=1e-5)
    assert found["neck"]["bias"] == pytest.approx(0.5 * 0.5, abs=1e-5)
    assert found["trunk"]["bn"]["scale"] == pytest.approx(0.5, abs=1e-5)
    still = (*jax.tree.leaves(found["head"]), found["trunk"]["bn"]["mean"], found["trunk"]["bn"]["var"])
    assert all(not np.any(x) for x in still)


def test_frozen_parameters_have_no_moments_and_no_gradient() -> None:
    options = OptimizerConfig(lr_multipliers=(("^head/", 0.0),))
    flat = group_params(PARAMS, options).flatten(PARAMS)
    assert list(flat) == ["rate 0", "rate 1", "rate 1, decays"]
    moments = [x for x in jax.tree.leaves(make_optimizer(PARAMS, options, 3).init(flat)) if x.ndim]
    assert len(moments) == 2 * 2  # two for each vector that moves
    grads = jax.jit(jax.grad(lambda p: sum(x.sum() for x in jax.tree.leaves(freeze(p, options)))))(PARAMS)
    np.testing.assert_array_equal(grads["neck"]["kernel"], 1)
    np.testing.assert_array_equal(grads["head"]["kernel"], 0)
    np.testing.assert_array_equal(grads["trunk"]["bn"]["mean"], 0)


def test_gradients_are_clipped() -> None:
    """Adam is invariant to the scale of gradients, except where they are smaller than its epsilon."""
    options = OptimizerConfig(learning_rate=1.0, weight_decay=0.0, max_grad_norm=1e-9)
    gradient = jax.tree.map(lambda x: np.full_like(x, 1e3), PARAMS)
    moving = {"kernel": 4, "bias": 2}
    each = 1e-9 / np.sqrt(sum(moving.values()) + 2 + 4)  # the scale and the other kernel
    assert step(options, gradient)["neck"]["bias"] == pytest.approx(-each / (each + 1e-8), rel=1e-3)


def test_the_moving_average_starts_with_a_short_memory() -> None:
    zero, one = {"x": jnp.zeros(1)}, {"x": jnp.ones(1)}
    mean = jax.jit(jax.vmap(lambda step: update_ema(zero, one, OptimizerConfig(ema_decay=0.9), step)["x"][0]))
    found = mean(jnp.asarray([0, 8, 79, 80, 10_000])).tolist()
    assert found == pytest.approx([0.9, 0.5, 1 - 80 / 89, 0.1, 0.1], rel=1e-5)


def test_flat_parameters_are_unflattened_exactly() -> None:
    layout = group_params(PARAMS, OptimizerConfig(lr_multipliers=(("bias", 0.5),)))
    flat = layout.flatten(PARAMS)
    assert {name: len(paths) for name, paths in layout.groups.items()} == {
        "rate 0": 3,
        "rate 0.5": 1,
        "rate 1": 1,
        "rate 1, decays": 2,
    }
    assert all(vector.ndim == 1 and len(vector) % 64 == 0 for vector in flat.values())
    jax.tree.map(np.testing.assert_array_equal, layout.unflatten(flat), PARAMS)
