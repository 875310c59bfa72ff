"""One step of training: its gradient reaches what it should, and is the loss's slope; steps do what they promise."""

import dataclasses
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from convert.layouts import flat
from edgetam_jax.model import Model, is_statistic
from edgetam_jax.training.batch_norm import MOMENTUM
from edgetam_jax.training.example import Example
from edgetam_jax.training.lesson import take_lesson
from edgetam_jax.training.losses import LossWeights
from edgetam_jax.training.optimizer import Optimizer, arrange, average, make_optimizer
from edgetam_jax.training.packing import Packed
from edgetam_jax.training.placement import make_mesh
from edgetam_jax.training.simulate import User
from edgetam_jax.training.talk import Course, Dtype
from edgetam_jax.training.update import Report, Settings, TrainState, init_train_state, make_update, plans_for
from tests.unit.training.network import TINY, clips, tiny_model

KEY = jax.random.key(0)
SEED = 1  # of a network that misses some objects, and whose every alternative is the best of some answer
SMOOTH = LossWeights(iou=0)  # the IoU of a thresholded mask moves in steps
CLIPS = Course(User(corrections=0), SMOOTH)
STILLS = Course(User(points=1.0, first_frames=1, corrected_frames=1, corrections=0))
CORRECTED = dataclasses.replace(STILLS, user=dataclasses.replace(STILLS.user, corrections=1))
ALL = Optimizer(rate=1e-3, weight_decay=0.0, clip=float("inf"))
DECODER = Optimizer(rate=1e-3, rates=((".", 0.0), ("^sam_mask_decoder/", 1.0)))
ESTIMATES = "/iou_prediction_head/"
HEAD = Optimizer(rate=1e-3, rates=((".", 0.0), (ESTIMATES, 1.0)))
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
    params = tiny_model(SEED).params
    packing = arrange(params, settings.optimizer)
    optimizer = remembering(make_optimizer(params, settings.optimizer, 100))
    state = init_train_state(packing.pack(params), optimizer)
    return jax.jit(make_update(settings, optimizer, packing, make_mesh())), state


def named(packed: Packed, options: Optimizer) -> dict[str, np.ndarray]:
    return flat(arrange(tiny_model().params, options).unpack(jax.device_get(packed)))


def no_clip_moves(name: str) -> bool:
    """Softmax is blind to what is added to all keys; estimates of the IoU cost nothing in `SMOOTH`."""
    blind = name.startswith("sam_mask_decoder/") and name.endswith("k_proj/bias")
    return is_statistic(tuple(name.split("/"))) or blind or ESTIMATES in name or name == ONLY_CORRECTIONS


@pytest.fixture(scope="module")
def clip_update() -> tuple[Any, TrainState]:
    return prepare(Settings(TINY, CLIPS, ALL))


def test_every_parameter_is_reached(clip_update: Any) -> None:
    """By clips in which objects are clicked, boxed, masked, missed, followed and prompted again; see `HEAD` too."""
    update, state = clip_update
    after, report = update(state, clips(4, 3), KEY)
    slopes = named(after.optimizer[1], ALL)
    assert bool(report.finite)
    assert all(np.isfinite(x).all() for x in slopes.values())
    assert {name for name, x in slopes.items() if not x.any()} == set(filter(no_clip_moves, slopes))
    old, new = named(state.params, ALL), named(after.params, ALL)
    for name, value in old.items():
        assert np.array_equal(new[name], value) == no_clip_moves(name), name


def test_corrections_reach_the_rest() -> None:
    examples, params = clips(4, 1), flatten_dict(tiny_model(SEED).params)
    plan, keys = plans_for(CORRECTED, examples, KEY)
    leaf = tuple(ONLY_CORRECTIONS.split("/"))

    def loss(value: Any) -> Any:
        model = Model(unflatten_dict({**params, leaf: value}), TINY)
        return take_lesson(model, examples, plan, keys, CORRECTED).losses.total.sum()

    assert np.asarray(jax.jit(jax.grad(loss))(params[leaf])).all()


def test_the_gradient_is_the_slope() -> None:
    update, state = prepare(Settings(TINY, dataclasses.replace(STILLS, weights=SMOOTH), ALL))
    assert_slope(update, state, clips(4, 1), rel=5e-3)


def test_the_gradient_through_memory_is_the_slope(clip_update: Any) -> None:
    """Less exactly: what is remembered of a prompted frame is cut at 0, and moves in steps."""
    assert_slope(*clip_update, clips(4, 3), rel=2e-2)


def assert_slope(update: Any, state: TrainState, examples: Example, rel: float) -> None:
    """Along the gradient, with every number weighted at random."""
    slope = update(state, examples, KEY)[0].optimizer[1]
    rng = np.random.default_rng(0)
    along = jax.tree.map(lambda g: np.asarray(g) * rng.uniform(0.2, 1.8, g.shape), slope)
    length = np.sqrt(sum(np.square(x, dtype=np.float64).sum() for x in jax.tree.leaves(along)))
    pairs = zip(*map(jax.tree.leaves, (slope, along)), strict=True)
    want = sum((np.asarray(g, np.float64) * a).sum() for g, a in pairs) / length

    def value(distance: float) -> float:
        params = jax.tree.map(lambda x, a: (x + distance / length * a).astype(x.dtype), state.params, along)
        return float(update(state._replace(params=params), examples, KEY)[1].losses.total)

    assert want > 1
    assert (value(1e-3) - value(-1e-3)) / 2e-3 == pytest.approx(want, rel=rel)


@pytest.fixture(scope="module")
def head_update() -> tuple[Any, TrainState]:
    return prepare(Settings(TINY, STILLS, HEAD))


@pytest.fixture(scope="module")
def head_step(head_update: Any) -> tuple[TrainState, Report]:
    update, state = head_update
    return update(state, clips(4, 1), KEY)


def test_what_is_frozen_stays(head_update: Any, head_step: Any) -> None:
    old, new = named(head_update[1].params, HEAD), named(head_step[0].params, HEAD)
    for name, value in old.items():
        assert np.array_equal(new[name], value) == (ESTIMATES not in name), name
    assert int(head_step[0].step) == 1


def test_the_moving_average_is_that_of_the_parameters(head_update: Any, head_step: Any) -> None:
    update, first = head_update
    second, _ = head_step
    third, _ = update(second, clips(4, 1), KEY)
    mean = first.average
    for step, state in enumerate((second, third)):
        mean = average(mean, state.params, HEAD, jnp.asarray(step))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=RTOL, atol=RTOL), state.average, mean)
    moved = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (third.average, third.params)), strict=True)]
    assert max(moved) > 10 * RTOL


def test_bfloat16_is_the_networks_alone() -> None:
    """Parameters, moments and gradients stay float32, and point where those of float32 do."""
    slopes = {}
    for dtype in get_args(Dtype):
        update, state = prepare(Settings(TINY, dataclasses.replace(STILLS, dtype=dtype), DECODER))
        after, report = update(state, clips(4, 1), KEY)
        assert bool(report.finite) and report.losses.total.dtype == jnp.float32
        assert {x.dtype for x in jax.tree.leaves((after.params, after.average, after.optimizer)) if x.ndim} == {
            np.dtype(np.float32)
        }
        slopes[dtype] = np.concatenate([np.ravel(x) for x in jax.tree.leaves(after.optimizer[1])])
    one, other = slopes.values()
    assert 0.98 < one @ other / np.linalg.norm(one) / np.linalg.norm(other) < 1 - 1e-9


def test_a_step_that_is_not_finite_changes_nothing(head_update: Any) -> None:
    update, state = head_update
    broken = state._replace(params=jax.tree.map(lambda x: x.at[0].set(jnp.nan), state.params))
    after, report = update(broken, clips(4, 1), KEY)
    assert not bool(report.finite)
    jax.tree.map(np.testing.assert_array_equal, after, broken)


def test_parts_of_a_batch_add_up(head_step: Any) -> None:
    update, state = prepare(Settings(TINY, STILLS, HEAD, accumulate=2))
    found, report = update(state, clips(4, 1), KEY)
    want, whole = head_step
    for a, b in zip(*map(jax.tree.leaves, (found.optimizer[1], want.optimizer[1])), strict=True):
        np.testing.assert_allclose(a, b, rtol=RTOL, atol=RTOL * float(whole.gradient))
    np.testing.assert_allclose(report.losses.total, whole.losses.total, rtol=RTOL)
    np.testing.assert_allclose(report.iou, whole.iou, rtol=RTOL)


def test_statistics_of_batches_are_kept() -> None:
    """The same batch twice, while the encoder is frozen: both times, its own mean and variance come in."""
    update, first = prepare(Settings(TINY, STILLS, HEAD, norm="batch"))
    second, _ = update(first, clips(4, 1), KEY)
    third, _ = update(second, clips(4, 1), KEY)
    values = [named(state.params, HEAD) for state in (first, second, third)]
    kept = [name for name in values[0] if name.endswith(("bn/mean", "bn/var"))]
    assert kept
    for name in kept:
        a, b, c = (x[name] for x in values)
        came, again = ((new - (1 - MOMENTUM) * old) / MOMENTUM for old, new in ((a, b), (b, c)))
        assert np.abs(a - b).max() > 0, name
        np.testing.assert_allclose(came, again, rtol=1e-3, atol=1e-3 * max(1, np.abs(came).max()), err_msg=name)
        assert name.endswith("mean") or (came > -1e-3).all(), name
