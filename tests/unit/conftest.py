from typing import Any

import pytest

from tests.checkpoints import SMALL


@pytest.fixture(scope="session")
def small_original() -> Any:
    """The PyTorch original in the `checkpoints.SMALL` configuration, every tensor random."""
    from tests import oracle

    return oracle.randomize(oracle.build_original(SMALL), seed=3)
