from collections.abc import Iterator
from typing import Any

import jax
import pytest

from tests.checkpoints import SMALL


@pytest.fixture(scope="session")
def small_original() -> Any:
    """The PyTorch original in the `checkpoints.SMALL` configuration, every tensor random."""
    from tests import oracle

    return oracle.randomize(oracle.build_original(SMALL), seed=3)


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
