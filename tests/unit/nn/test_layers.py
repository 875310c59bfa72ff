"""Modules against plain layers, and the folded trunk against the computation that it folds."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jax import Array, lax

from edgetam_jax.nn.image_encoder import ImageEncoder
from edgetam_jax.nn.layers import NORM_EPS, Conv, ConvNorm, UpConv, compose
from edgetam_jax.nn.repvit import TokenMixer
from edgetam_jax.nn.tiles import untiled
from tests.parity.pairs import normal
from tests.support.checkpoints import SMALL
from tests.support.shapes import shapes
from tests.support.tolerances import COMPONENT_RTOL
from tests.unit.nn.plain import batches, channels, close, fast, plain_conv


@fast
@given(
    shapes(
        [((), 3, 5, 1), ((2,), 8, 2, 3), ((1, 3), 1, 4, 2)],
        st.tuples(batches, channels, channels, st.integers(1, 4)),
    )
)
def test_up_conv(case: tuple) -> None:
    lead, inputs, features, side = case
    module, x = UpConv(inputs, features), normal(0, *lead, side, side + 1, inputs)
    params = {"kernel": normal(1, 2, 2, inputs, features), "bias": normal(2, features)}
    want = np.zeros((*lead, 2 * side, 2 * side + 2, features))
    for i in range(2):
        for j in range(2):
            want[..., i::2, j::2, :] = x @ params["kernel"][i, j] + params["bias"]
    close(untiled(jax.jit(module.apply)({"params": params}, x), 1), want)


def test_filters_start_as_large_as_in_torch() -> None:
    """Both where an output sums over inputs (`Conv`) and where an input spreads over outputs (`UpConv`)."""
    pairs = (
        (Conv(8, 64, size=3), torch.nn.Conv2d(8, 64, 3)),
        (UpConv(64, 8), torch.nn.ConvTranspose2d(64, 8, 2, 2)),
    )
    for module, original in pairs:
        kernel = module.init(jax.random.key(0), jnp.zeros((1, 4, 4, module.inputs)))["params"]["kernel"]
        assert float(kernel.std()) == pytest.approx(original.weight.detach().numpy().std(), rel=0.1)


def test_two_convolutions_in_one_product() -> None:
    first, second = Conv(5, 7), Conv(7, 3)
    weights = [{"kernel": normal(i, 1, 1, *s), "bias": normal(9 + i, s[1])} for i, s in enumerate(((5, 7), (7, 3)))]
    weights = jax.tree.map(jnp.asarray, weights)
    kernel, bias = compose(*(m.bind({"params": w}) for m, w in zip((first, second), weights, strict=True)))
    x = normal(3, 4, 4, 5)
    want = second.apply({"params": weights[1]}, first.apply({"params": weights[0]}, jnp.asarray(x)))
    close(x @ np.asarray(kernel) + np.asarray(bias), want)


def norm_params(seed: int, width: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    scale, bias, mean = (rng.normal(size=width).astype(np.float32) for _ in range(3))
    return {"scale": scale, "bias": bias, "mean": mean, "var": rng.uniform(0.1, 4, width).astype(np.float32)}


def conv_norm_params(seed: int, size: int, inputs: int, features: int) -> dict[str, Any]:
    return {"c": {"kernel": normal(seed, size, size, inputs, features)}, "bn": norm_params(seed, features)}


def plain_norm(x: Array, params: Any) -> Array:
    mean, var, scale, bias = (lax.broadcast_to_rank(params[name], x.ndim) for name in ("mean", "var", "scale", "bias"))
    return (x - mean) / jnp.sqrt(var + NORM_EPS) * scale + bias


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
    params, x = jax.tree.map(jnp.asarray, params), jnp.asarray(normal(5, 2, 8, 8, 3 if name == "stem" else 12))

    def folded(params: Any, x: Array) -> Any:
        return module.apply({"params": params}, x)

    weight = normal(6, *jax.eval_shape(folded, params, x).shape)
    close(folded(params, x), plain(params, x))
    both = [jax.grad(lambda *a, f=f: (weight * f(*a)).sum(), argnums=(0, 1))(params, x) for f in (folded, plain)]
    jax.tree.map(functools.partial(close, rtol=3 * COMPONENT_RTOL), *both)


def test_the_encoder_compiles_without_grouped_convolutions() -> None:
    """On CPU they are many times slower than sums of shifted copies."""
    encoder = ImageEncoder(SMALL)
    pixels = jax.ShapeDtypeStruct((1, SMALL.image_size, SMALL.image_size, 3), jnp.float32)
    params = jax.eval_shape(
        lambda key, x: encoder.init(key, x, method=lambda m, x: m.neck(*m.trunk(x)[2:])), jax.random.key(0), pixels
    )
    compiled = jax.jit(lambda p, x: encoder.apply(p, x, method=lambda m, x: m.trunk(x))).lower(params, pixels).compile()
    text = compiled.as_text() or ""
    assert "convolution" in text or "dot(" in text
    assert "feature_group_count" not in text
