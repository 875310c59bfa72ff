from typing import Any

import pytest

from edgetam_jax.config import EDGETAM
from tests.parity.pairs import Pair, make_pair
from tests.support.oracle import TINY


@pytest.fixture(scope="session")
def tiny_pair(tiny_original: Any) -> Pair:
    return make_pair(tiny_original, TINY)


@pytest.fixture(scope="session")
def full_pair(full_original: Any) -> Pair:
    return make_pair(full_original, EDGETAM)
