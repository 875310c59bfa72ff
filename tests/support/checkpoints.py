"""Checkpoints for tests: random parameters, and what files of each layout hold of them."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from edgetam_jax.checkpoints.mapping import tree_shapes
from edgetam_jax.config import Config, DecoderConfig, MemoryAttentionConfig, PerceiverConfig, TrunkConfig
from edgetam_jax.model import Model

# Hugging Face's library knows no other memory_dim than 64. Eight heads, for shapes do not tell how many there are.
SMALL = Config(
    image_size=128,
    hidden_dim=128,
    memory_dim=64,
    memory_frames=5,
    trunk=TrunkConfig(widths=(8, 16, 24, 40), depths=(1, 1, 3, 2)),
    decoder=DecoderConfig(layers=1, mlp_dim=72, iou_dim=48),
    memory_attention=MemoryAttentionConfig(layers=3, mlp_dim=56),
    perceiver=PerceiverConfig(layers=1, latents=12, window_grid=4),
)
SMALL_1024 = dataclasses.replace(SMALL, image_size=1024)


@functools.cache
def small_model(image_only: bool = False) -> Model:
    """Random in every tensor; do not change it in place."""
    return Model(params=random_params(SMALL, 0, image_only), config=SMALL)


def random_params(config: Config, seed: int, image_only: bool = False) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(leaf.dtype), tree_shapes(config, image_only))


def assert_same_model(got: Model, expected: Model) -> None:
    """A loaded model: bit by bit, and on the device."""
    assert got.config == expected.config
    assert_equal(got.params, expected.params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(got.params))


def assert_equal(got: Any, expected: Any) -> None:
    """Two trees, or dicts of tensors, bit by bit."""
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, got), jax.tree.map(np.asarray, expected))
    assert jax.tree.map(lambda a: str(a.dtype), got) == jax.tree.map(lambda a: str(a.dtype), expected)
