"""Resizes beside Pillow's and PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgetam_jax.ops import resize
from tests.support.shapes import examples
from tests.unit.ops.images import pillow_bicubic, random_image, torch_bilinear

# height, width -> height, width: up, down, mixed, odd, single pixels, unchanged
SIZES = [
    ((54, 96), (128, 128)),
    ((97, 61), (32, 32)),
    ((240, 31), (64, 64)),
    ((1, 1), (16, 16)),
    ((1, 37), (16, 8)),
    ((37, 5), (3, 1)),
    ((64, 64), (64, 64)),
    ((64, 33), (64, 17)),
    ((300, 7), (2, 40)),
]
sides = st.integers(2, 70)


@pytest.mark.parametrize(("before", "after"), SIZES)
@pytest.mark.parametrize("seed", [0, 1])
def test_bicubic_is_pillows_bit_for_bit(before, after, seed):
    image = random_image(*before, seed)
    np.testing.assert_array_equal(resize.bicubic_uint8(image, after), pillow_bicubic(image, after))


def test_bicubic_is_pillows_single_call_on_a_landscape_frame():
    image = random_image(135, 240)
    want = Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resize.bicubic_uint8(image, (256, 256)), np.asarray(want))


@examples(6)
@given(sides, sides, sides, sides, st.integers(0, 9))
def test_uint8_rules_bit_for_bit_on_any_size(h, w, new_h, new_w, seed):
    image = random_image(h, w, seed)
    np.testing.assert_array_equal(resize.bicubic_uint8(image, (new_h, new_w)), pillow_bicubic(image, (new_h, new_w)))
    np.testing.assert_array_equal(resize.bilinear_uint8(image, (new_h, new_w)), torch_bilinear(image, (new_h, new_w)))


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_hf_rule_is_torchs_bit_for_bit_and_pillows_within_one(before, after):
    image = random_image(*before)
    got = np.asarray(resize.bilinear_uint8(image, after))
    np.testing.assert_array_equal(got, torch_bilinear(image, after))
    pillow = Image.fromarray(image).resize(after[::-1], Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(pillow).astype(int) - got).max() <= 1


@pytest.mark.parametrize(("before", "after"), [s for s in SIZES if s[1][1] > 1] + [((257, 513), (100, 257))])
def test_image_rule_is_torchs_float_resize(before, after):
    image = random_image(*before)
    want = torch_bilinear(image.astype(np.float32) / 255, after)
    np.testing.assert_allclose(np.asarray(resize.bilinear_float(image, after)) / 255, want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(54, 96), (1024, 1024), (270, 480), (13, 7), (64, 64), (1, 1)])
def test_resize_logits_is_torchs(size):
    logits = np.clip(np.random.default_rng(0).standard_normal((2, 1, 64, 64)) * 12, -35, 35).astype(np.float32)
    want = torch.nn.functional.interpolate(torch.from_numpy(logits), size, mode="bilinear").numpy()
    got = jax.jit(resize.resize_logits, static_argnums=1)(logits, size)
    np.testing.assert_allclose(got, want, atol=8e-6, rtol=0)


def test_resize_logits_of_one_pixel_and_its_gradient():
    np.testing.assert_array_equal(resize.resize_logits(jnp.full((1, 1), 3.0), (4, 5)), np.full((4, 5), 3.0))
    gradient = jax.grad(lambda z: resize.resize_logits(z, (16, 16)).sum())(jnp.zeros((8, 8)))
    np.testing.assert_allclose(gradient, np.full((8, 8), 4.0), rtol=1e-6)
