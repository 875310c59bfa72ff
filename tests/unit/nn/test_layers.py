"""Layers against plain convolutions, and the folded trunk against the computation that it folds."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import Array, lax

from edgetam_jax.nn.image_encoder import ImageEncoder
from edgetam_jax.nn.layer_norm import NORM_EPS, layer_norm
from edgetam_jax.nn.layers import (
    Conv,
    ConvNorm,
    UpConv,
    compose,
    conv,
    depthwise_conv,
    fusion_barrier,
    gelu,
    packed_conv,
    relu,
)
from edgetam_jax.nn.memory_encoder import ConvNeXtBlock
from edgetam_jax.nn.repvit import TokenMixer
from edgetam_jax.nn.tiles import depth_to_space, space_to_depth, tiled, untiled
from tests.parity.pairs import normal
from tests.support.checkpoints import SMALL
from tests.support.tolerances import COMPONENT_RTOL

fast = settings(max_examples=12, deadline=None)
channels = st.integers(1, 9)
batches = st.sampled_from(((), (2,), (1, 3)))


def close(got: Any, want: Any, rtol: float = COMPONENT_RTOL) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=rtol * np.abs(want).max())


def plain_conv(x: Array, kernel: Array, stride: int = 1, groups: int = 1, pad: int | None = None) -> Array:
    pad = kernel.shape[0] // 2 if pad is None else pad
    lead = x.shape[:-3]
    y = lax.conv_general_dilated(
        jnp.asarray(x).reshape(-1, *x.shape[-3:]),
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return y.reshape(*lead, *y.shape[1:])


def close_gradients(ours: Callable, plain: Callable, arguments: tuple, weight: np.ndarray) -> None:
    """Of the sum of what both return, weighted, with respect to every argument."""
    arguments, which = tuple(map(jnp.asarray, arguments)), tuple(range(len(arguments)))

    def gradients(function: Callable) -> tuple:
        return jax.grad(lambda *args: (weight * function(*args)).sum(), which)(*arguments)

    for got, want in zip(gradients(ours), gradients(plain), strict=True):
        # A tap's gradient is a sum over the image, in which much may cancel.
        np.testing.assert_allclose(got, want, rtol=0, atol=COMPONENT_RTOL * max(np.abs(want).max(), weight.size**0.5))


@fast
@given(batches, st.sampled_from(((1, 1), (3, 1), (3, 2), (2, 2), (4, 4))), channels, channels, st.integers(1, 3))
def test_conv(lead: tuple, form: tuple[int, int], inputs: int, features: int, cells: int) -> None:
    size, stride = form
    side = 4 * cells
    x, kernel = normal(0, *lead, side, side, inputs), normal(1, size, size, inputs, features)
    close(
        conv(jnp.asarray(x), jnp.asarray(kernel), stride), plain_conv(x, kernel, stride, pad=(size % 2) * (size // 2))
    )


@fast
@given(batches, st.sampled_from((1, 2)), channels, channels, st.integers(4, 9), st.integers(4, 9))
def test_gradients_of_conv(lead: tuple, stride: int, inputs: int, features: int, height: int, across: int) -> None:
    """They are written by hand; a plain convolution's are not."""
    inputs += 8 * (stride - 1)  # fewer are packed, which needs even sides
    arguments = normal(0, *lead, height, across, inputs), normal(1, 3, 3, inputs, features)
    weight = normal(3, *lead, -(-height // stride), -(-across // stride), features)
    close_gradients(lambda *args: conv(*args, stride), lambda *args: plain_conv(*args, stride), arguments, weight)


@fast
@given(batches, st.sampled_from((1, 3, 7)), st.sampled_from((1, 2)), channels, st.integers(4, 9), st.integers(4, 9))
def test_depthwise_conv(lead: tuple, size: int, stride: int, width: int, height: int, across: int) -> None:
    x, kernel, bias = normal(0, *lead, height, across, width), normal(1, size, size, 1, width), normal(2, width)
    got = depthwise_conv(jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(bias), stride)
    close(got, plain_conv(x, kernel, stride, groups=width) + bias)


@fast
@given(batches, st.sampled_from((1, 3, 7)), st.sampled_from((1, 2)), channels, st.integers(4, 9), st.integers(4, 9))
def test_gradients_of_depthwise_conv(lead: tuple, size: int, stride: int, width: int, height: int, across: int) -> None:
    """They are written by hand; a plain convolution's are not."""
    arguments = normal(0, *lead, height, across, width), normal(1, size, size, 1, width), normal(2, width)
    weight = normal(3, *lead, -(-height // stride), -(-across // stride), width)

    def plain(x: Array, kernel: Array, bias: Array) -> Array:
        return plain_conv(x, kernel, stride, groups=width) + bias

    close_gradients(lambda *args: depthwise_conv(*args, stride), plain, arguments, weight)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("shape", [(8,), (3, 4), (2, 3, 5, 24), (7, 96)], ids=str)
def test_layer_norm_and_its_gradients(shape: tuple[int, ...], backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written by hand; torch's are not. Also where examples share scale and bias, as under `vmap`."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    values = 3 + 2 * normal(0, *shape), normal(1, shape[-1]), normal(2, shape[-1])
    weight = normal(3, *shape)
    tensors = [torch.tensor(value, requires_grad=True) for value in values]
    want = torch.nn.functional.layer_norm(tensors[0], shape[-1:], *tensors[1:], NORM_EPS)
    (torch.tensor(weight) * want).sum().backward()

    def ours(x: Array, scale: Array, bias: Array) -> Array:
        norm: Callable = functools.partial(layer_norm, scale=scale, bias=bias, eps=NORM_EPS)
        return jax.vmap(norm)(x) if x.ndim > 1 else norm(x)

    arguments = tuple(map(jnp.asarray, values))
    close(ours(*arguments), want.detach())
    for got, tensor in zip(jax.grad(lambda *a: (weight * ours(*a)).sum(), (0, 1, 2))(*arguments), tensors, strict=True):
        assert tensor.grad is not None
        close(got, tensor.grad)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gelu_is_the_exact_one(dtype: str) -> None:
    x = jnp.linspace(-12, 12, 2001, dtype=dtype)
    want = torch.nn.functional.gelu(torch.tensor(np.asarray(x, np.float32)))
    got = gelu(x)
    assert got.dtype == x.dtype
    close(got.astype(jnp.float32), want, COMPONENT_RTOL if dtype == "float32" else 2**-8)


@fast
@given(batches, st.sampled_from((2, 4)), channels, channels, st.integers(1, 3))
def test_packed_conv(lead: tuple, block: int, inputs: int, features: int, cells: int) -> None:
    x, kernel = normal(0, *lead, block * cells, block * cells, inputs), normal(1, 3, 3, inputs, features)
    got = packed_conv(space_to_depth(jnp.asarray(x), block), jnp.asarray(kernel), block)
    close(depth_to_space(got, block // 2), plain_conv(x, kernel, stride=2))


@fast
@given(batches, channels, channels, st.integers(1, 4))
def test_up_conv(lead: tuple, inputs: int, features: int, side: int) -> None:
    module, x = UpConv(inputs, features), normal(0, *lead, side, side + 1, inputs)
    params = {"kernel": normal(1, 2, 2, inputs, features), "bias": normal(2, features)}
    want = np.zeros((*lead, 2 * side, 2 * side + 2, features))
    for i in range(2):
        for j in range(2):
            want[..., i::2, j::2, :] = x @ params["kernel"][i, j] + params["bias"]
    close(untiled(module.apply({"params": params}, x), 1), want)


def test_filters_start_as_large_as_in_torch() -> None:
    """Whether an input is added up by each output (`Conv`) or spread over them (`UpConv`)."""
    pairs = (
        (Conv(8, 64, size=3), torch.nn.Conv2d(8, 64, 3)),
        (UpConv(64, 8), torch.nn.ConvTranspose2d(64, 8, 2, 2)),
    )
    for module, original in pairs:
        kernel = module.init(jax.random.key(0), jnp.zeros((1, 4, 4, module.inputs)))["params"]["kernel"]
        assert float(kernel.std()) == pytest.approx(original.weight.detach().numpy().std(), rel=0.1)


@fast
@given(batches, st.integers(1, 4), channels, st.integers(1, 3), st.integers(1, 3))
def test_tiles_come_back(lead: tuple, block: int, width: int, rows: int, columns: int) -> None:
    x = normal(0, *lead, block * rows, block * columns, width)
    packed = space_to_depth(jnp.asarray(x), block)
    assert packed.shape == (*lead, rows, columns, block * block * width)
    np.testing.assert_array_equal(packed[..., 0, 0, :width], x[..., 0, 0, :])
    np.testing.assert_array_equal(packed[..., -1, -1, -width:], x[..., -1, -1, :])
    np.testing.assert_array_equal(depth_to_space(packed, block), x)


@fast
@given(batches, st.integers(0, 3), channels, st.integers(1, 2), st.integers(1, 3))
def test_tiles_of_tiles_come_back(lead: tuple, levels: int, width: int, rows: int, columns: int) -> None:
    x = normal(0, *lead, 2**levels * rows, 2**levels * columns, width)
    packed = tiled(jnp.asarray(x), levels)
    assert packed.shape == (*lead, rows, columns, *levels * (4,), width)
    corner = x[..., : 2**levels, : 2**levels, :]
    first, last = levels * (0,), levels * (3,)
    np.testing.assert_array_equal(packed[(..., 0, 0, *first, slice(None))], corner[..., 0, 0, :])
    np.testing.assert_array_equal(packed[(..., 0, 0, *last, slice(None))], corner[..., -1, -1, :])
    if levels:  # the outermost tile is the first of its axes
        np.testing.assert_array_equal(
            packed[(..., 0, 0, 1, *first[1:], slice(None))], corner[..., 0, 2 ** (levels - 1), :]
        )
    np.testing.assert_array_equal(untiled(packed, levels), x)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_fence_changes_nothing(dtype: str) -> None:
    x = jnp.asarray([0, -0.0, 1.5, -3, np.inf, -np.inf, np.nan], dtype)
    got, want = (np.asarray(x, np.float32) for x in (jax.jit(fusion_barrier)(x), x))
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want))
    np.testing.assert_array_equal(jax.grad(lambda x: (2 * fusion_barrier(x)).sum())(x[:4]), np.full(4, 2))


def test_large_filters_are_one_loop() -> None:
    """All taps of the fuser's filters are multiplied in one computation: without the fence, 36 of the 49."""
    module, x = ConvNeXtBlock(256), jax.ShapeDtypeStruct((64, 64, 256), jnp.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), x)
    program = jax.jit(module.apply).lower(params, x).compile().as_text()
    assert max(loop.count(" multiply(") for loop in program.split("\n\n")) >= 49


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_relu(dtype: str) -> None:
    x = jnp.asarray([-2, -0.0, 0, 3, np.inf, np.nan], dtype)
    for ours, flax in ((relu, nn.relu), (jax.vmap(jax.grad(relu)), jax.vmap(jax.grad(nn.relu)))):
        np.testing.assert_array_equal(np.asarray(ours(x[:5]), np.float32), np.asarray(flax(x[:5]), np.float32))
    assert bool(jnp.isnan(relu(x)[-1]))


def test_two_convolutions_in_one_product() -> None:
    first, second = Conv(5, 7), Conv(7, 3)
    weights = [{"kernel": normal(i, 1, 1, *s), "bias": normal(9 + i, s[1])} for i, s in enumerate(((5, 7), (7, 3)))]
    kernel, bias = compose(*(m.bind({"params": w}) for m, w in zip((first, second), weights, strict=True)))
    x = normal(3, 4, 4, 5)
    close(x @ kernel + bias, second.apply({"params": weights[1]}, first.apply({"params": weights[0]}, x)))


def norm_params(seed: int, width: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    scale, bias, mean = (rng.normal(size=width).astype(np.float32) for _ in range(3))
    return {"scale": scale, "bias": bias, "mean": mean, "var": rng.uniform(0.1, 4, width).astype(np.float32)}


def conv_norm_params(seed: int, size: int, inputs: int, features: int) -> dict[str, Any]:
    return {"c": {"kernel": normal(seed, size, size, inputs, features)}, "bn": norm_params(seed, features)}


def plain_norm(x: Array, params: Any) -> Array:
    return (x - params["mean"]) / jnp.sqrt(params["var"] + NORM_EPS) * params["scale"] + params["bias"]


def plain_conv_norm(params: Any, x: Array, stride: int = 1, depthwise: bool = False) -> Array:
    kernel = params["c"]["kernel"]
    y = plain_conv(x, kernel, stride, groups=kernel.shape[-1] if depthwise else 1)
    return plain_norm(y, params["bn"])


def plain_mixer(params: Any, x: Array) -> Array:
    return plain_conv_norm(params["conv"], x, depthwise=True) + plain_conv_norm(params["conv1"], x, depthwise=True) + x


FOLDED = {
    "stem": (ConvNorm(3, 12, 3, 2), conv_norm_params(0, 3, 3, 12), functools.partial(plain_conv_norm, stride=2)),
    "pointwise": (ConvNorm(12, 10), conv_norm_params(1, 1, 12, 10), plain_conv_norm),
    "downsampling": (
        ConvNorm(12, 12, 3, 2, depthwise=True),
        conv_norm_params(2, 3, 1, 12),
        functools.partial(plain_conv_norm, stride=2, depthwise=True),
    ),
    "token mixer": (
        TokenMixer(12),
        {"conv": conv_norm_params(3, 3, 1, 12), "conv1": conv_norm_params(4, 1, 1, 12)},
        plain_mixer,
    ),
}


@pytest.mark.parametrize("name", FOLDED)
def test_folding_changes_nothing(name: str) -> None:
    """Neither the outputs nor the gradients of any parameter, statistics included."""
    module, params, plain = FOLDED[name]
    x = normal(5, 2, 8, 8, 3 if name == "stem" else 12)
    weight = normal(6, *module.apply({"params": params}, x).shape)

    def folded(params: Any, x: Array) -> Array:
        return module.apply({"params": params}, x)

    close(folded(params, x), plain(params, x))
    both = [jax.grad(lambda *a, f=f: (weight * f(*a)).sum(), argnums=(0, 1))(params, x) for f in (folded, plain)]
    jax.tree.map(functools.partial(close, rtol=3 * COMPONENT_RTOL), *both)


def test_the_encoder_compiles_without_grouped_convolutions() -> None:
    """On CPU they are many times slower than what stands in for them."""
    encoder = ImageEncoder(SMALL)
    pixels = jax.ShapeDtypeStruct((1, SMALL.image_size, SMALL.image_size, 3), jnp.float32)
    shapes = jax.eval_shape(
        lambda key, x: encoder.init(key, x, method=lambda m, x: m.neck(*m.trunk(x)[2:])), jax.random.key(0), pixels
    )
    compiled = jax.jit(lambda p, x: encoder.apply(p, x, method=lambda m, x: m.trunk(x))).lower(shapes, pixels).compile()
    text = compiled.as_text()
    assert "convolution" in text or "dot(" in text
    assert "feature_group_count" not in text
