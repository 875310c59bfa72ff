"""AdamW with parameter groups: learning rate multipliers, layer decay, frozen parameters, and a moving average."""

import dataclasses
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from edgetam_jax.errors import ConfigError, TrainingError
from edgetam_jax.model import Params, is_statistic
from edgetam_jax.training.flat_params import FlatLayout, FlatParams, ParamPath, make_layout

TRUNK = "image_encoder/trunk/body/"


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its schedule. The defaults are those with which SAM 2 is fine-tuned.

    Attributes:
        learning_rate: The largest learning rate.
        final_lr_ratio: Learning rate at the end of the cosine schedule, as a share of `learning_rate`.
        warmup: Number of steps in which the learning rate rises linearly from zero.
        beta1: Decay of the average of gradients.
        beta2: Decay of the average of squared gradients.
        weight_decay: Weight decay of matrices and filters.
        max_grad_norm: Gradients are clipped to this global norm.
        layer_decay: Ratio of the learning rates of a block of the trunk and the block after it.
        lr_multipliers: (regular expression, multiplier of the learning rate) for parameters whose path a/b/c contains a
            match. Of several matches the last one counts. 0 freezes the parameters.
        ema_decay: Decay of the moving average of the parameters.

    Raises:
        ConfigError: A value is out of range, or a pattern is not a regular expression.
    """

    learning_rate: float = 5e-6
    final_lr_ratio: float = 0.1
    warmup: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.1
    max_grad_norm: float = 0.1
    layer_decay: float = 1.0
    lr_multipliers: tuple[tuple[str, float], ...] = ()
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        for name, least, most in (
            ("learning_rate", 0.0, 10.0),
            ("final_lr_ratio", 0.0, 1.0),
            ("warmup", 0, 1 << 30),
            ("beta1", 0.0, 0.99999),
            ("beta2", 0.0, 0.99999),
            ("weight_decay", 0.0, 10.0),
            ("layer_decay", 0.01, 1.0),
            ("ema_decay", 0.0, 0.999999),
        ):
            if not least <= getattr(self, name) <= most:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected {least} to {most}.")
        if not self.max_grad_norm > 0:
            raise ConfigError(f"max_grad_norm is {self.max_grad_norm}; expected a number above 0 (inf: no clipping).")
        for pattern, multiplier in self.lr_multipliers:
            if not isinstance(multiplier, int | float) or not 0 <= multiplier < float("inf"):
                raise ConfigError(f"the lr_multiplier of {pattern!r} is {multiplier!r}; expected 0 or more.")
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"{pattern!r} in lr_multipliers is not a regular expression ({error}).") from error


class ParamGroup(NamedTuple):
    """Parameters with the same learning rate and weight decay, which are updated as one vector."""

    lr_multiplier: float  # 0: frozen
    weight_decay: bool

    @property
    def name(self) -> str:
        """The group's key in the optimizer's state; checkpoints of runs hold it."""
        return f"rate {self.lr_multiplier:g}, decays" if self.weight_decay else f"rate {self.lr_multiplier:g}"


def group_params(params: Params, config: OptimizerConfig) -> FlatLayout:
    """The layout with one vector for each parameter group.

    Raises:
        TrainingError: The parameters are those of a folded model.
    """
    if any(x is None for x in flatten_dict(params).values()):
        raise TrainingError(
            "the parameters are those of a model that is folded for inference, which lacks some of them; train the "
            "model on which folded() was called."
        )
    return make_layout(params, {path: group.name for path, group in _param_groups(params, config).items()})


def make_optimizer(params: Params, config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """AdamW for a run of `steps` steps, on parameters that `group_params` flattens.

    Frozen parameters have no entry in its state.
    """
    groups = {group.name: group for group in _param_groups(params, config).values()}
    adamw = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(config.beta1, config.beta2),
        optax.add_decayed_weights(config.weight_decay, {name: group.weight_decay for name, group in groups.items()}),
        optax.scale_by_learning_rate(learning_rate_schedule(config, steps)),
    )

    def multiply(updates: Any, params: Any) -> Any:
        del params
        return {name: groups[name].lr_multiplier * update for name, update in updates.items()}

    trained = {name: group.lr_multiplier > 0 for name, group in groups.items()}
    return optax.chain(optax.masked(adamw, trained), optax.stateless(multiply))


def _param_groups(params: Params, config: OptimizerConfig) -> dict[ParamPath, ParamGroup]:
    flat: dict[Any, Any] = flatten_dict(params)
    multipliers: dict[Any, Any] = flatten_dict(resolve_lr_multipliers(params, config))
    return {path: ParamGroup(multipliers[path], multipliers[path] > 0 and x.ndim > 1) for path, x in flat.items()}


def freeze(params: Params, config: OptimizerConfig) -> Params:
    """Stops the gradients of frozen parameters, so that they are not computed."""
    multipliers = resolve_lr_multipliers(params, config)
    return jax.tree.map(lambda x, multiplier: x if multiplier else jax.lax.stop_gradient(x), params, multipliers)


def learning_rate_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """A linear warmup, and a cosine decay until the last step."""
    peak, warmup = config.learning_rate, min(config.warmup, steps - 1)
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, config.final_lr_ratio * peak)


def resolve_lr_multipliers(params: Params, config: OptimizerConfig) -> Params:
    """The learning rate multiplier of each parameter, as a tree of floats. Statistics have 0.

    Raises:
        ConfigError: A pattern matches no parameter, or all parameters are frozen.
    """
    paths = {path: "/".join(path) for path in flatten_dict(params)}
    for pattern, _ in config.lr_multipliers:
        if not any(re.search(pattern, name) for name in paths.values()):
            raise ConfigError(
                f"no parameter's path matches the pattern {pattern!r}; one is {next(iter(paths.values()))!r}."
            )
    blocks = sorted({_block(name) for name in paths.values() if name.startswith(TRUNK)})
    multipliers = {}
    for path, name in paths.items():
        multiplier = 1.0
        if name.startswith(TRUNK):
            multiplier = config.layer_decay ** (len(blocks) - blocks.index(_block(name)))
        for pattern, value in config.lr_multipliers:
            if re.search(pattern, name):
                multiplier = value
        multipliers[path] = 0.0 if is_statistic(path) else multiplier
    if not any(multipliers.values()):
        raise ConfigError("no parameter is left to train; some lr_multiplier must be above 0.")
    return unflatten_dict(multipliers)


def _block(name: str) -> tuple[int, int]:
    """The position of a parameter's block in the trunk, for sorting: the stem, then each stage's downsampling first."""
    numbers = [int(n) for n in re.findall(r"(?:stages|blocks)_(\d+)", name)]
    if not numbers:
        return -1, 0
    return numbers[0], numbers[1] if len(numbers) > 1 else -1


def update_ema(old: FlatParams, new: FlatParams, config: OptimizerConfig, step: jax.Array) -> FlatParams:
    """The moving average of the parameters, with a shorter memory in the first steps."""
    decay = jnp.minimum(config.ema_decay, (1 + step) / (10 + step))
    # Not `optax.incremental_update`: in this form, frozen parameters keep their exact values.
    return jax.tree.map(lambda a, b: a + (1 - decay) * (b - a), old, new)
