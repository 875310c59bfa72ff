"""`Model` as a pytree, and fresh parameters."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from edgetam_jax.config import EDGETAM, MemoryAttentionConfig, MemoryEncoderConfig
from edgetam_jax.errors import CheckpointError, ConfigError
from edgetam_jax.model import Model, init_params, param_shapes
from tests.support.checkpoints import SMALL, small_model

# As few parameters as possible, for compiling their initialisation takes long.
FEW = dataclasses.replace(
    SMALL,
    trunk=dataclasses.replace(SMALL.trunk, depths=(1, 1, 1, 1)),
    memory_attention=MemoryAttentionConfig(layers=1),
    memory_encoder=MemoryEncoderConfig(fuser_layers=1),
)
init = jax.jit(init_params, static_argnums=0)


@pytest.fixture(scope="module")
def fresh() -> Model:
    return Model(init(FEW, jax.random.key(0)), FEW)


def test_parameters_are_leaves_and_the_configuration_is_static() -> None:
    model = small_model()
    leaves, structure = jax.tree.flatten(model)
    assert len(leaves) == len(flatten_dict(model.params))
    assert jax.tree.unflatten(structure, leaves).config is SMALL
    doubled = jax.jit(lambda m: jax.tree.map(lambda x: 2 * x, m))(model)
    assert isinstance(doubled, Model)
    np.testing.assert_array_equal(doubled.params["no_mem_embed"], 2 * model.params["no_mem_embed"])


def test_the_full_network() -> None:
    """Nothing is computed for it; and the counts are the original's, without what no network needs."""
    shapes = jax.tree.leaves(param_shapes(EDGETAM))
    assert len(shapes) == 875
    statistics = 46_992 + 256  # BatchNorm's means and variances, and the Gaussian of the position encoding
    assert sum(leaf.size for leaf in shapes) == 13_895_794 - 256 + statistics  # the unused no_mem_pos_enc


def test_init_follows_the_key(fresh: Model) -> None:
    again, other = (init(FEW, jax.random.key(seed)) for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, again, fresh.params)
    assert not np.array_equal(other["no_mem_embed"], fresh.params["no_mem_embed"])
    assert jax.tree.map(lambda x: (x.shape, x.dtype), fresh.params) == jax.tree.map(
        lambda x: (x.shape, x.dtype), param_shapes(FEW)
    )


def test_a_fresh_network_runs(fresh: Model) -> None:
    pixels = jnp.ones((2, FEW.image_size, FEW.image_size, 3))
    features = jax.jit(lambda m, x: m.encode_image(x))(fresh, pixels)
    size, dim = FEW.embedding_size, FEW.hidden_dim
    assert features.embedding.shape == (2, size, size, dim)
    assert features.stride8.shape == (2, 2 * size, 2 * size, dim // 4)
    assert features.stride4.shape == (2, 4 * size, 4 * size, dim // 8)
    assert all(bool(jnp.isfinite(x).all()) for x in features)


def test_a_model_for_still_images_says_so() -> None:
    small_model().check_for_video()
    with pytest.raises(CheckpointError, match="still images only"):
        small_model(image_only=True).check_for_video()


@pytest.mark.slow
def test_importing_leaves_torch_alone() -> None:
    code = "import sys, edgetam_jax; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_astype_casts_both_ways() -> None:
    model = small_model()
    assert model.astype("float32") is model
    half = model.astype("bfloat16")
    assert half.astype("bfloat16") is half
    assert half.params["no_mem_embed"].dtype == jnp.bfloat16
    back = half.astype("float32")
    assert {x.dtype for x in jax.tree.leaves(back.params)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(back.params["no_mem_embed"], half.params["no_mem_embed"].astype(np.float32))


def test_astype_refuses_other_types() -> None:
    with pytest.raises(ConfigError, match='dtype is \'float16\'; expected "float32" or "bfloat16"'):
        small_model().astype("float16")
