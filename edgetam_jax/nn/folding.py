"""Weights that are computed from parameters alone, such as a folded BatchNorm: once for a model instead of every call.

Modules get them through `derived`. `fold` runs a network once, abstractly, to find all of them and the parameters that
are still read beside them.
"""

import contextlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.extend import core

from edgetam_jax.config import Config

COLLECTION = "folded"  # the flax collection that stores derived weights

T = TypeVar("T")


def derived(module: nn.Module, name: str, compute: Callable[[], T]) -> T:
    """The result of `compute`, which reads parameters only; of a folded network, the stored result.

    `compute` must not call `derived` itself. `name` must be unique in `module`.
    """
    if not module.is_mutable_collection(COLLECTION) or module.is_initializing():
        stored = module.has_variable(COLLECTION, name)
        return module.get_variable(COLLECTION, name) if stored else compute()
    if not module.has_variable(COLLECTION, name):
        module.put_variable(COLLECTION, name, compute())
    # Constants in place of the result, so that what follows does not depend on the parameters of `compute`.
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), module.get_variable(COLLECTION, name))


class Folded(NamedTuple):
    params: Any  # with None in place of those that nothing reads any more
    weights: Any  # the collection


def fold(run: Callable[..., tuple[Any, Any]], config: Config, params: Mapping[str, Any]) -> Folded:
    """Computes the derived weights of a network in one compiled program.

    Args:
        run: Maps a configuration and parameters to outputs of the network and its collection of derived weights.
        config: The configuration.
        params: The parameters, arrays or tracers.
    """
    leaves, structure = jax.tree.flatten(params)
    program = _trace(run, config, structure, tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves))
    kept = [x if read else None for x, read in zip(leaves, program.read, strict=True)]
    traced = any(isinstance(x, Tracer) for x in leaves)
    # Concrete parameters give concrete weights, even inside a trace.
    with contextlib.nullcontext() if traced else jax.ensure_compile_time_eval():
        weights = program.compute(leaves)
    return Folded(jax.tree.unflatten(structure, kept), weights)


class _Program(NamedTuple):
    compute: Callable[[list[Array]], Any]
    read: tuple[bool, ...]  # which parameters the network reads beside the derived weights


@cache
def _trace(
    run: Callable[..., tuple[Any, Any]], config: Config, structure: Any, shapes: tuple[jax.ShapeDtypeStruct, ...]
) -> _Program:
    def run_flat(*leaves: Array) -> tuple[Any, Any]:
        return run(config, jax.tree.unflatten(structure, leaves))

    closed, (outputs, weights) = jax.make_jaxpr(run_flat, return_shape=True)(*shapes)
    count, folded = len(jax.tree.leaves(outputs)), jax.tree.structure(weights)
    needed = {x for x in closed.jaxpr.outvars[:count] if isinstance(x, core.Var)}
    for equation in reversed(closed.jaxpr.eqns):
        if not needed.isdisjoint(equation.outvars):
            needed.update(x for x in equation.invars if isinstance(x, core.Var))

    @jax.jit
    def compute(leaves: list[Array]) -> Any:
        return jax.tree.unflatten(folded, core.jaxpr_as_fun(closed)(*leaves)[count:])

    return _Program(compute, tuple(x in needed for x in closed.jaxpr.invars))
