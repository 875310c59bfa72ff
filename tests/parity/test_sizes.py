"""The same weights at other image sizes, against the PyTorch original built for that size."""

from typing import Any

import pytest

from edgetam_jax.config import EDGETAM_512, EDGETAM_768, Config
from edgetam_jax.model import Model
from tests.parity import cases
from tests.parity.cases import Scene
from tests.parity.networks import Ours
from tests.parity.pairs import Pair
from tests.parity.references import Original
from tests.support import oracle


@pytest.fixture(scope="module", params=[EDGETAM_512, EDGETAM_768], ids=["512", "768"])
def scene(request: pytest.FixtureRequest, full_pair: Pair) -> Scene:
    config: Config = request.param
    original: Any = oracle.build_original(config)
    original.load_state_dict(full_pair.torch.state_dict(), strict=True)
    return cases.make_scene(Ours(Model(full_pair.model.params, config)), Original(original, config))


def test_image_features(scene: Scene) -> None:
    for comparison in cases.image_features(scene):
        comparison.check()


def test_a_click(scene: Scene) -> None:
    for comparison in cases.prompts(scene, "one click", multimask=True):
        comparison.check()


def test_memory_attention(scene: Scene) -> None:
    for comparison in cases.remembering(scene, frames=7):
        comparison.check()
