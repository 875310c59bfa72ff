"""Trees of arrays: choices between them, and maps over their leading axis."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax


def where(condition: Array, yes: Any, no: Any) -> Any:
    """`jnp.where` on each leaf; the condition is about their leading axes."""

    def pick(a: Array, b: Array) -> Array:
        rank = max(jnp.ndim(a), jnp.ndim(b))
        return jnp.where(condition.reshape(*condition.shape, *[1] * (rank - condition.ndim)), a, b)

    return jax.tree.map(pick, yes, no)


def cond_or_select(condition: Array, yes: Callable[[], Any], no: Callable[[], Any], vectorize: bool) -> Any:
    """What one of two functions returns; only that one is called, unless objects are computed `together`.

    Then a condition is different for each of them, and `lax.cond` under `vmap` would compute both sides anyway, and
    give each object its own copy of all that they use, of the parameters too.
    """
    return where(condition, yes(), no()) if vectorize else lax.cond(condition, yes, no)


def resolve_vectorize(vectorize: bool | None) -> bool:
    """Are objects computed at once? By default, except on CPU: there it is no faster, and takes memory for each."""
    return jax.default_backend() != "cpu" if vectorize is None else vectorize


def map_or_vmap(function: Callable[..., Any], vectorize: bool | None = None) -> Callable[..., Any]:
    """Maps a function over the leading axis: one after the other, or at once. The numbers are the same."""
    return jax.vmap(function) if resolve_vectorize(vectorize) else lambda *args: lax.map(lambda a: function(*a), args)


def zeros_like_output(function: Callable[..., Any], *args: Any) -> Any:
    """Zeros in the shapes of what a function returns; nothing is computed."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *args))
