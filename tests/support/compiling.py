"""How programs are compiled that run a few times only."""

import contextlib
from collections.abc import Iterator

import jax

IN_SUBPROCESSES = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # does the same there


@contextlib.contextmanager
def few_optimizations() -> Iterator[None]:
    """XLA leaves out most optimizations, which would take longer than they save."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
