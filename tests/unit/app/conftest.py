from collections.abc import Iterator

import pytest

from edgetam_jax.app.app_state import AppState
from tests.support.visits import KEY, example, network


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> AppState:
    """All is compiled for clips of the scene's size."""
    studio = AppState(network(), tmp_path_factory.mktemp("app"), example)
    studio.make_ready()
    return studio


@pytest.fixture
def studio(ready: AppState) -> Iterator[AppState]:
    """With one visitor in it."""
    ready.visitors.enter(KEY)
    yield ready
    ready.visitors.close()
