from typing import Any

import jax
import jax.numpy as jnp
import pytest

from edgetam_jax.model import Model
from tests.parity.pairs import make_pair
from tests.support.oracle import TINY


@pytest.fixture(scope="session")
def model(tiny_original: Any) -> Model:
    """Random in every tensor."""
    return jax.tree.map(jnp.asarray, make_pair(tiny_original, TINY).model)
