"""Configurations: what follows from them, what they refuse, and that they survive being written down."""

import dataclasses
import json

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetam_jax.config import EDGETAM, EDGETAM_512, EDGETAM_768, Config, PerceiverConfig, TrunkConfig
from edgetam_jax.errors import ConfigError, EdgeTAMError
from edgetam_jax.model import param_shapes
from tests.support.checkpoints import SMALL
from tests.support.oracle import TINY


@pytest.mark.parametrize(
    ("config", "cells", "pixels"), [(EDGETAM, 64, 256), (EDGETAM_768, 48, 192), (EDGETAM_512, 32, 128)]
)
def test_sizes_follow_from_the_image(config: Config, cells: int, pixels: int) -> None:
    assert (config.embedding_size, config.mask_size) == (cells, pixels)
    assert (config.pointer_tokens, config.perceiver.tokens) == (4, 512)


def test_all_sizes_have_the_same_parameters() -> None:
    assert param_shapes(EDGETAM_512) == param_shapes(EDGETAM_768) == param_shapes(EDGETAM)


@pytest.mark.parametrize("config", [EDGETAM, EDGETAM_512, SMALL, TINY], ids=["1024", "512", "small", "tiny"])
def test_json_and_back(config: Config) -> None:
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert hash(Config.from_dict(config.to_dict())) == hash(config)


def test_what_is_left_out_is_the_default() -> None:
    assert Config.from_dict({}) == EDGETAM
    assert Config.from_dict({"trunk": {"depths": [1, 1, 1, 1]}}).trunk == TrunkConfig(depths=(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"image_sise": 512}, "image_sise"),
        ({"decoder": {"head": 8}}, "configuration.decoder: unknown keys"),
        ({"decoder": 8}, "expected a mapping"),
        ({"image_size": "512"}, "expected int"),
        ({"image_size": True}, "expected int"),
        ({"image_size": 512.5}, "expected int"),
        ({"trunk": {"widths": [1, 2, 3]}}, "expected 4 numbers"),
        ({"trunk": {"widths": 48}}, "expected 4 numbers"),
    ],
)
def test_bad_values_are_named(values: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Config.from_dict(values)


@pytest.mark.parametrize("size", [0, -512, 100, 544, 1000, 1040])
def test_image_sizes_that_do_not_divide(size: int) -> None:
    with pytest.raises(ConfigError, match=r"multiple.*Try 512"):
        Config(image_size=size)


@pytest.mark.parametrize(
    "widths", [{"hidden_dim": 100}, {"memory_dim": 60}, {"memory_dim": 96}, {"hidden_dim": 64, "memory_dim": 2}]
)
def test_widths_that_do_not_divide(widths: dict[str, int]) -> None:
    with pytest.raises(EdgeTAMError, match="hidden_dim"):
        Config(**widths)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2100) | st.integers(1, 66).map(lambda n: 32 * n), st.integers(1, 20))
def test_a_size_is_either_refused_or_works(size: int, grid: int) -> None:
    try:
        config = Config(image_size=size, perceiver=PerceiverConfig(window_grid=grid))
    except ConfigError:
        assert size % 32 or (size // 16) % grid
        return
    assert config.embedding_size * 16 == size
    assert config.embedding_size % grid == 0


def test_it_is_static() -> None:
    """Frozen and hashable, so that it can be an argument of `jax.jit` that is not traced."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        EDGETAM.image_size = 512  # pyright: ignore[reportAttributeAccessIssue]
    assert jax.jit(lambda config: config.image_size, static_argnums=0)(EDGETAM) == 1024
