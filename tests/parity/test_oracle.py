"""The reference itself: complete, alive, and mended only where it has to be."""

from typing import Any

import numpy as np
import pytest
import torch

from edgetam_jax.config import EDGETAM_512
from tests.support import oracle
from tests.support.tolerances import assert_close, assert_telling

PROMPTS = 24


@pytest.fixture(scope="module")
def head_outputs(tiny_original: Any) -> tuple[torch.Tensor, ...]:
    """The mask head's seven outputs, one image and many prompts, with a single mask each."""
    return _heads(tiny_original, multimask=False)


def _heads(model: Any, multimask: bool) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(1)
    image = torch.randn(1, 3, model.image_size, model.image_size, generator=random)
    stride4, stride8, embedding = (x.expand(PROMPTS, -1, -1, -1) for x in model.forward_image(image)["backbone_fpn"])
    points = {
        "point_coords": torch.rand(PROMPTS, 2, 2, generator=random) * model.image_size,
        "point_labels": torch.randint(0, 4, (PROMPTS, 2), generator=random, dtype=torch.int32),
    }
    return model._forward_sam_heads(embedding, points, None, [stride4, stride8], multimask)


def test_the_full_original_has_every_tensor(full_original: Any) -> None:
    assert len(full_original.state_dict()) == 982
    assert sum(p.numel() for p in full_original.parameters()) == 13_895_794


def test_every_tensor_is_random(tiny_original: Any) -> None:
    for name, tensor in oracle.numpy_state_dict(tiny_original).items():
        if tensor.size > 1:
            assert_telling(name, tensor)
            assert np.unique(tensor).size > 0.9 * tensor.size, name


def test_weights_follow_the_seed(tiny_original: Any) -> None:
    same, other = (oracle.randomize(oracle.build_original(oracle.TINY), seed) for seed in (0, 1))
    want = tiny_original.state_dict()
    assert all(torch.equal(tensor, want[name]) for name, tensor in same.state_dict().items())
    assert not torch.equal(other.no_mem_embed, want["no_mem_embed"])


def test_objects_are_present_and_absent(head_outputs: tuple[torch.Tensor, ...]) -> None:
    masks, scores = head_outputs[0], head_outputs[6].flatten()
    present = scores > 0
    assert 4 <= int(present.sum()) <= PROMPTS - 4
    assert_telling("masks", masks[present], both_signs=True)
    assert 10 < float(masks[present].abs().max()) < 100


def test_single_masks_are_kept_and_replaced(tiny_original: Any, head_outputs: tuple[torch.Tensor, ...]) -> None:
    single, several = head_outputs[2], _heads(tiny_original, multimask=True)[2]
    replaced = (single == several.max(-1, keepdim=True).values).sum()
    assert 3 <= int(replaced) <= PROMPTS - 3
    assert len(set(several.argmax(-1).tolist())) > 1


def test_the_perceiver_takes_several_objects(tiny_original: Any) -> None:
    perceiver, size = tiny_original.spatial_perceiver, oracle.TINY.embedding_size
    maps = torch.randn(3, oracle.TINY.memory_dim, size, size, generator=torch.Generator().manual_seed(2))
    position = tiny_original.memory_encoder.position_encoding(maps)
    together, _ = perceiver(maps, position)
    for n in range(3):
        alone, _ = perceiver(maps[n : n + 1], position[n : n + 1])
        assert_close(f"object {n}", together[n : n + 1], alone)


def test_the_port_has_every_tensor() -> None:
    assert len(oracle.build_hf(EDGETAM_512).state_dict()) == 984
