"""One training step: its gradients reach all trainable parameters and match finite differences of the loss."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import unflatten_dict

from edgetam_jax.checkpoints.mapping import flatten_params
from edgetam_jax.data.example import Example
from edgetam_jax.data.simulated_user import User
from edgetam_jax.model import is_statistic
from edgetam_jax.training.batch_norm import MOMENTUM
from edgetam_jax.training.flat_params import FlatParams
from edgetam_jax.training.interaction import RolloutConfig
from edgetam_jax.training.losses import LossWeights
from edgetam_jax.training.optimizer import OptimizerConfig, group_params, make_optimizer, update_ema
from edgetam_jax.training.sharding import make_mesh, replicated
from edgetam_jax.training.train_step import StepMetrics, TrainState, TrainStepConfig, init_train_state, make_train_step
from tests.unit.training.network import TINY, clips, tiny_model

KEY = jax.random.key(0)
SEED = 1  # of a network that misses some objects, and each of whose alternative masks is sometimes the best
SMOOTH = LossWeights(iou=0.0)  # the IoU of a thresholded mask moves in steps
CLIPS = RolloutConfig(User(corrections=0), SMOOTH)
STILLS = RolloutConfig(User(points=1.0, first_frames=1, corrected_frames=1, corrections=0))
# Clicks go to the centre of the largest error, so that small changes of a prediction do not move them.
CORRECTED = RolloutConfig(dataclasses.replace(STILLS.user, corrections=1, from_truth=0.0, aim="centre"), SMOOTH)
ALL = OptimizerConfig(learning_rate=1e-3, weight_decay=0.0, max_grad_norm=float("inf"))
DECODER = OptimizerConfig(learning_rate=1e-3, lr_multipliers=((".", 0.0), ("^sam_mask_decoder/", 1.0)))
ESTIMATES = "/iou_prediction_head/"
ENCODING = ("image_encoder/trunk", "image_encoder/neck", "sam_prompt_encoder", "sam_mask_decoder")
MODULES = (*ENCODING, "memory_attention", "memory_encoder", "spatial_perceiver", "obj_ptr_proj")
NEVER_BEST = "/output_hypernetworks_mlps_1/"  # on the still frames below: only decay moves it
ONLY_CORRECTIONS = "sam_prompt_encoder/point_embeddings_0"  # a negative click
RTOL = 1e-5


def recording_grads(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner`, whose state also holds the last gradients."""

    def init(params: Any) -> Any:
        return inner.init(params), jax.tree.map(jnp.zeros_like, params)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        changes, moments = inner.update(updates, state[0], params)
        return changes, (moments, updates)

    return optax.GradientTransformation(init, update)


def prepare(config: TrainStepConfig) -> tuple[Any, TrainState]:
    params, mesh = tiny_model(SEED).params, make_mesh()
    layout = group_params(params, config.optimizer)
    optimizer = recording_grads(make_optimizer(params, config.optimizer, 100))
    # In the place where steps leave it: from another one, the second step would be compiled anew.
    state = jax.device_put(init_train_state(layout.flatten(params), optimizer), replicated(mesh))
    return jax.jit(make_train_step(config, optimizer, layout, mesh)), state


def named(packed: FlatParams, options: OptimizerConfig) -> dict[str, np.ndarray]:
    return flatten_params(group_params(tiny_model().params, options).unflatten(jax.device_get(packed)))


def has_no_effect(name: str) -> bool:
    """Softmax is invariant to a constant added to all keys."""
    return name.startswith("sam_mask_decoder/") and name.endswith("k_proj/bias")


def is_unused_in_clips(name: str) -> bool:
    """Estimated IoUs have no loss with `SMOOTH`."""
    return is_statistic(tuple(name.split("/"))) or has_no_effect(name) or ESTIMATES in name or name == ONLY_CORRECTIONS


class Tried(NamedTuple):
    """A step of all parameters, and its results."""

    update: Any
    state: TrainState
    examples: Example
    after: TrainState
    metrics: StepMetrics
    grads: dict[str, np.ndarray]


def attempt(rollout: RolloutConfig, examples: Example) -> Tried:
    update, state = prepare(TrainStepConfig(TINY, rollout, ALL))
    after, metrics = update(state, examples, KEY)
    return Tried(update, state, examples, after, metrics, named(after.opt_state[1], ALL))


@pytest.fixture(scope="module")
def tracked() -> Tried:
    return attempt(CLIPS, clips(4, 3))


@pytest.fixture(scope="module")
def corrected() -> Tried:
    return attempt(CORRECTED, clips(4, 1))


def test_every_parameter_has_a_gradient(tracked: Tried) -> None:
    """With clips whose objects are prompted by clicks, boxes and masks, missed, tracked and prompted again."""
    grads = tracked.grads
    assert bool(tracked.metrics.finite)
    assert all(np.isfinite(x).all() for x in grads.values())
    assert {name for name, x in grads.items() if not x.any()} == set(filter(is_unused_in_clips, grads))
    old, new = named(tracked.state.params, ALL), named(tracked.after.params, ALL)
    for name, value in old.items():
        assert np.array_equal(new[name], value) == is_unused_in_clips(name), name


def test_corrections_reach_negative_clicks(corrected: Tried) -> None:
    assert corrected.grads[ONLY_CORRECTIONS].all()


def test_gradients_match_finite_differences() -> None:
    assert_finite_differences(attempt(dataclasses.replace(STILLS, weights=SMOOTH), clips(4, 1)), ENCODING, rel=5e-3)


@pytest.mark.parametrize("module", MODULES)
def test_gradients_through_memory_match_finite_differences(tracked: Tried, module: str) -> None:
    assert_finite_differences(tracked, [module], rel=1e-2)


@pytest.mark.parametrize("module", ENCODING)
def test_gradients_through_corrections_match_finite_differences(corrected: Tried, module: str) -> None:
    assert_finite_differences(corrected, [module], rel=1e-2)


def assert_finite_differences(tried: Tried, modules: Sequence[str], rel: float) -> None:
    """Along the gradient of modules, normalized for each tensor and with random weights for each number.

    The loss changes by about 1e-3, of which rounding is 1e-6 or less. ReLUs and the like that switch within this
    distance account for up to 0.8%.
    """
    rng, grads = np.random.default_rng(0), tried.grads
    along = {name: np.zeros_like(x) for name, x in grads.items()}
    for name, x in grads.items():
        if name.startswith(tuple(f"{module}/" for module in modules)) and x.any():
            along[name] = rng.uniform(0.2, 1.8, x.shape).astype(np.float32) * x / np.linalg.norm(x)
    length = np.sqrt(sum(np.square(a).sum() for a in along.values()))
    want = sum((grads[name] * a).sum() for name, a in along.items()) / length
    packed = group_params(tiny_model().params, ALL).flatten(unflatten_dict(along, sep="/"))

    def value(distance: float) -> float:
        params = jax.tree.map(lambda x, a: x + distance / length * a, tried.state.params, packed)
        return float(tried.update(tried.state._replace(params=params), tried.examples, KEY)[1].losses.total)

    far = min(1e-3 / want, 0.03)
    assert (value(far) - value(-far)) / (2 * far) == pytest.approx(want, rel=rel)


@pytest.fixture(scope="module")
def decoder_update() -> tuple[Any, TrainState]:
    return prepare(TrainStepConfig(TINY, STILLS, DECODER))


@pytest.fixture(scope="module")
def decoder_step(decoder_update: Any) -> tuple[TrainState, StepMetrics]:
    update, state = decoder_update
    return update(state, clips(4, 1), KEY)


def test_frozen_parameters_stay(decoder_update: Any, decoder_step: Any) -> None:
    old, new = named(decoder_update[1].params, DECODER), named(decoder_step[0].params, DECODER)
    for name, value in old.items():
        unused = has_no_effect(name) or (NEVER_BEST in name and name.endswith("bias"))
        assert np.array_equal(new[name], value) == (unused or not name.startswith("sam_mask_decoder/")), name
    assert int(decoder_step[0].step) == 1


def test_ema_params_are_the_moving_average(decoder_update: Any, decoder_step: Any) -> None:
    update, first = decoder_update
    second, _ = decoder_step
    third, _ = update(second, clips(4, 1), KEY)
    mean = first.ema_params
    for step, state in enumerate((second, third)):
        mean = update_ema(mean, state.params, DECODER, jnp.asarray(step))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=RTOL, atol=RTOL), state.ema_params, mean)
    moved = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (third.ema_params, third.params)), strict=True)]
    assert max(moved) > 10 * RTOL


def test_bfloat16_is_only_in_the_network(decoder_step: Any) -> None:
    """Parameters, moments and gradients stay float32; the gradients have the direction of float32 ones."""
    update, state = prepare(TrainStepConfig(TINY, dataclasses.replace(STILLS, dtype="bfloat16"), DECODER))
    directions = []
    for after, metrics in (decoder_step, update(state, clips(4, 1), KEY)):
        assert bool(metrics.finite) and metrics.losses.total.dtype == jnp.float32
        assert {x.dtype for x in jax.tree.leaves((after.params, after.ema_params, after.opt_state)) if x.ndim} == {
            np.dtype(np.float32)
        }
        directions.append(np.concatenate([np.ravel(x) for x in jax.tree.leaves(after.opt_state[1])]))
    one, other = directions
    assert 0.98 < one @ other / np.linalg.norm(one) / np.linalg.norm(other) < 1 - 1e-9


def test_a_step_that_is_not_finite_changes_nothing(decoder_update: Any) -> None:
    update, state = decoder_update
    broken = state._replace(params=jax.tree.map(lambda x: x.at[0].set(jnp.nan), state.params))
    after, metrics = update(broken, clips(4, 1), KEY)
    assert not bool(metrics.finite)
    jax.tree.map(np.testing.assert_array_equal, after, broken)


def test_accumulated_parts_match_the_whole_batch(decoder_step: Any) -> None:
    update, state = prepare(TrainStepConfig(TINY, STILLS, DECODER, accumulate=2))
    found, metrics = update(state, clips(4, 1), KEY)
    want, whole = decoder_step
    for a, b in zip(*map(jax.tree.leaves, (found.opt_state[1], want.opt_state[1])), strict=True):
        np.testing.assert_allclose(a, b, rtol=RTOL, atol=RTOL * float(whole.grad_norm))
    np.testing.assert_allclose(metrics.losses.total, whole.losses.total, rtol=RTOL)
    np.testing.assert_allclose(metrics.iou, whole.iou, rtol=RTOL)


def test_batch_statistics_update_the_running_ones() -> None:
    """With the same batch twice and a frozen encoder, both updates have the same mean and variance."""
    update, first = prepare(TrainStepConfig(TINY, STILLS, DECODER, norm="batch"))
    second, _ = update(first, clips(4, 1), KEY)
    third, _ = update(second, clips(4, 1), KEY)
    values = [named(state.params, DECODER) for state in (first, second, third)]
    kept = [name for name in values[0] if name.endswith(("bn/mean", "bn/var"))]
    assert kept
    for name in kept:
        a, b, c = (x[name] for x in values)
        came, again = ((new - (1 - MOMENTUM) * old) / MOMENTUM for old, new in ((a, b), (b, c)))
        assert np.abs(a - b).max() > 0, name
        np.testing.assert_allclose(came, again, rtol=1e-3, atol=1e-3 * max(1, np.abs(came).max()), err_msg=name)
        assert name.endswith("mean") or (came > -1e-3).all(), name
