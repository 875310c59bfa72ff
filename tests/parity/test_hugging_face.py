"""The whole network against the Hugging Face port, with the weights that our converter makes for it.

What the port does with a given mask is left out: there it differs from the original, which we follow.
"""

import pytest

from edgetam_jax.config import EDGETAM_512
from edgetam_jax.model import Model
from tests.parity import cases
from tests.parity.cases import Scene
from tests.parity.networks import Ours
from tests.parity.pairs import Pair
from tests.parity.references import HuggingFace


@pytest.fixture(scope="module")
def scene(full_pair: Pair) -> Scene:
    model = Model(full_pair.model.params, EDGETAM_512)
    return cases.make_scene(Ours(model), HuggingFace(model))


def test_image_features(scene: Scene) -> None:
    for comparison in cases.image_features(scene):
        comparison.check()


def test_prompt_encoding(scene: Scene) -> None:
    for comparison in cases.prompt_encoding(scene):
        comparison.check()


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kind", ["no prompt", "one click", "three clicks", "box", "click and mask"])
def test_prompts(scene: Scene, kind: str, multimask: bool) -> None:
    for comparison in cases.prompts(scene, kind, multimask):
        comparison.check()


@pytest.mark.parametrize("from_prompt", [True, False])
def test_memory(scene: Scene, from_prompt: bool) -> None:
    for comparison in cases.memory(scene, from_prompt):
        comparison.check()


@pytest.mark.parametrize("frames", [1, 4, 7])
def test_remembering(scene: Scene, frames: int) -> None:
    for comparison in cases.remembering(scene, frames, objects=2):
        comparison.check()


def test_two_frames_at_the_full_size(full_pair: Pair) -> None:
    model = full_pair.model
    scene = cases.make_scene(Ours(model), HuggingFace(model))
    for comparison in [*cases.image_features(scene), *cases.two_frames(scene)]:
        comparison.check()
