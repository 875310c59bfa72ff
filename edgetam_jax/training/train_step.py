"""One step of training: a batch of lessons, their gradient, and parameters that are a little better."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from edgetam_jax.config import Config
from edgetam_jax.data.example import Example
from edgetam_jax.data.simulated_user import Plan
from edgetam_jax.model import Model, Params
from edgetam_jax.ops.tree import where, zeros_like_output
from edgetam_jax.training.batch_norm import batch_statistics, keep_statistics
from edgetam_jax.training.distillation import DistillationWeights, Features, distillation_loss
from edgetam_jax.training.flat_params import Packed, Packing
from edgetam_jax.training.interaction import RolloutConfig
from edgetam_jax.training.losses import Losses, reduce_losses
from edgetam_jax.training.optimizer import Optimizer, freeze, update_ema
from edgetam_jax.training.rollout import Rollout, make_plans, rollout
from edgetam_jax.training.sharding import AXIS, replicated

Norm = Literal["frozen", "batch"]


class TrainState(NamedTuple):
    step: Array  # [] int32
    params: Packed
    average: Packed  # their moving average, which is what is evaluated and kept
    optimizer: optax.OptState


class StepMetrics(NamedTuple):
    """What a step came to, all []."""

    losses: Losses  # per object: sums over its frames and rounds
    imitation: Array  # how far from the teacher; 0 without one
    iou: Array  # mean over the objects seen
    present: Array  # share of right answers about objects that are seen
    absent: Array  # and about those that are not; 1 if there are none
    gradient: Array  # its length
    finite: Array  # bool; where it is not, the step changed nothing


class Settings(NamedTuple):
    """How a step is made; static."""

    config: Config
    course: RolloutConfig
    optimizer: Optimizer
    norm: Norm = "frozen"
    accumulate: int = 1  # parts of a batch that are computed one after the other
    distillation: DistillationWeights = DistillationWeights()


def init_train_state(params: Packed, optimizer: optax.GradientTransformation) -> TrainState:
    return TrainState(jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, params), optimizer.init(params))


@partial(jax.jit, static_argnums=0)
def plans_for(course: RolloutConfig, examples: Example, key: Array) -> tuple[Plan, Array]:
    """What the simulated users do with a batch, and keys [B] for the rest of the lesson."""
    keys, rest = jax.random.split(key, (2, len(examples.frames)))
    return make_plans(keys, examples.masks & examples.valid[:, None, :, None, None], course.user), rest


TrainStep = Callable[[TrainState, Example, Array, Features | None], tuple[TrainState, StepMetrics]]


def make_train_step(
    settings: Settings, optimizer: optax.GradientTransformation, packing: Packing, mesh: Mesh
) -> TrainStep:
    """`update(state, examples, key, features)`; a teacher's `features` are those of the same examples and key."""
    shared = P(AXIS)
    # Each device learns from its own clips, and `_learn` adds up once. Left to find that out by itself, XLA adds up
    # every parameter's gradient at every frame; so would JAX, at every use, if it checked what varies over devices.
    learn = jax.shard_map(
        partial(_compute_grads, settings, packing),
        mesh=mesh,
        in_specs=(P(), P(), shared, shared, P(None, AXIS), shared),
        out_specs=P(),
        check_vma=False,
    )

    def whole(packed: Packed) -> Packed:
        """On every device: XLA takes minutes to compile what packs and unpacks vectors that devices share."""
        return lax.with_sharding_constraint(packed, replicated(mesh))

    def update(state: TrainState, examples: Example, key: Array, features: Features | None = None) -> Any:
        plan, keys = plans_for(settings.course, examples, key)
        count = plan.prompts.valid.any(-1).sum()
        slope, sums, seen = learn(whole(state.params), count, examples, plan, features, keys)
        length = _length(slope)
        finite = jnp.isfinite(sums.losses.total) & jnp.isfinite(length)
        changes, moments = optimizer.update(slope, state.optimizer, state.params)
        finite &= jnp.isfinite(_length(changes))
        packed = jax.tree.map(jnp.add, state.params, changes)
        if seen:
            packed = whole(packing.pack(keep_statistics(packing.unpack(whole(packed)), seen)))
        mean = update_ema(state.average, packed, settings.optimizer, state.step)
        after = where(finite, TrainState(state.step + 1, packed, mean, moments), state)
        return after, _report(sums, length, finite)

    return update


class _Sums(NamedTuple):
    """Of a batch or a part of it."""

    losses: Losses
    imitation: Array
    iou: Array
    present: Array
    absent: Array
    seen: Array  # how many answers were about objects that are seen
    unseen: Array


def _compute_grads(
    settings: Settings,
    packing: Packing,
    packed: Packed,
    count: Array,
    examples: Example,
    plan: Plan,
    features: Features | None,
    keys: Array,
) -> tuple[Packed, _Sums, dict[tuple[str, ...], Array]]:
    """What a batch of `count` objects, of which each device has its own part, says about the parameters."""
    gradient = jax.grad(partial(_loss, settings, count), has_aux=True)
    params = packing.unpack(packed)
    if settings.accumulate == 1:
        slope, (sums, seen) = gradient(params, examples, plan, features, keys)
    else:
        parts = partial(_parts, settings.accumulate)
        batch = parts(examples, 0), parts(plan, 0), parts(features, 1), parts(keys, 0)
        slope, (sums, seen) = _sum(lambda part: gradient(params, *part), batch)
    return *lax.psum((packing.pack(slope), sums), AXIS), seen


def _loss(
    settings: Settings,
    count: Array,
    params: Params,
    examples: Example,
    plan: Plan,
    features: Features | None,
    keys: Array,
) -> tuple[Array, tuple[_Sums, dict[tuple[str, ...], Array]]]:
    """Of a part of a batch that has `count` objects in all."""
    model = Model(freeze(params, settings.optimizer), settings.config)
    with batch_statistics(AXIS) if settings.norm == "batch" else contextlib.nullcontext({}) as seen:
        lesson = rollout(model, examples, plan, keys, settings.course)
    losses = reduce_losses(lesson.losses, lesson.asked, count)
    apart = jnp.zeros(())
    if features is not None:
        clips = settings.accumulate * len(examples.frames) * lax.axis_size(AXIS)
        apart = distillation_loss(lesson, features, settings.distillation, clips, count)
    sums = _sums(lesson, losses, apart)
    return losses.total + apart, (sums, seen)


def _length(tree: Any) -> Array:
    return jnp.sqrt(jnp.stack([jnp.square(x).sum() for x in jax.tree.leaves(tree)]).sum())


def _sums(lesson: Rollout, losses: Losses, apart: Array) -> _Sums:
    seen, unseen = lesson.asked & lesson.visible, lesson.asked & ~lesson.visible
    return _Sums(
        losses=losses,
        imitation=apart,
        iou=jnp.where(seen, lesson.ious, 0).sum(),
        present=(seen & (lesson.scores > 0)).sum(),
        absent=(unseen & (lesson.scores <= 0)).sum(),
        seen=seen.sum(),
        unseen=unseen.sum(),
    )


def _report(sums: _Sums, length: Array, finite: Array) -> StepMetrics:
    seen, unseen = jnp.maximum(sums.seen, 1), jnp.maximum(sums.unseen, 1)
    return StepMetrics(
        losses=sums.losses,
        imitation=sums.imitation,
        iou=sums.iou / seen,
        present=sums.present / seen,
        absent=jnp.where(sums.unseen > 0, sums.absent / unseen, 1),
        gradient=length,
        finite=finite,
    )


def _parts(count: int, tree: Any, axis: int) -> Any:
    """Splits an axis into `count` parts, which come first."""

    def split(x: Array) -> Array:
        x = x.reshape(*x.shape[:axis], count, x.shape[axis] // count, *x.shape[axis + 1 :])
        return jnp.moveaxis(x, axis, 0)

    return jax.tree.map(split, tree)


def _sum(function: Callable[[Any], Any], xs: Any) -> Any:
    """Of what a function returns for each of `xs`, one after the other."""
    zeros = zeros_like_output(function, jax.tree.map(lambda x: x[0], xs))
    return lax.scan(lambda total, x: (jax.tree.map(jnp.add, total, function(x)), None), zeros, xs)[0]
