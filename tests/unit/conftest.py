from collections.abc import Iterator
from typing import Any

import jax
import pytest

from tests.support.checkpoints import SMALL


@pytest.fixture(autouse=True, scope="module")
def compiled_fast() -> Iterator[None]:
    """Programs run a few times only here: to optimize them would take most of the time. Other tests run what users run.

    A module whose subject is what XLA makes of a program has a fixture of this name that does nothing.
    """
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def small_original() -> Any:
    """The PyTorch original in the `checkpoints.SMALL` configuration, every tensor random."""
    from tests.support import oracle

    return oracle.randomize(oracle.build_original(SMALL), seed=3)
