"""The whole network against the PyTorch original, at its full size and at a small one: one frame, several objects.

The objects of a batch differ: in their prompts, and in whether the network finds them.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict, unflatten_dict

from edgetam_jax.model import Model
from edgetam_jax.nn.mask_decoder import stability
from edgetam_jax.types import ImageFeatures, Label, Memory, PromptInputs, Sighting
from tests.parity.pairs import Pair, channels_first, channels_last
from tests.parity.test_components import normal, original_memory_attention
from tests.tolerances import IOU_ATOL, MASK_LOGITS_ATOL, MEMORY_ATOL, POINTER_ATOL, SCORE_ATOL, assert_close

OBJECTS = 4


class Scene(NamedTuple):
    """A frame in both networks' hands, without memory mixed in."""

    pair: Pair
    features: ImageFeatures
    original: list[torch.Tensor]  # stride 4, stride 8, embedding

    @property
    def size(self) -> int:
        return self.pair.model.config.image_size

    def run(self, method: str, *args: Any) -> Any:
        return self.pair.run(method, *args)


def picture(size: int) -> np.ndarray:
    """Normalised pixels with structure at all scales: large blobs, edges, and grain."""
    rng = np.random.default_rng(0)
    image = sum(
        np.kron(rng.normal(size=(size // cell, size // cell, 3)), np.ones((cell, cell, 1))) for cell in (size // 4, 16, 1)
    )
    return (image / 3**0.5).astype(np.float32)[None]


@pytest.fixture(scope="module", params=["tiny", "full"])
def scene(request: pytest.FixtureRequest) -> Scene:
    pair: Pair = request.getfixturevalue(f"{request.param}_pair")
    pixels = picture(pair.model.config.image_size)
    original = pair.torch.forward_image(channels_first(pixels))["backbone_fpn"]
    return Scene(pair, pair.run("encode_image", pixels), original)


def test_image_features(scene: Scene) -> None:
    names = "stride4", "stride8", "embedding"
    got = scene.features.stride4, scene.features.stride8, scene.features.embedding
    for name, g, w in zip(names, got, scene.original, strict=True):
        assert_close(name, g, channels_last(w), both_signs=True)


class Clicks(NamedTuple):
    labels: tuple[int, ...]
    with_mask: bool = False


PROMPTS = {
    "no prompt": Clicks(()),
    "one click": Clicks((Label.POSITIVE,)),
    "one negative click": Clicks((Label.NEGATIVE,)),
    "three clicks": Clicks((Label.POSITIVE, Label.NEGATIVE, Label.POSITIVE)),
    "box": Clicks((Label.BOX_START, Label.BOX_END)),
    "box and click": Clicks((Label.BOX_START, Label.BOX_END, Label.NEGATIVE)),
    "mask": Clicks((), with_mask=True),
    "click and mask": Clicks((Label.POSITIVE,), with_mask=True),
}


@pytest.fixture(scope="module")
def embedding(scene: Scene) -> np.ndarray:
    """One a object, as memory would make it."""
    clean = np.asarray(scene.features.embedding)
    return clean + 0.5 * normal(1, OBJECTS, *clean.shape[1:])


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kind", PROMPTS)
def test_prompts(scene: Scene, embedding: np.ndarray, kind: str, multimask: bool) -> None:
    labels, with_mask = PROMPTS[kind]
    rng = np.random.default_rng(list(PROMPTS).index(kind))
    points = rng.uniform(0, scene.size, (OBJECTS, len(labels), 2)).astype(np.float32)
    labels = np.tile(np.array(labels, np.int32), (OBJECTS, 1))
    mask = 10 * rng.normal(size=(OBJECTS, scene.size // 4, scene.size // 4)).astype(np.float32)
    clicks = {"point_coords": torch.from_numpy(points), "point_labels": torch.from_numpy(labels)}

    def ask() -> tuple[torch.Tensor, ...]:
        return scene.pair.torch._forward_sam_heads(
            backbone_features=channels_first(embedding),
            point_inputs=clicks if labels.size else None,
            mask_inputs=torch.from_numpy(mask)[:, None] if with_mask else None,
            high_res_features=[x.expand(OBJECTS, -1, -1, -1) for x in scene.original[:2]],
            multimask_output=multimask,
        )

    with half_present(scene.pair, ask()[6]) as pair:
        _, _, ious, low_res, _, pointer, score = ask()
        closing = 1 if labels.size else 2  # tokens that the original adds; the rest fills one shape for all kinds
        fill = [Label.NOT_A_POINT] * closing + [Label.ABSENT] * (5 - closing - labels.shape[1])
        prompt = PromptInputs(
            points=np.pad(points, ((0, 0), (0, len(fill)), (0, 0)), constant_values=7.0),
            labels=np.concatenate([labels, np.tile(fill, (OBJECTS, 1))], 1),
            mask=mask,
            has_mask=np.full(OBJECTS, with_mask),
        )
        features = scene.features._replace(embedding=embedding)
        got: Sighting = pair.run("find", features, prompt, np.asarray(multimask))
    assert 0 < int((score > 0).sum()) < OBJECTS
    assert_close("logits", got.logits, low_res[:, 0], atol=MASK_LOGITS_ATOL)
    assert_close("iou", got.iou, ious.max(-1).values, atol=IOU_ATOL)
    assert_close("score", got.score, score[:, 0], atol=SCORE_ATOL)
    assert_close("pointer", got.pointer, pointer, atol=POINTER_ATOL)


@contextlib.contextmanager
def half_present(pair: Pair, scores: torch.Tensor) -> Iterator[Pair]:
    """Shifts both networks' object scores so that half of `scores` come out above zero."""
    layer = pair.torch.sam_mask_decoder.pred_obj_score_head.layers[-1]
    bias = layer.bias.clone()
    layer.bias.sub_(scores.sort(0).values[OBJECTS // 2 - 1 : OBJECTS // 2 + 1].mean())
    params = flatten_dict(pair.model.params)
    params["sam_mask_decoder", "pred_obj_score_head", "layers_2", "bias"] = layer.bias.numpy().copy()
    yield Pair(pair.torch, Model(unflatten_dict(params), pair.model.config))
    layer.bias.copy_(bias)


def test_first_masks_are_stable_and_unstable(scene: Scene, embedding: np.ndarray) -> None:
    """Else the cases above would see one side of the fallback to the alternatives."""
    rng = np.random.default_rng(1)
    prompt = PromptInputs(
        points=rng.uniform(0, scene.size, (8, OBJECTS, 5, 2)).astype(np.float32),
        labels=np.tile(np.array([1, 0, 1, -1, -2]), (8, OBJECTS, 1)),
        mask=np.zeros((OBJECTS, scene.size // 4, scene.size // 4), np.float32),
        has_mask=np.zeros((8, OBJECTS), bool),
    )
    features = scene.features._replace(embedding=np.broadcast_to(embedding, (8, *embedding.shape)))
    logits = scene.run("segment", features, prompt).logits
    config = scene.pair.model.config.decoder
    unstable = stability(logits[..., 0, :, :], config.stability_delta) < config.stability_threshold
    assert 0 < float(unstable.mean()) < 1


def test_given_mask(scene: Scene) -> None:
    """Masks that are disks, a half plane, and nothing."""
    size = scene.size
    y, x = np.mgrid[:size, :size] / size
    masks = np.stack([(x - c) ** 2 + (y - 0.4) ** 2 < 0.05 for c in (0.2, 0.5)] + [x > 0.6, x > 2]).astype(np.float32)
    stride4, stride8, embedding = (t.expand(OBJECTS, -1, -1, -1) for t in scene.original)
    want = scene.pair.torch._use_mask_as_output(embedding, [stride4, stride8], torch.from_numpy(masks)[:, None])
    got: Sighting = scene.run("accept", scene.features, masks)
    _, _, ious, low_res, _, pointer, score = want
    assert_close("logits", got.logits, low_res[:, 0], atol=MASK_LOGITS_ATOL, both_signs=True)
    np.testing.assert_array_equal(got.iou, ious[:, 0])
    np.testing.assert_array_equal(got.score, score[:, 0])
    assert_close("pointer", got.pointer, pointer, atol=POINTER_ATOL)
    np.testing.assert_array_equal(got.pointer[-1], scene.pair.torch.no_obj_ptr[0])


@pytest.mark.parametrize("from_prompt", [True, False])
def test_memory(scene: Scene, from_prompt: bool) -> None:
    """Mask to memory tokens, one of the objects being absent."""
    config, model = scene.pair.model.config, scene.pair.torch
    logits = np.kron(10 * normal(2, 2, config.embedding_size, config.embedding_size), np.ones((4, 4))).astype(np.float32)
    logits[1] = -1024
    large = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[:, None], size=(scene.size, scene.size), mode="bilinear", align_corners=False
    )
    size = config.embedding_size
    embedding = scene.original[2].expand(2, -1, -1, -1)
    want, position = model._encode_new_memory(
        current_vision_feats=[embedding.flatten(2).permute(2, 0, 1)],
        feat_sizes=[(size, size)],
        pred_masks_high_res=large,
        object_score_logits=torch.ones(2, 1),
        is_mask_from_pts=from_prompt,
    )
    got = scene.run("encode_memory", scene.features.embedding, logits, np.asarray(from_prompt))
    assert_close("tokens", got, want, atol=MEMORY_ATOL, both_signs=True)


@pytest.mark.parametrize("frames", [1, 7])
def test_remembering(scene: Scene, frames: int) -> None:
    """A frame seen through memory, from one frame and its pointer to a full bank."""
    config = scene.pair.model.config
    pointers = 1 if frames == 1 else config.pointers
    memory = Memory(
        frames=normal(3, 1, config.memory_frames, config.perceiver.tokens, config.memory_dim),
        rows=np.arange(config.memory_frames)[::-1].copy()[None],
        frames_valid=np.arange(config.memory_frames)[None] < frames,
        pointers=normal(4, 1, config.pointers, config.hidden_dim),
        pointers_valid=np.arange(config.pointers)[None] < pointers,
    )
    want = original_memory_attention(
        scene.pair.torch, config, np.asarray(scene.features.embedding), memory, frames, pointers
    )
    looked = scene.run("look", scene.features.embedding)
    got = scene.run("with_memory", looked, memory)
    assert_close("embedding", got.reshape(want.shape), want, both_signs=True)
    assert_close("look", scene.run("look", scene.features.embedding), np.asarray(looked))


def test_empty_slots_change_nothing(scene: Scene) -> None:
    """Not garbage, not NaN: a slot that is not valid is not seen."""
    config = scene.pair.model.config
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
    looked = scene.run("look", scene.features.embedding[0])
    clean, dirty = (scene.run("with_memory", looked, jax.tree.map(jnp.asarray, m)) for m in (memory, garbage))
    np.testing.assert_array_equal(clean, dirty)


def test_padded_points_change_nothing(scene: Scene) -> None:
    rng = np.random.default_rng(7)
    config = scene.pair.model.config
    points = rng.uniform(0, scene.size, (1, 5, 2)).astype(np.float32)
    labels = np.array([[1, -1, -2, -2, -2]])
    mask = np.zeros((1, config.mask_size, config.mask_size), np.float32)
    padded = PromptInputs(points, labels, mask, np.zeros(1, bool))
    short = PromptInputs(points[:, :2], labels[:, :2], mask, np.zeros(1, bool))
    garbage = padded._replace(points=np.where((labels == Label.ABSENT)[..., None], 1e6, points))
    outputs = [scene.run("segment", scene.features, prompt) for prompt in (short, padded, garbage)]
    for got, want in zip(outputs[1], outputs[0], strict=True):
        assert_close("padded", got, want)
    for got, want in zip(outputs[2], outputs[1], strict=True):
        np.testing.assert_array_equal(got, want)
