"""Convolutions on blocks of columns against plain ones, and both forms of the stem."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_jax.nn import kernels
from edgetam_jax.nn.repvit import BLOCKS, CPU_BLOCKS, Stem, wide_stem
from edgetam_jax.nn.wide import wide_conv, widen
from tests.parity.pairs import normal
from tests.support.tolerances import COMPONENT_RTOL
from tests.unit.nn.plain import batches, channels, close, fast, plain_conv


@fast
@given(batches, st.sampled_from((1, 2, 4, 8)), channels, channels, st.integers(1, 3), st.integers(1, 4))
def test_wide_conv(lead: tuple, block: int, inputs: int, features: int, blocks: int, rows: int) -> None:
    width = 2 * blocks if block == 1 else block * blocks
    x, kernel, bias = normal(0, *lead, 2 * rows, width, inputs), normal(1, 3, 3, inputs, features), normal(2, features)
    wide = jnp.asarray(x).reshape(*lead, 2 * rows, width // block, block * inputs)
    got = wide_conv(wide, widen(jnp.asarray(kernel), jnp.asarray(bias), block))
    close(got.reshape(*lead, rows, width // 2, features), np.asarray(plain_conv(x, kernel, stride=2)) + bias)


@pytest.fixture(scope="module")
def stem() -> tuple[Stem, Any]:
    module = Stem(16)
    params = jax.tree.map(lambda x: 0.1 + 0.2 * jnp.abs(jnp.asarray(normal(x.size, *x.shape))), stem_shapes(module))
    return module, params


def stem_shapes(module: Stem) -> Any:
    return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((16, 16, 3)))["params"]


@pytest.mark.parametrize("lead", [(), (2,)], ids=str)
def test_both_forms_of_the_stem(stem: tuple[Stem, Any], lead: tuple) -> None:
    """The form of each platform, whichever runs here, and their gradients."""
    (module, params), x = stem, jnp.asarray(normal(0, *lead, 32, 48, 3))

    def plain(params: Any, x: jax.Array) -> jax.Array:
        def call(stem: Stem, x: jax.Array) -> jax.Array:
            for layer in (stem.conv1, stem.conv2):
                kernel, bias = layer.folded()
                x = plain_conv(x, kernel, stride=2) + bias.reshape((1,) * (x.ndim - 1) + (-1,))
                x = kernels.gelu(x) if layer is stem.conv1 else x
            return x

        apply: Any = module.apply
        return apply({"params": params}, x, method=call)

    def form(blocks: tuple[int, int]) -> Callable:
        def call(stem: Stem, x: jax.Array) -> jax.Array:
            return wide_stem(x, stem._widened(*blocks), blocks)

        return lambda params, x: module.apply({"params": params}, x, method=call)

    def gradients(function: Callable) -> Any:
        return jax.grad(lambda *args: (weight * function(*args)).sum(), (0, 1))(params, x)

    want = plain(params, x)
    weight = normal(1, *want.shape)
    wanted = gradients(plain)
    for blocks in (CPU_BLOCKS, BLOCKS):
        close(form(blocks)(params, x), want)
        for got, grad in zip(jax.tree.leaves(gradients(form(blocks))), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(
                got, grad, rtol=0, atol=COMPONENT_RTOL * max(np.abs(grad).max(), weight.size**0.5)
            )


@pytest.mark.parametrize(("platform", "blocks"), [("cpu", CPU_BLOCKS), ("cuda", BLOCKS), ("tpu", BLOCKS)])
def test_the_platform_chooses_the_form_of_the_stem(platform: str, blocks: tuple[int, int], stem: Any) -> None:
    module, params = stem
    x = jax.ShapeDtypeStruct((32, 32, 3), jnp.float32)
    traced = jax.jit(module.apply).trace({"params": params}, x)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert f"tensor<1x32x{32 // blocks[0]}x{3 * blocks[0]}xf32>" in text
    assert text.count("stablehlo.convolution") == 2
