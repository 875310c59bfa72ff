"""Initial parameters: a simple trunk, and attention that matches positions and similar regions from the start."""

import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from edgetam_jax.checkpoints.mapping import flatten_params
from edgetam_jax.config import PerceiverConfig
from edgetam_jax.model import Params, init_params
from edgetam_jax.nn.edgetam import EdgeTAM
from edgetam_jax.nn.memory_attention import memory_keys
from edgetam_jax.training.init import DECODER_QK_GAIN, init_memory_from_images, initial_params
from edgetam_jax.types import Memory
from tests.support.scene import MINIMAL
from tests.unit.training.network import TINY, tiny_model

# With four cells a window.
CONFIG = dataclasses.replace(
    MINIMAL, image_size=128, hidden_dim=64, memory_dim=32, perceiver=PerceiverConfig(1, latents=4, window_grid=4)
)


@pytest.fixture(scope="module")
def both() -> tuple[Params, Params]:
    """The initial parameters, and those of `init_params`."""
    draw = jax.jit(lambda key: (initial_params(CONFIG, key), init_params(CONFIG, key)))
    return jax.device_get(draw(jax.random.key(0)))


def test_initial_parameters_that_are_not_random(both: tuple[Params, Params]) -> None:
    start, plain = map(flatten_params, both)
    changed = {name for name, x in plain.items() if not np.array_equal(x, start[name])}
    keys = {name for name in changed if name.endswith("k_proj/kernel")}
    assert len(keys) == 3  # in the one layer both ways, and once in the end
    for name in keys:
        assert "_image" in name or "_token" in name
        np.testing.assert_array_equal(start[name], start[name.replace("k_proj", "q_proj")])
        np.testing.assert_allclose(start[name], DECODER_QK_GAIN * plain[name], rtol=1e-6)
    closed = {name for name, x in start.items() if name.startswith("image_encoder/trunk") and not x.any()} & changed
    assert closed == {name for name in plain if re.search(r"(channel_mixer|ffn)/conv2/bn/scale$", name)} != set()
    rest = changed - keys - closed - {name.replace("k_proj", "q_proj") for name in keys}
    assert rest == {name for name in plain if name.endswith("/gamma")} != set()


def test_similar_regions_attend_to_each_other_in_memory(both: tuple[Params, Params]) -> None:
    """Without training: of the memory of a frame, each cell attends most to its own window."""
    start, deviation = both[0], 3.0
    looks = deviation * jax.random.normal(jax.random.key(1), (4, 4, CONFIG.hidden_dim))  # of the windows
    embedding = looks.repeat(2, 0).repeat(2, 1)

    def attended(model: EdgeTAM) -> Array:
        """The attention [N, L] of each cell to each token, found by the value that each token passes on."""
        tokens = model.encode_memory(embedding, jnp.zeros((CONFIG.mask_size, CONFIG.mask_size)), True)
        nothing = jnp.zeros((1, CONFIG.hidden_dim)), jnp.zeros(1, bool)
        memory = Memory(tokens[None], jnp.zeros(1, int), jnp.ones(1, bool), *nothing)
        keys = memory_keys(memory, jnp.zeros((CONFIG.memory_frames, CONFIG.memory_dim)), CONFIG)
        layer = model.memory_attention.layers[0]
        queries = model.memory_attention.self_attend(embedding).queries

        def weight(value: Array) -> Array:
            other_values = jnp.pad(value[16:], ((0, pointers), (0, 0)))
            marked = keys._replace(window_values=value[:16], other_values=other_values)
            return jnp.linalg.norm(layer.cross_attn_image(queries, marked), axis=-1)

        pointers = CONFIG.pointer_tokens
        values = jnp.eye(len(tokens))[..., None] * jnp.ones(CONFIG.memory_dim)
        weights = jnp.stack([weight(value) for value in values], -1)
        return weights / weights.sum(-1, keepdims=True)

    def found(params: Params) -> float:
        """The mean attention of a cell to its own window; window tokens come first."""
        shares = jax.jit(partial(EdgeTAM(CONFIG).apply, method=attended))({"params": params})
        own = np.arange(16).reshape(4, 4).repeat(2, 0).repeat(2, 1).ravel()
        return float(np.mean(shares[np.arange(64), own]))

    assert found(start) < 0.1
    assert found(init_memory_from_images(start, deviation)) > 0.8


def test_initial_memory_parameters() -> None:
    model = tiny_model()
    before, after = flatten_params(model.params), flatten_params(init_memory_from_images(model.params, 4.0))
    changed = {name for name, x in before.items() if not np.array_equal(x, after[name])}
    grown = {name for name in changed if np.allclose(after[name], 4 * before[name])}
    assert {"memory_attention/norm/scale", "memory_attention/layers_0/cross_attn_image/out_proj/kernel"} < grown
    assert all(name.startswith("memory_attention/") for name in grown)
    np.testing.assert_array_equal(after["memory_encoder/pix_feat_proj/kernel"][0, 0], np.eye(TINY.hidden_dim) / 4)
    perceiver = "spatial_perceiver/layers_0"
    closed = {f"{perceiver}/{name}/kernel" for name in ("self_attn/to_out", "ff_3", "self_ff_3")}
    assert not any(after[name].any() for name in closed)
    assert changed - grown - closed == {
        "memory_attention/layers_0/cross_attn_image/k_proj/kernel",
        "memory_attention/layers_0/cross_attn_image/q_proj/kernel",
        "memory_encoder/out_proj/kernel",
        "memory_encoder/pix_feat_proj/kernel",
        "spatial_perceiver/latents",
        "spatial_perceiver/latents_2d",
        f"{perceiver}/attn/to_kv/kernel",
        f"{perceiver}/attn/to_out/kernel",
    }
