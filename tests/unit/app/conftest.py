from collections.abc import Iterator

import pytest

from edgetam_jax.app.app_state import AppState
from tests.support.visits import KEY, example, network


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> AppState:
    """All programs are compiled for clips of the scene's size."""
    state = AppState(network(), tmp_path_factory.mktemp("app"), example)
    state.prepare()
    return state


@pytest.fixture
def state(ready: AppState) -> Iterator[AppState]:
    """With one session, `KEY`."""
    ready.sessions.start(KEY)
    yield ready
    ready.sessions.close()
