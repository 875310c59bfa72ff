import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before the first import of jax, torch and the hub's client. Processes that test side by side share the cores: threads
# of PyTorch would spin there, waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
import pytest
from jaxtyping import install_import_hook

CHECKED = tuple(f"edgetam_jax.{room}" for room in ("nn", "ops", "tracking", "images", "training"))
if os.environ.get("CHECKS"):  # shapes and types of all calls, as their signatures say
    install_import_hook(CHECKED, "beartype.beartype")
    jax.config.update("jax_numpy_rank_promotion", "raise")

from edgetam_jax.config import EDGETAM

jax.config.update("jax_default_matmul_precision", "highest")

MAPPINGS = 20_000


@pytest.fixture(autouse=True, scope="module")
def forget_programs() -> Iterator[None]:
    """Compiled programs go when there are many.

    Each takes about twenty of the 65,530 memory mappings that Linux grants a process, which crashes without any left.
    """
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > MAPPINGS:
        jax.clear_caches()


@pytest.fixture(scope="session")
def tiny_original() -> Any:
    """The PyTorch original in the `oracle.TINY` configuration, every tensor random."""
    from tests.support import oracle

    return oracle.randomize(oracle.build_original(oracle.TINY), seed=0)


@pytest.fixture(scope="session")
def full_original() -> Any:
    """The PyTorch original at its full size, every tensor random."""
    from tests.support import oracle

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
