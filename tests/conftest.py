import os
from collections.abc import Iterator
from typing import Any

# Before the first import of jax and of the hub's client.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
import pytest

from edgetam_jax.config import EDGETAM

jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(scope="session")
def tiny_original() -> Any:
    """The PyTorch original in the `oracle.TINY` configuration, every tensor random."""
    from tests import oracle

    return oracle.randomize(oracle.build_original(oracle.TINY), seed=0)


@pytest.fixture(scope="session")
def full_original() -> Any:
    """The PyTorch original at its full size, every tensor random."""
    from tests import oracle

    return oracle.randomize(oracle.build_original(EDGETAM), seed=0)


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """Grows by one with every program that XLA compiles."""
    seen: list[str] = []

    def listen(event: str, _: float, **__: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)
