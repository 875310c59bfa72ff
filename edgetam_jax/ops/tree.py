"""Trees of arrays: choices between them, maps over their leading axis, and the platform that they live on."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import Tracer
from jaxtyping import Bool

Tree = TypeVar("Tree")


def where(condition: Bool[Array, "..."], yes: Tree, no: Tree) -> Tree:
    """`jnp.where` on each leaf. The axes of `condition` are the leading axes of the leaves."""

    def select(a: Array, b: Array) -> Array:
        rank = max(jnp.ndim(a), jnp.ndim(b))
        return jnp.where(jnp.expand_dims(condition, range(jnp.ndim(condition), rank)), a, b)

    return jax.tree.map(select, yes, no)


def cond_or_select(
    condition: Bool[Array, ""], yes: Callable[[], Tree], no: Callable[[], Tree], vectorize: bool
) -> Tree:
    """The result of one of two functions: `lax.cond`, which computes only that one, or a selection between both.

    A selection is right where objects are vectorized. Each then has its own condition, and `lax.cond` under `vmap`
    would compute both branches anyway, with a copy of all that they use, parameters included, for every object.
    """
    return where(condition, yes(), no()) if vectorize else lax.cond(condition, yes, no)


def map_or_vmap(function: Callable[..., Any], vectorize: bool) -> Callable[..., Any]:
    """Maps a function over the leading axis: at once (`vmap`) or one by one (`lax.map`). The numbers are the same."""
    return jax.vmap(function) if vectorize else lambda *args: lax.map(lambda a: function(*a), args)


def platform_of(array: Any) -> str:
    """The platform of an array's device, "cpu", "gpu" or "tpu"; of a tracer, that of JAX's default device.

    Functions that users call resolve it once, as a static argument of their programs. Inside a `jax.jit` of the user's
    own, pass `vectorize` to choose.
    """
    if isinstance(array, Array) and not isinstance(array, Tracer):
        return next(iter(array.devices())).platform
    device = jax.config.values["jax_default_device"]
    return getattr(device, "platform", device) or jax.default_backend()


def resolve_vectorize(vectorize: bool | None, platform: str | None = None) -> bool:
    """Whether objects are computed at once. By default they are not on CPU, where it is no faster and takes memory."""
    return (platform or platform_of(None)) != "cpu" if vectorize is None else vectorize


def repeat(tree: Tree, count: int) -> Tree:
    """Each leaf `count` times, along a new leading axis."""
    return jax.tree.map(lambda x: jnp.repeat(x[None], count, 0), tree)


def zeros_like_output(function: Callable[..., Tree], *args: Any) -> Tree:
    """Zeros in the shapes of a function's result; nothing is computed."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *args))
