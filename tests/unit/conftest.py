from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.checkpoints import SMALL
from tests.support.compiling import few_optimizations


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
