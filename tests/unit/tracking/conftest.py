import jax
import jax.numpy as jnp
import pytest

from edgetam_jax import Model, Prompts, Tracks, track
from tests.parity.pairs import minimal_model
from tests.support.scene import BOX, CLICK, LATER, clip, places


@pytest.fixture(scope="session")
def model() -> Model:
    """Random in every tensor; objects are found on most frames and lost on some, see `test_the_tracks_are_telling`."""
    return minimal_model(score_bias=2.45)


@pytest.fixture(scope="session")
def frames() -> jax.Array:
    return jnp.asarray(clip(0))


@pytest.fixture(scope="session")
def prompts() -> Prompts:
    return places(LATER)


@pytest.fixture(scope="session")
def first(prompts: Prompts) -> Prompts:
    """On the first frame only, where those who watch frames come know as much as those who have them all."""
    return places([CLICK, BOX])


@pytest.fixture(scope="session")
def tracks(frames: jax.Array, prompts: Prompts, model: Model) -> Tracks:
    return track(frames, prompts, model)
