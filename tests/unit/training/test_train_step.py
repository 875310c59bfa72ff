"""One step of training: its gradient reaches what it should, and is the loss's slope; steps do what they promise."""

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
from edgetam_jax.training.flat_params import Packed
from edgetam_jax.training.interaction import RolloutConfig
from edgetam_jax.training.losses import LossWeights
from edgetam_jax.training.optimizer import Optimizer, group_params, make_optimizer, update_ema
from edgetam_jax.training.sharding import make_mesh, replicated
from edgetam_jax.training.train_step import Settings, StepMetrics, TrainState, init_train_state, make_train_step
from tests.unit.training.network import TINY, clips, tiny_model

KEY = jax.random.key(0)
SEED = 1  # of a network that misses some objects, and whose every alternative is the best of some answer
SMOOTH = LossWeights(iou=0)  # the IoU of a thresholded mask moves in steps
CLIPS = RolloutConfig(User(corrections=0), SMOOTH)
STILLS = RolloutConfig(User(points=1.0, first_frames=1, corrected_frames=1, corrections=0))
# Clicks are where an answer is most wrong, so that they stay when it changes a little.
CORRECTED = RolloutConfig(dataclasses.replace(STILLS.user, corrections=1, from_truth=0.0, aim="centre"), SMOOTH)
ALL = Optimizer(learning_rate=1e-3, weight_decay=0.0, max_grad_norm=float("inf"))
DECODER = Optimizer(learning_rate=1e-3, lr_multipliers=((".", 0.0), ("^sam_mask_decoder/", 1.0)))
ESTIMATES = "/iou_prediction_head/"
ENCODING = ("image_encoder/trunk", "image_encoder/neck", "sam_prompt_encoder", "sam_mask_decoder")
MODULES = (*ENCODING, "memory_attention", "memory_encoder", "spatial_perceiver", "obj_ptr_proj")
NEVER_BEST = "/output_hypernetworks_mlps_1/"  # on the still frames below: only decay moves it
ONLY_CORRECTIONS = "sam_prompt_encoder/point_embeddings_0"  # a negative click
RTOL = 1e-5


def remembering(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Steps of `inner`, and the gradient that they were made from."""

    def init(params: Any) -> Any:
        return inner.init(params), jax.tree.map(jnp.zeros_like, params)

    def update(slope: Any, state: Any, params: Any = None) -> Any:
        changes, moments = inner.update(slope, state[0], params)
        return changes, (moments, slope)

    return optax.GradientTransformation(init, update)


def prepare(settings: Settings) -> tuple[Any, TrainState]:
    params, mesh = tiny_model(SEED).params, make_mesh()
    packing = group_params(params, settings.optimizer)
    optimizer = remembering(make_optimizer(params, settings.optimizer, 100))
    # In the place where steps leave it: from another one, the second step would be compiled anew.
    state = jax.device_put(init_train_state(packing.pack(params), optimizer), replicated(mesh))
    return jax.jit(make_train_step(settings, optimizer, packing, mesh)), state


def named(packed: Packed, options: Optimizer) -> dict[str, np.ndarray]:
    return flatten_params(group_params(tiny_model().params, options).unpack(jax.device_get(packed)))


def is_blind(name: str) -> bool:
    """Softmax is blind to what is added to all keys."""
    return name.startswith("sam_mask_decoder/") and name.endswith("k_proj/bias")


def no_clip_moves(name: str) -> bool:
    """Estimates of the IoU cost nothing in `SMOOTH`."""
    return is_statistic(tuple(name.split("/"))) or is_blind(name) or ESTIMATES in name or name == ONLY_CORRECTIONS


class Tried(NamedTuple):
    """A step with all parameters, and what it came to."""

    update: Any
    state: TrainState
    examples: Example
    after: TrainState
    report: StepMetrics
    slopes: dict[str, np.ndarray]


def attempt(course: RolloutConfig, examples: Example) -> Tried:
    update, state = prepare(Settings(TINY, course, ALL))
    after, report = update(state, examples, KEY)
    return Tried(update, state, examples, after, report, named(after.optimizer[1], ALL))


@pytest.fixture(scope="module")
def followed() -> Tried:
    return attempt(CLIPS, clips(4, 3))


@pytest.fixture(scope="module")
def corrected() -> Tried:
    return attempt(CORRECTED, clips(4, 1))


def test_every_parameter_is_reached(followed: Tried) -> None:
    """By clips in which objects are clicked, boxed, masked, missed, followed and prompted again; see `DECODER` too."""
    slopes = followed.slopes
    assert bool(followed.report.finite)
    assert all(np.isfinite(x).all() for x in slopes.values())
    assert {name for name, x in slopes.items() if not x.any()} == set(filter(no_clip_moves, slopes))
    old, new = named(followed.state.params, ALL), named(followed.after.params, ALL)
    for name, value in old.items():
        assert np.array_equal(new[name], value) == no_clip_moves(name), name


def test_corrections_reach_the_rest(corrected: Tried) -> None:
    assert corrected.slopes[ONLY_CORRECTIONS].all()


def test_the_gradient_is_the_slope() -> None:
    assert_slope(attempt(dataclasses.replace(STILLS, weights=SMOOTH), clips(4, 1)), ENCODING, rel=5e-3)


@pytest.mark.parametrize("module", MODULES)
def test_the_gradient_through_memory_is_the_slope(followed: Tried, module: str) -> None:
    assert_slope(followed, [module], rel=1e-2)


@pytest.mark.parametrize("module", ENCODING)
def test_the_gradient_through_corrections_is_the_slope(corrected: Tried, module: str) -> None:
    assert_slope(corrected, [module], rel=1e-2)


def assert_slope(tried: Tried, modules: Sequence[str], rel: float) -> None:
    """Along the gradient of modules, with every number weighted at random, and tensors that it hardly moves as well.

    The loss goes up and down by 1e-3, of which rounding is 1e-6 or less. What opens or closes on the way, ReLUs most of
    all, is up to 0.8%.
    """
    rng, slopes = np.random.default_rng(0), tried.slopes
    along = {name: np.zeros_like(x) for name, x in slopes.items()}
    for name, x in slopes.items():
        if name.startswith(tuple(f"{module}/" for module in modules)) and x.any():
            along[name] = rng.uniform(0.2, 1.8, x.shape).astype(np.float32) * x / np.linalg.norm(x)
    length = np.sqrt(sum(np.square(a).sum() for a in along.values()))
    want = sum((slopes[name] * a).sum() for name, a in along.items()) / length
    packed = group_params(tiny_model().params, ALL).pack(unflatten_dict(along, sep="/"))

    def value(distance: float) -> float:
        params = jax.tree.map(lambda x, a: x + distance / length * a, tried.state.params, packed)
        return float(tried.update(tried.state._replace(params=params), tried.examples, KEY)[1].losses.total)

    far = min(1e-3 / want, 0.03)
    assert (value(far) - value(-far)) / (2 * far) == pytest.approx(want, rel=rel)


@pytest.fixture(scope="module")
def decoder_update() -> tuple[Any, TrainState]:
    return prepare(Settings(TINY, STILLS, DECODER))


@pytest.fixture(scope="module")
def decoder_step(decoder_update: Any) -> tuple[TrainState, StepMetrics]:
    update, state = decoder_update
    return update(state, clips(4, 1), KEY)


def test_what_is_frozen_stays(decoder_update: Any, decoder_step: Any) -> None:
    old, new = named(decoder_update[1].params, DECODER), named(decoder_step[0].params, DECODER)
    for name, value in old.items():
        unused = is_blind(name) or (NEVER_BEST in name and name.endswith("bias"))
        assert np.array_equal(new[name], value) == (unused or not name.startswith("sam_mask_decoder/")), name
    assert int(decoder_step[0].step) == 1


def test_the_moving_average_is_that_of_the_parameters(decoder_update: Any, decoder_step: Any) -> None:
    update, first = decoder_update
    second, _ = decoder_step
    third, _ = update(second, clips(4, 1), KEY)
    mean = first.average
    for step, state in enumerate((second, third)):
        mean = update_ema(mean, state.params, DECODER, jnp.asarray(step))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=RTOL, atol=RTOL), state.average, mean)
    moved = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (third.average, third.params)), strict=True)]
    assert max(moved) > 10 * RTOL


def test_bfloat16_is_the_networks_alone(decoder_step: Any) -> None:
    """Parameters, moments and gradients stay float32, and point where those of float32 do."""
    update, state = prepare(Settings(TINY, dataclasses.replace(STILLS, dtype="bfloat16"), DECODER))
    slopes = []
    for after, report in (decoder_step, update(state, clips(4, 1), KEY)):
        assert bool(report.finite) and report.losses.total.dtype == jnp.float32
        assert {x.dtype for x in jax.tree.leaves((after.params, after.average, after.optimizer)) if x.ndim} == {
            np.dtype(np.float32)
        }
        slopes.append(np.concatenate([np.ravel(x) for x in jax.tree.leaves(after.optimizer[1])]))
    one, other = slopes
    assert 0.98 < one @ other / np.linalg.norm(one) / np.linalg.norm(other) < 1 - 1e-9


def test_a_step_that_is_not_finite_changes_nothing(decoder_update: Any) -> None:
    update, state = decoder_update
    broken = state._replace(params=jax.tree.map(lambda x: x.at[0].set(jnp.nan), state.params))
    after, report = update(broken, clips(4, 1), KEY)
    assert not bool(report.finite)
    jax.tree.map(np.testing.assert_array_equal, after, broken)


def test_parts_of_a_batch_add_up(decoder_step: Any) -> None:
    update, state = prepare(Settings(TINY, STILLS, DECODER, accumulate=2))
    found, report = update(state, clips(4, 1), KEY)
    want, whole = decoder_step
    for a, b in zip(*map(jax.tree.leaves, (found.optimizer[1], want.optimizer[1])), strict=True):
        np.testing.assert_allclose(a, b, rtol=RTOL, atol=RTOL * float(whole.gradient))
    np.testing.assert_allclose(report.losses.total, whole.losses.total, rtol=RTOL)
    np.testing.assert_allclose(report.iou, whole.iou, rtol=RTOL)


def test_statistics_of_batches_are_kept() -> None:
    """The same batch twice, while the encoder is frozen: both times, its own mean and variance come in."""
    update, first = prepare(Settings(TINY, STILLS, DECODER, norm="batch"))
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
