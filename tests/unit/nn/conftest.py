from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def no_rank_promotion() -> Iterator[None]:
    """Arrays of different ranks are only combined where the code says so."""
    jax.config.update("jax_numpy_rank_promotion", "raise")
    yield
    jax.config.update("jax_numpy_rank_promotion", "allow")
