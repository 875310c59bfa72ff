import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before the first import of jax, torch and the Hub client. Tests run in several processes that share the cores, where
# the threads of PyTorch would busy-wait for each other. Subprocesses of tests inherit these variables.
ROOT = Path(__file__).parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import hypothesis
import jax
import pytest
from jaxtyping import install_import_hook

# Calls into these modules are checked against the shapes and types of their signatures. The modules of public classes
# and functions are left out: they take whatever NumPy can read, and check it themselves.
CHECKED = (
    "nn",
    *(f"ops.{module}" for module in ("boxes", "masks", "pixels", "resize", "rle", "tree")),
    *(f"tracking.{module}" for module in ("memory", "prompt_entries", "session_jit", "step")),
    *(f"images.{module}" for module in ("automask_jit", "crops", "segment")),
    *(
        f"training.{module}"
        for module in ("batch_norm", "distillation", "interaction", "losses", "optimizer", "rollout")
    ),
)
install_import_hook([f"edgetam_jax.{module}" for module in CHECKED], "beartype.beartype")

from edgetam_jax.config import EDGETAM

jax.config.update("jax_default_matmul_precision", "highest")

# The default profile runs the same examples each time. HYPOTHESIS_PROFILE=nightly searches for new ones.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=100, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

# Tracing makes millions of objects that stay; to look through them each time takes a fifth of the time that it takes.
gc.set_threshold(100_000, 50, 100)

MAPPINGS = 20_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Comparisons at the full size are slow."""
    for item in items:
        if "full_pair" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """What the imports left stays for good; to look through it takes the garbage collector half a second each time."""
    gc.collect()
    gc.freeze()


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

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del duration_secs, kwargs
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)
