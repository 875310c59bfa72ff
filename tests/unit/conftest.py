from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from tests.support.checkpoints import SMALL
from tests.support.compiling import few_optimizations

# Folders in whose tests arrays of different ranks are only combined where the code says so.
NO_RANK_PROMOTION = {Path(__file__).parent / name for name in ("images", "nn", "ops")}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Applies it around fixtures, too, whose programs would be compiled again for the tests otherwise."""
    with jax.numpy_rank_promotion("raise" if item.path.parent in NO_RANK_PROMOTION else "allow"):
        return (yield)


@pytest.fixture(autouse=True, scope="module")
def compiled_fast() -> Iterator[None]:
    """Programs run a few times only here, so that optimizing them would take most of the time. Other tests optimize.

    A module whose subject is what XLA makes of a program has a fixture of this name that does nothing.
    """
    with few_optimizations():
        yield


@pytest.fixture(scope="session")
def small_original() -> Any:
    """The PyTorch original in the `checkpoints.SMALL` configuration, every tensor random."""
    from tests.support import oracle

    return oracle.randomize(oracle.build_original(SMALL), seed=3)
