"""Configurations: derived sizes, refused values, the way to JSON and back, and reading by type hints."""

import dataclasses
import json
from typing import Any, Literal

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_jax.config import (
    EDGETAM,
    EDGETAM_512,
    EDGETAM_768,
    Config,
    PerceiverConfig,
    TrunkConfig,
    dataclass_from_dict,
)
from edgetam_jax.errors import ConfigError, EdgeTAMError
from edgetam_jax.model import param_shapes
from tests.support.checkpoints import SMALL
from tests.support.oracle import TINY
from tests.support.shapes import examples


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
    ("values", "message"),
    [
        ({"image_sise": 512}, "image_sise"),
        ({"decoder": {"head": 8}}, "configuration.decoder: unknown keys"),
        ({"decoder": 8}, "expected a mapping"),
        ({"image_size": "512"}, "expected int"),
        ({"image_size": True}, "expected int"),
        ({"image_size": 512.5}, "expected int"),
        ({"trunk": {"widths": [1, 2, 3]}}, "expected 4 numbers"),
        ({"trunk": {"widths": 48}}, "expected 4 numbers"),
        ({"trunk": {"widths": [1, 2, 3, 4.5]}}, r"configuration\.trunk\.widths: expected int, got 4\.5"),
    ],
)
def test_bad_values_are_named(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.from_dict(values)


@dataclasses.dataclass(frozen=True)
class Inner:
    weight: float = 1.0
    size: int = 2


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    kind: Literal["a", "b"] = "a"
    split: "str | None" = None
    count: int | None = 3
    inner: Inner = Inner(weight=0.5)
    made: Inner = dataclasses.field(default_factory=lambda: Inner(size=7))
    pair: tuple[float, int] = (0.0, 0)
    items: tuple[tuple[str, float], ...] = ()
    on: bool = False


def test_dataclasses_are_read_by_their_type_hints() -> None:
    """Not by their defaults; nested ones keep what the default of the field has."""
    values = {"name": "x", "split": "valid", "count": None, "inner": {"size": 4}, "made": {"weight": 3}}
    values |= {"pair": [1, 2], "items": {"z": 1, "a": 0.5}, "kind": "b", "on": True}
    want = Outer("x", "b", "valid", None, Inner(0.5, 4), Inner(3, 7), (1, 2), (("z", 1), ("a", 0.5)), True)
    assert dataclass_from_dict(Outer, values, "it") == want
    assert dataclass_from_dict(Outer, {}, "it", name="y") == Outer("y")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": 3}, r"it\.split: expected str, got 3"),
        ({"count": "3"}, r"it\.count: expected int, got '3'"),
        ({"kind": "c"}, r"it\.kind is 'c'; expected one of \('a', 'b'\)"),
        ({"kind": ["a"]}, r"it\.kind is \['a'\]; expected one of"),
        ({"pair": [1, 2.5]}, r"it\.pair: expected int, got 2\.5"),
        ({"pair": [1, True]}, r"it\.pair: expected 2 numbers, got \[1, True\]"),
        ({"items": {"z": "much"}}, r"it\.items\.z: expected float, got 'much'"),
        ({"items": [["z", 1]]}, r"it\.items: expected a mapping"),
        ({"made": {"size": 1.0}}, r"it\.made\.size: expected int, got 1\.0"),
        ({"on": 1}, r"it\.on: expected bool, got 1"),
    ],
)
def test_values_of_other_types_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclass_from_dict(Outer, values, "it", name="x")


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


@examples(30)
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
