"""One training step: the rollouts of a batch, their gradients, and the update of the parameters."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from einops import rearrange
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int, Key

from edgetam_jax.config import Config
from edgetam_jax.data.example import Example
from edgetam_jax.data.simulated_user import Plan
from edgetam_jax.model import Model, Params
from edgetam_jax.ops.tree import where, zeros_like_output
from edgetam_jax.training.batch_norm import Statistics, batch_statistics, update_statistics
from edgetam_jax.training.distillation import DistillationWeights, TeacherFeatures, distillation_loss
from edgetam_jax.training.flat_params import FlatLayout, FlatParams
from edgetam_jax.training.interaction import RolloutConfig
from edgetam_jax.training.losses import Losses, reduce_losses
from edgetam_jax.training.optimizer import OptimizerConfig, freeze, update_ema
from edgetam_jax.training.rollout import Rollout, make_plans, rollout
from edgetam_jax.training.sharding import AXIS, replicated

Norm = Literal["frozen", "batch"]


class TrainState(NamedTuple):
    step: Int[Array, ""]
    params: FlatParams
    ema_params: FlatParams  # their moving average, which is evaluated and saved as the trained network
    opt_state: optax.OptState


class StepMetrics(NamedTuple):
    """Scalars that describe a step."""

    losses: Losses  # per object: sums over its frames and correction rounds
    distillation: Float[Array, ""]  # 0 without a teacher
    iou: Float[Array, ""]  # mean over visible objects
    present: Float[Array, ""]  # share of visible objects whose score says so
    absent: Float[Array, ""]  # share of objects out of view whose score says so; 1 if there are none
    grad_norm: Float[Array, ""]
    finite: Bool[Array, ""]  # where this is false, the step changed nothing


class TrainStepConfig(NamedTuple):
    """The static configuration of a step."""

    model: Config
    rollout: RolloutConfig
    optimizer: OptimizerConfig
    norm: Norm = "frozen"
    accumulate: int = 1  # the number of parts of a batch that are computed one after the other
    distillation: DistillationWeights = DistillationWeights()


def init_train_state(params: FlatParams, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, params), optimizer.init(params))


@partial(jax.jit, static_argnums=0)
def plan_batch(config: RolloutConfig, examples: Example, key: Key[Array, ""]) -> tuple[Plan, Key[Array, "B"]]:
    """The plans of the simulated users for a batch, and keys for the rest of the rollout."""
    keys, rollout_keys = jax.random.split(key, (2, len(examples.frames)))
    return make_plans(keys, examples.masks & examples.valid[:, None, :, None, None], config.user), rollout_keys


TrainStep = Callable[[TrainState, Example, Array, TeacherFeatures | None], tuple[TrainState, StepMetrics]]


def make_train_step(
    config: TrainStepConfig, optimizer: optax.GradientTransformation, layout: FlatLayout, mesh: Mesh
) -> TrainStep:
    """Makes the function `train_step(state, examples, key, features=None)`, which is not jitted.

    Args:
        config: The static configuration.
        optimizer: The result of `make_optimizer`.
        layout: The layout of the flat parameters in the state.
        mesh: One axis, over which the batch is sharded.

    Returns:
        A function to the next state and the metrics. `features` are a teacher's, of the same examples and key.
    """
    sharded = P(AXIS)
    # With `shard_map` each device computes the gradients of its own clips, and `compute_grads` sums them once. Without
    # it, XLA sums the gradient of every parameter at every frame. With `check_vma`, JAX would do so at every use.
    grads_of_batch = jax.shard_map(
        partial(compute_grads, config, layout),
        mesh=mesh,
        in_specs=(P(), P(), sharded, sharded, P(None, AXIS), sharded),
        out_specs=P(),
        check_vma=False,
    )

    def replicate(params: FlatParams) -> FlatParams:
        """Keeps vectors whole on each device: XLA takes minutes to compile slices of sharded ones."""
        return lax.with_sharding_constraint(params, replicated(mesh))

    def train_step(
        state: TrainState, examples: Example, key: Key[Array, ""], features: TeacherFeatures | None = None
    ) -> tuple[TrainState, StepMetrics]:
        plan, keys = plan_batch(config.rollout, examples, key)
        count = plan.prompts.valid.any(-1).sum()
        grads, sums, statistics = grads_of_batch(replicate(state.params), count, examples, plan, features, keys)
        grad_norm = optax.tree.norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        finite = jnp.isfinite(sums.losses.total) & jnp.isfinite(grad_norm) & jnp.isfinite(optax.tree.norm(updates))
        params: Any = optax.apply_updates(state.params, updates)
        if statistics:
            tree = update_statistics(layout.unflatten(replicate(params)), statistics)
            params = replicate(layout.flatten(tree))
        ema_params = update_ema(state.ema_params, params, config.optimizer, state.step)
        new_state = TrainState(state.step + 1, params, ema_params, opt_state)
        return where(finite, new_state, state), _step_metrics(sums, grad_norm, finite)

    return train_step


class BatchSums(NamedTuple):
    """Sums over a batch or a part of it."""

    losses: Losses
    distillation: Float[Array, ""]
    iou: Float[Array, ""]
    present: Int[Array, ""]
    absent: Int[Array, ""]
    visible: Int[Array, ""]  # the number of predictions for visible objects
    hidden: Int[Array, ""]  # and for objects out of view


def compute_grads(
    config: TrainStepConfig,
    layout: FlatLayout,
    params: FlatParams,
    count: Int[Array, ""],
    examples: Example,
    plan: Plan,
    features: TeacherFeatures | None,
    keys: Key[Array, "B"],
) -> tuple[FlatParams, BatchSums, Statistics]:
    """The gradients of a batch, summed over devices; inside `shard_map`.

    Args:
        config: The static configuration.
        layout: The layout of `params` and of the gradients.
        params: The parameters of the network.
        count: The number of objects in the whole batch.
        examples: The part of the batch that this device has; so are the arguments after it.
        plan: The plan of the simulated users.
        features: A teacher's features, or None.
        keys: Random keys for corrections.

    Returns:
        Gradients, sums of metrics, and the statistics of the batch (empty if BatchNorm is frozen).
    """
    grad = jax.grad(partial(_loss, config, count), has_aux=True)
    tree = layout.unflatten(params)
    if config.accumulate == 1:
        grads, (sums, statistics) = grad(tree, examples, plan, features, keys)
    else:
        split = partial(_split_axis, config.accumulate)
        parts = split(examples, 0), split(plan, 0), split(features, 1), split(keys, 0)
        grads, (sums, statistics) = _sum_over(lambda part: grad(tree, *part), parts)
    return *lax.psum((layout.flatten(grads), sums), AXIS), statistics


def _loss(
    config: TrainStepConfig,
    count: Int[Array, ""],
    params: Params,
    examples: Example,
    plan: Plan,
    features: TeacherFeatures | None,
    keys: Key[Array, "B"],
) -> tuple[Float[Array, ""], tuple[BatchSums, Statistics]]:
    """The loss of a part of a batch, divided by the `count` objects of the whole batch."""
    model = Model(freeze(params, config.optimizer), config.model)
    with batch_statistics(AXIS) if config.norm == "batch" else contextlib.nullcontext({}) as statistics:
        result = rollout(model, examples, plan, keys, config.rollout)
    losses = reduce_losses(result.losses, result.tracked, count)
    distillation = jnp.zeros(())
    if features is not None:
        clips = config.accumulate * len(examples.frames) * lax.axis_size(AXIS)
        distillation = distillation_loss(result, features, config.distillation, clips, count)
    return losses.total + distillation, (_batch_sums(result, losses, distillation), statistics)


def _batch_sums(result: Rollout, losses: Losses, distillation: Float[Array, ""]) -> BatchSums:
    visible, hidden = result.tracked & result.visible, result.tracked & ~result.visible
    return BatchSums(
        losses=losses,
        distillation=distillation,
        iou=jnp.where(visible, result.ious, 0).sum(),
        present=(visible & (result.scores > 0)).sum(),
        absent=(hidden & (result.scores <= 0)).sum(),
        visible=visible.sum(),
        hidden=hidden.sum(),
    )


def _step_metrics(sums: BatchSums, grad_norm: Float[Array, ""], finite: Bool[Array, ""]) -> StepMetrics:
    visible, hidden = jnp.maximum(sums.visible, 1), jnp.maximum(sums.hidden, 1)
    return StepMetrics(
        losses=sums.losses,
        distillation=sums.distillation,
        iou=sums.iou / visible,
        present=sums.present / visible,
        absent=jnp.where(sums.hidden > 0, sums.absent / hidden, 1),
        grad_norm=grad_norm,
        finite=finite,
    )


def _split_axis(parts: int, tree: Any, axis: int) -> Any:
    """Splits an axis of each array into `parts`, as a new leading axis."""
    before = " ".join(f"a{i}" for i in range(axis))
    pattern = f"{before} (parts b) ... -> parts {before} b ..."
    return jax.tree.map(lambda x: rearrange(x, pattern, parts=parts), tree)


def _sum_over(function: Callable[[Any], Any], xs: Any) -> Any:
    """The sum of a function's results for each element of `xs`, computed one after the other."""
    zeros = zeros_like_output(function, jax.tree.map(lambda x: x[0], xs))
    return lax.scan(lambda total, x: (jax.tree.map(jnp.add, total, function(x)), None), zeros, xs)[0]
