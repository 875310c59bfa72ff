"""AdamW with what fine-tuning asks for: which parameters move, and how fast."""

import dataclasses
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from edgetam_jax.errors import ConfigError
from edgetam_jax.model import Params, is_statistic
from edgetam_jax.training.flat_params import Packed, Packing, make_packing

TRUNK = "image_encoder/trunk/body/"


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The defaults are those with which SAM 2 is fine-tuned."""

    learning_rate: float = 5e-6
    final_learning_rate: float = 0.1  # as a share of `rate`, at the end of a cosine
    warmup: int = 0  # steps in which the rate rises from zero
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.1  # of matrices and filters
    max_grad_norm: float = 0.1  # the longest gradient
    layer_decay: float = 1.0  # by how much each block of the trunk is slower than the one after it
    # Factors of the rate, 0 to freeze: (pattern, factor) for parameters whose path a/b/c matches. The last one counts.
    lr_multipliers: tuple[tuple[str, float], ...] = ()
    ema_decay: float = 0.999  # how much of the moving average of the parameters stays at each step

    def __post_init__(self) -> None:
        for name, least, most in (
            ("learning_rate", 0.0, 10.0),
            ("final_learning_rate", 0.0, 1.0),
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
            raise ConfigError(
                f"max_grad_norm is {self.max_grad_norm}; expected a length above 0 (inf: no gradient is shortened)."
            )
        for pattern, factor in self.lr_multipliers:
            if not isinstance(factor, int | float) or not 0 <= factor < float("inf"):
                raise ConfigError(f"the rate factor of {pattern!r} is {factor!r}; expected 0 or more.")
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"{pattern!r} among the rates is no regular expression ({error}).") from error


class ParamGroup(NamedTuple):
    """How parameters move."""

    factor: float  # of the rate
    decays: bool

    @property
    def name(self) -> str:
        return f"rate {self.factor:g}, decays" if self.decays else f"rate {self.factor:g}"


def group_params(params: Params, options: Optimizer) -> Packing:
    """Those that move alike in one vector."""
    return make_packing(params, {path: way.name for path, way in _ways(params, options).items()})


def make_optimizer(params: Params, options: Optimizer, steps: int) -> optax.GradientTransformation:
    """For a run of `steps` steps, of what `arrange` packed. Parameters that do not move have no place in its state."""
    ways = {way.name: way for way in _ways(params, options).values()}
    inner = optax.chain(
        optax.clip_by_global_norm(options.max_grad_norm),
        optax.scale_by_adam(options.beta1, options.beta2),
        optax.add_decayed_weights(options.weight_decay, {name: way.decays for name, way in ways.items()}),
        optax.scale_by_learning_rate(schedule(options, steps)),
    )

    def scale(updates: Any, state: Any, params: Any = None) -> Any:
        del params
        return {name: ways[name].factor * update for name, update in updates.items()}, state

    by_factor = optax.GradientTransformation(lambda params: optax.EmptyState(), scale)
    return optax.chain(optax.masked(inner, {name: way.factor > 0 for name, way in ways.items()}), by_factor)


def _ways(params: Params, options: Optimizer) -> dict[tuple[str, ...], ParamGroup]:
    flat: dict[Any, Any] = flatten_dict(params)
    factors: dict[Any, Any] = flatten_dict(learning_rate_factors(params, options))
    return {path: ParamGroup(factors[path], factors[path] > 0 and x.ndim > 1) for path, x in flat.items()}


def freeze(params: Params, options: Optimizer) -> Params:
    """Parameters of which those that do not move have no gradient, so that none is computed."""
    factors = learning_rate_factors(params, options)
    return jax.tree.map(lambda x, factor: x if factor else jax.lax.stop_gradient(x), params, factors)


def schedule(options: Optimizer, steps: int) -> optax.Schedule:
    warmup = min(options.warmup, steps - 1)
    cosine = optax.cosine_decay_schedule(options.learning_rate, max(steps - warmup, 1), options.final_learning_rate)
    return optax.join_schedules([optax.linear_schedule(0.0, options.learning_rate, warmup), cosine], [warmup])


def learning_rate_factors(params: Params, options: Optimizer) -> Any:
    """A tree of floats; 0 where nothing moves, as in all that are statistics and no weights."""
    paths = {path: "/".join(path) for path in flatten_dict(params)}
    for pattern, _ in options.lr_multipliers:
        if not any(re.search(pattern, name) for name in paths.values()):
            raise ConfigError(
                f"no parameter's path matches the pattern {pattern!r}; one is {next(iter(paths.values()))!r}."
            )
    blocks = sorted({_block(name) for name in paths.values() if name.startswith(TRUNK)})
    factors = {}
    for path, name in paths.items():
        factor = 1.0
        if name.startswith(TRUNK):
            factor = options.layer_decay ** (len(blocks) - blocks.index(_block(name)))
        for pattern, rate in options.lr_multipliers:
            if re.search(pattern, name):
                factor = rate
        factors[path] = 0.0 if is_statistic(path) else factor
    if not any(factors.values()):
        raise ConfigError("no parameter is left to train; some rate factor must be above 0.")
    return unflatten_dict(factors)


def _block(name: str) -> tuple[int, int]:
    """Where in the trunk a parameter is: the stem, then by stage, what halves its input first."""
    numbers = [int(n) for n in re.findall(r"(?:stages|blocks)_(\d+)", name)]
    if not numbers:
        return -1, 0
    return numbers[0], numbers[1] if len(numbers) > 1 else -1


def update_ema(old: Packed, new: Packed, options: Optimizer, step: jax.Array) -> Packed:
    """The moving average of parameters; short at the beginning, so that it forgets where it started."""
    keep = jnp.minimum(options.ema_decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, b: a + (1 - keep) * (b - a), old, new)  # what does not move stays to the bit
