"""The whole network against the PyTorch original, at its full size and at a small one: one frame, several objects."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgetam_jax.nn.mask_decoder import stability
from edgetam_jax.types import Label, Memory, PromptInputs
from tests.parity import cases
from tests.parity.cases import KINDS, OBJECTS, Scene, embeddings
from tests.parity.networks import Ours
from tests.parity.pairs import Pair, normal, run
from tests.parity.references import Original
from tests.support.tolerances import assert_close


@pytest.fixture(scope="module", params=["tiny", pytest.param("full", marks=pytest.mark.slow)])
def scene(request: pytest.FixtureRequest) -> Scene:
    pair: Pair = request.getfixturevalue(f"{request.param}_pair")
    return cases.make_scene(Ours(pair.model), Original(pair.torch, pair.model.config))


def test_image_features(scene: Scene) -> None:
    for comparison in cases.image_features(scene):
        comparison.check()


def test_prompt_encoding(scene: Scene) -> None:
    for comparison in cases.prompt_encoding(scene):
        comparison.check()


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_prompts(scene: Scene, kind: str, multimask: bool) -> None:
    for comparison in cases.prompts(scene, kind, multimask):
        comparison.check()


def test_first_masks_are_stable_and_unstable(scene: Scene) -> None:
    """Else the cases above would see one side of the fallback to the alternatives."""
    config, images = scene.config, 3
    rng = np.random.default_rng(1)
    prompt = PromptInputs(
        points=rng.uniform(0, config.image_size, (images, OBJECTS, 5, 2)).astype(np.float32),
        labels=np.tile(np.array([1, 0, 1, -1, -2]), (images, OBJECTS, 1)),
        mask=np.zeros((OBJECTS, config.mask_size, config.mask_size), np.float32),
        has_mask=np.zeros((images, OBJECTS), bool),
    )
    embedding = embeddings(scene)
    features = scene.got._replace(embedding=np.broadcast_to(embedding, (images, *embedding.shape)))
    logits = run(scene.ours.model, "segment", features, prompt).logits
    unstable = stability(logits[..., 0, :, :], config.decoder.stability_delta) < config.decoder.stability_threshold
    assert 0 < float(unstable.mean()) < 1


def test_given_mask(scene: Scene) -> None:
    for comparison in cases.given_mask(scene):
        comparison.check()
    got = scene.ours.use_mask_as_output(scene.got, cases.given_masks(scene.config.image_size))
    np.testing.assert_array_equal(got.iou, 1)
    np.testing.assert_array_equal(got.score, [10, 10, 10, -10])
    np.testing.assert_array_equal(got.pointer[-1], scene.ours.model.params["no_obj_ptr"][0])


@pytest.mark.parametrize("from_prompt", [True, False])
def test_memory(scene: Scene, from_prompt: bool) -> None:
    for comparison in cases.memory(scene, from_prompt):
        comparison.check()


@pytest.mark.parametrize("frames", [1, 7])
def test_remembering(scene: Scene, frames: int) -> None:
    for comparison in cases.remembering(scene, frames):
        comparison.check()


def test_two_frames(scene: Scene) -> None:
    for comparison in cases.two_frames(scene):
        comparison.check()


def test_empty_slots_change_nothing(scene: Scene) -> None:
    """Not garbage, not NaN: a slot that is not valid is not seen."""
    config = scene.config
    memory = Memory(
        frames=normal(5, config.memory_frames, config.perceiver.tokens, config.memory_dim),
        rows=np.arange(config.memory_frames),
        frames_valid=np.arange(config.memory_frames) % 2 == 0,
        pointers=normal(6, config.pointers, config.hidden_dim),
        pointers_valid=np.arange(config.pointers) % 3 == 0,
    )
    frames, pointers = memory.frames.copy(), memory.pointers.copy()
    frames[~memory.frames_valid] = np.nan
    pointers[~memory.pointers_valid] = 1e30
    garbage = memory._replace(frames=frames, pointers=pointers, rows=np.where(memory.frames_valid, memory.rows, 3))
    queries = run(scene.ours.model, "self_attend", scene.got.embedding[0])
    clean, dirty = (
        run(scene.ours.model, "condition_on_memory", queries, jax.tree.map(jnp.asarray, m)) for m in (memory, garbage)
    )
    np.testing.assert_array_equal(clean, dirty)


def test_padded_points_change_nothing(scene: Scene) -> None:
    """Scores are compared without their bias, which is chosen so that they are small: rounding was there before it."""
    rng = np.random.default_rng(7)
    config = scene.config
    points = rng.uniform(0, config.image_size, (4, 5, 2)).astype(np.float32)
    labels = np.tile([1, -1, -2, -2, -2], (4, 1))
    mask = np.zeros((4, config.mask_size, config.mask_size), np.float32)
    padded = PromptInputs(points, labels, mask, np.zeros(4, bool))
    short = PromptInputs(points[:, :2], labels[:, :2], mask, np.zeros(4, bool))
    garbage = padded._replace(points=np.where((labels == Label.ABSENT)[..., None], 1e6, points))
    outputs: list[Any] = [run(scene.ours.model, "segment", scene.got, prompt) for prompt in (short, padded, garbage)]
    short_of_bias, padded_of_bias = (out._replace(score=out.score - scene.ours.score_bias) for out in outputs[:2])
    for got, want in zip(padded_of_bias, short_of_bias, strict=True):
        assert_close("padded", got, want)
    for got, want in zip(outputs[2], outputs[1], strict=True):
        np.testing.assert_array_equal(got, want)
