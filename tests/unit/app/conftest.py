from collections.abc import Iterator

import pytest

from edgetam_jax.app.app_state import Studio
from tests.support.visits import KEY, example, network


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """All is compiled for clips of the scene's size."""
    studio = Studio(network(), tmp_path_factory.mktemp("app"), example)
    studio.make_ready()
    return studio


@pytest.fixture
def studio(ready: Studio) -> Iterator[Studio]:
    """With one visitor in it."""
    ready.visitors.enter(KEY)
    yield ready
    ready.visitors.close()
