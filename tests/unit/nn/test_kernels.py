"""Convolutions, norms and activations against plain ones, each in all of its forms."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jax import Array, lax

from edgetam_jax.nn import kernels
from edgetam_jax.nn.kernels import (
    conv,
    depthwise_conv,
    fusion_barrier,
    gelu,
    layer_norm,
    pack_kernel,
    packed_conv,
    relu,
)
from edgetam_jax.nn.layers import NORM_EPS
from edgetam_jax.nn.memory_encoder import ConvNeXtBlock
from edgetam_jax.nn.tiles import depth_to_space, space_to_depth
from tests.parity.pairs import normal
from tests.support.shapes import shapes
from tests.support.tolerances import COMPONENT_RTOL
from tests.unit.nn.plain import batches, channels, close, fast, plain_conv


def close_gradients(ours: Callable, plain: Callable, arguments: tuple, weight: np.ndarray) -> None:
    """The gradients of the weighted sum of the output with respect to every argument."""
    arguments, argnums = tuple(map(jnp.asarray, arguments)), tuple(range(len(arguments)))

    def gradients(function: Callable) -> tuple:
        return jax.grad(lambda *args: (weight * function(*args)).sum(), argnums)(*arguments)

    for got, want in zip(gradients(ours), gradients(plain), strict=True):
        # A tap's gradient is a sum over the image, in which much may cancel.
        np.testing.assert_allclose(got, want, rtol=0, atol=COMPONENT_RTOL * max(np.abs(want).max(), weight.size**0.5))


@fast
@given(
    shapes(
        [
            ((), 1, 1, 3, 5, 1),
            ((2,), 3, 1, 2, 7, 2),
            ((1, 3), 3, 2, 9, 4, 1),
            ((2,), 3, 2, 3, 8, 1),
            ((), 2, 2, 1, 6, 2),
        ],
        st.tuples(batches, st.sampled_from((1, 3)), st.just(1), channels, channels, st.integers(1, 3))
        | st.tuples(batches, st.sampled_from((2, 3)), st.just(2), channels, channels, st.integers(1, 3))
        | st.tuples(batches, st.just(4), st.just(4), channels, channels, st.integers(1, 3)),
    )
)
def test_conv(case: tuple) -> None:
    lead, size, stride, inputs, features, cells = case
    side = 4 * cells
    x, kernel = normal(0, *lead, side, side, inputs), normal(1, size, size, inputs, features)
    want = plain_conv(x, kernel, stride, pad=(size % 2 * (size // 2),) * 2)
    close(conv(jnp.asarray(x), jnp.asarray(kernel), stride), want)


@fast
@given(
    shapes(
        [((), 1, 3, 5, 4, 7), ((1, 3), 1, 9, 2, 5, 5), ((2,), 2, 1, 4, 8, 9), ((), 2, 4, 1, 6, 7)],
        st.tuples(batches, st.sampled_from((1, 2)), channels, channels, st.integers(4, 9), st.integers(4, 9)),
    )
)
def test_gradients_of_conv(case: tuple) -> None:
    """They are written by hand; those of a plain convolution are not."""
    lead, stride, inputs, features, rows, columns = case
    inputs += 8 * (stride - 1)  # fewer are packed, which needs even sides
    arguments = normal(0, *lead, rows, columns, inputs), normal(1, 3, 3, inputs, features)
    weight = normal(3, *lead, -(-rows // stride), -(-columns // stride), features)
    close_gradients(lambda *args: conv(*args, stride), lambda *args: plain_conv(*args, stride), arguments, weight)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("lead", [(), (2,)], ids=str)
def test_both_forms_of_the_gradients_of_conv(lead: tuple, stride: int) -> None:
    """The form of each platform, whichever runs here, with a padding that differs before and after."""
    x, kernel = jnp.asarray(normal(0, *lead, 7, 9, 3)), jnp.asarray(normal(1, 2, 2, 3, 4))
    output, gradients = jax.vjp(lambda *args: plain_conv(*args, stride, pad=(1, 0)), x, kernel)
    grads = jnp.asarray(normal(2, *output.shape))
    for form in (kernels.conv_grads_by_taps, kernels.conv_grads_by_xla):
        found = form((stride, stride), ((1, 0), (1, 0)), x, kernel, grads)
        for got, want in zip(found, gradients(grads), strict=True):
            close(got, want)


@pytest.mark.parametrize(("platform", "convolutions"), [("cpu", 0), ("cuda", 2), ("tpu", 2)])
def test_the_platform_chooses_the_form_of_the_gradients_of_conv(platform: str, convolutions: int) -> None:
    x, kernel = jax.ShapeDtypeStruct((8, 8, 16), jnp.float32), jax.ShapeDtypeStruct((3, 3, 16, 4), jnp.float32)
    grads = jax.jit(jax.grad(lambda *args: conv(*args).sum(), (0, 1)))
    text = grads.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == convolutions


depthwise_cases = shapes(
    [((), 1, 1, 3, 4, 6), ((2,), 3, 1, 8, 5, 4), ((1, 3), 3, 2, 5, 7, 8), ((), 7, 1, 2, 9, 4), ((2,), 7, 2, 1, 6, 6)],
    st.tuples(
        batches,
        st.sampled_from((1, 3, 7)),
        st.sampled_from((1, 2)),
        channels,
        st.integers(4, 9),
        st.integers(4, 9),
    ),
)


@fast
@given(depthwise_cases)
def test_depthwise_conv(case: tuple) -> None:
    lead, size, stride, width, rows, columns = case
    x, kernel, bias = normal(0, *lead, rows, columns, width), normal(1, size, size, 1, width), normal(2, width)
    got = depthwise_conv(jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(bias), stride)
    want = plain_conv(x, kernel, stride, groups=width)
    close(got, np.asarray(want) + bias)


@fast
@given(depthwise_cases)
def test_gradients_of_depthwise_conv(case: tuple) -> None:
    """They are written by hand; those of a plain convolution are not."""
    lead, size, stride, width, rows, columns = case
    arguments = normal(0, *lead, rows, columns, width), normal(1, size, size, 1, width), normal(2, width)
    weight = normal(3, *lead, -(-rows // stride), -(-columns // stride), width)

    def plain(x: Array, kernel: Array, bias: Array) -> Array:
        y = plain_conv(x, kernel, stride, groups=width)
        return y + lax.broadcast_to_rank(bias, y.ndim)

    close_gradients(lambda *args: depthwise_conv(*args, stride), plain, arguments, weight)


NORM_SHAPES = [(8,), (3, 4), (2, 3, 5, 24), (7, 96)]


class NormCase(NamedTuple):
    """Inputs of a LayerNorm, a weight for its output, and what torch computes: the output and the gradients."""

    inputs: tuple[Array, ...]
    weight: np.ndarray
    output: np.ndarray
    grads: tuple[np.ndarray, ...]


def norm_case(shape: tuple[int, ...]) -> NormCase:
    values = 3 + 2 * normal(0, *shape), normal(1, shape[-1]), normal(2, shape[-1])
    weight = normal(3, *shape)
    tensors = [torch.tensor(value, requires_grad=True) for value in values]
    output = torch.nn.functional.layer_norm(tensors[0], shape[-1:], *tensors[1:], NORM_EPS)
    grads = torch.autograd.grad((torch.tensor(weight) * output).sum(), tensors)
    inputs = tuple(map(jnp.asarray, values))
    return NormCase(inputs, weight, output.detach().numpy(), tuple(grad.numpy() for grad in grads))


@pytest.mark.parametrize("shape", NORM_SHAPES, ids=str)
def test_layer_norm_and_its_gradients(shape: tuple[int, ...]) -> None:
    """The gradients are written by hand; torch's are not. Under `vmap`, examples share scale and bias."""
    case = norm_case(shape)

    def ours(x: Array, scale: Array, bias: Array) -> Array:
        norm: Callable = functools.partial(layer_norm, scale=scale, bias=bias, eps=NORM_EPS)
        return jax.vmap(norm)(x) if x.ndim > 1 else norm(x)

    close(ours(*case.inputs), case.output)
    got = jax.grad(lambda *args: (case.weight * ours(*args)).sum(), (0, 1, 2))(*case.inputs)
    for grad, want in zip(got, case.grads, strict=True):
        close(grad, want)


@pytest.mark.parametrize("mean", [kernels.mean_by_sum, kernels.mean_by_product])
@pytest.mark.parametrize("shape", NORM_SHAPES, ids=str)
def test_both_forms_of_layer_norm(shape: tuple[int, ...], mean: kernels.Mean) -> None:
    """The form of each platform, whichever runs here."""
    case = norm_case(shape)
    close(kernels.layer_norm_by(NORM_EPS, mean, *case.inputs), case.output)
    got = kernels.layer_norm_grads_by(NORM_EPS, mean, *case.inputs, jnp.asarray(case.weight))
    for grad, want in zip(got, case.grads, strict=True):
        close(grad, want)


@pytest.mark.parametrize(("platform", "by_product"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_the_platform_chooses_the_form_of_layer_norm(platform: str, by_product: bool) -> None:
    """When the program is lowered, not when it is traced: short axes on CPU are summed by a matrix product."""

    def program(features: int) -> str:
        x, scale = jax.ShapeDtypeStruct((5, features), jnp.float32), jax.ShapeDtypeStruct((features,), jnp.float32)
        grads = jax.jit(jax.grad(lambda *args: layer_norm(*args, NORM_EPS).sum(), (0, 1, 2)))
        return grads.trace(x, scale, scale).lower(lowering_platforms=(platform,)).as_text()

    assert ("dot_general" in program(kernels.SHORT)) == by_product
    assert "dot_general" not in program(kernels.SHORT + 1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gelu_is_the_exact_one(dtype: str) -> None:
    x = jnp.linspace(-12, 12, 2001, dtype=dtype)
    want = torch.nn.functional.gelu(torch.tensor(np.asarray(x, np.float32)))
    got = gelu(x)
    assert got.dtype == x.dtype
    close(got.astype(jnp.float32), want, COMPONENT_RTOL if dtype == "float32" else 2**-8)


@fast
@given(
    shapes(
        [((), 2, 3, 5, 3), ((2,), 4, 1, 6, 2), ((1, 3), 2, 7, 1, 1)],
        st.tuples(batches, st.sampled_from((2, 4)), channels, channels, st.integers(1, 3)),
    )
)
def test_packed_conv(case: tuple) -> None:
    lead, block, inputs, features, cells = case
    x, kernel = normal(0, *lead, block * cells, block * cells, inputs), normal(1, 3, 3, inputs, features)
    got = packed_conv(space_to_depth(jnp.asarray(x), block), pack_kernel(jnp.asarray(kernel), block))
    close(depth_to_space(got, block // 2), plain_conv(x, kernel, stride=2))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fusion_barrier_is_the_identity(dtype: str) -> None:
    x = jnp.asarray([0, -0.0, 1.5, -3, np.inf, -np.inf, np.nan], dtype)
    got, want = (np.asarray(x, np.float32) for x in (jax.jit(fusion_barrier)(x), x))
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want))
    np.testing.assert_array_equal(jax.grad(lambda x: (2 * fusion_barrier(x)).sum())(x[:4]), np.full(4, 2))


def test_large_filters_are_one_loop() -> None:
    """All taps of the fuser's filters are multiplied in one computation: without the barrier, 36 of the 49."""
    module, x = ConvNeXtBlock(256), jax.ShapeDtypeStruct((64, 64, 256), jnp.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), x)
    program = jax.jit(module.apply).lower(params, x).compile().as_text() or ""
    assert max(loop.count(" multiply(") for loop in program.split("\n\n")) >= 49


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_relu(dtype: str) -> None:
    x = jnp.asarray([-2, -0.0, 0, 3, np.inf, np.nan], dtype)
    for ours, flax in ((relu, nn.relu), (jax.vmap(jax.grad(relu)), jax.vmap(jax.grad(nn.relu)))):
        np.testing.assert_array_equal(np.asarray(ours(x[:5]), np.float32), np.asarray(flax(x[:5]), np.float32))
    assert bool(jnp.isnan(relu(x)[-1]))
