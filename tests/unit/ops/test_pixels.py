"""Preprocessing, and the checks of images and frames."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from edgetam_jax.errors import FrameError
from edgetam_jax.ops import pixels
from tests.unit.ops.images import pillow_bicubic, random_image, torch_bilinear


@pytest.mark.parametrize("rule", ["image", "video", "hf"])
def test_preprocess_normalises_under_jit_and_vmap(rule):
    frames = np.stack([[random_image(40, 64, 2 * i + j) for j in range(2)] for i in range(3)])
    got = jax.jit(pixels.preprocess, static_argnums=(1, 2))(frames, 32, rule)
    assert got.shape == (3, 2, 32, 32, 3)
    assert got.dtype == jnp.float32
    resize = {
        "image": lambda f: torch_bilinear(f.astype(np.float32) / 255, (32, 32)),
        "video": lambda f: pillow_bicubic(f, (32, 32)) / 255,
        "hf": lambda f: torch_bilinear(f, (32, 32)) / 255,
    }[rule]
    want = (resize(frames[2, 1]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(got[2, 1], want, atol=3e-6, rtol=0)
    mapped = jax.vmap(lambda f: pixels.preprocess(f, 32, rule))(jnp.asarray(frames))
    np.testing.assert_allclose(mapped, got, atol=1e-6, rtol=0)


def test_the_rules_differ():
    image = random_image(60, 90)
    a, b, c = (pixels.preprocess(image, 32, rule) for rule in ("image", "video", "hf"))
    assert float(jnp.abs(a - b).max()) > 0.1
    assert 1e-3 < float(jnp.abs(a - c).max()) < 0.02


def test_preprocess_refuses_other_input():
    image = random_image(8, 8)
    preprocess = inspect.unwrap(pixels.preprocess)  # as users call it, without the import hook's own checks
    with pytest.raises(FrameError, match="rule is 'video2'"):
        preprocess(image, 16, "video2")
    with pytest.raises(FrameError, match="float32"):
        preprocess(image.astype(np.float32), 16)
    with pytest.raises(FrameError, match="as_frames"):
        preprocess(image[..., 0], 16)


@pytest.mark.parametrize("xp", [np, jnp])
def test_as_image_takes_every_kind(xp):
    rgb = random_image(5, 7)
    np.testing.assert_array_equal(pixels.as_image(xp.asarray(rgb)), rgb)
    gray = np.repeat(rgb[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(pixels.as_image(xp.asarray(rgb[..., 0])), gray)
    np.testing.assert_array_equal(pixels.as_image(xp.asarray(rgb[..., :1])), gray)
    rgba = np.concatenate([rgb, np.full((5, 7, 1), 9, np.uint8)], axis=-1)
    np.testing.assert_array_equal(pixels.as_image(xp.asarray(rgba)), rgb)
    np.testing.assert_array_equal(pixels.as_image(xp.asarray(rgb.astype(np.float32) / 255)), rgb)
    assert int(pixels.as_image(xp.full((1, 1), 127.9 / 255))[0, 0, 0]) == 128
    got = pixels.as_image(xp.asarray(rgb.astype(np.int32)))
    np.testing.assert_array_equal(got, rgb)
    assert got.dtype == np.uint8
    assert isinstance(got, np.ndarray if xp is np else jax.Array)


def test_as_frames_takes_videos_lists_and_single_images():
    video = np.stack([random_image(5, 7, i) for i in range(3)])
    np.testing.assert_array_equal(pixels.as_frames(video), video)
    np.testing.assert_array_equal(pixels.as_frames(list(video)), video)
    np.testing.assert_array_equal(pixels.as_frames(video.tolist()), video)
    np.testing.assert_array_equal(pixels.as_frames([Image.fromarray(f) for f in video]), video)
    assert pixels.as_frames(video[..., :1]).shape == (3, 5, 7, 3)
    assert pixels.as_frames(video[0]).shape == (1, 5, 7, 3)
    assert pixels.as_frames(video[0, ..., 0]).shape == (1, 5, 7, 3)
    traced = jax.jit(pixels.as_frames)(video.astype(np.float32) / 255)
    np.testing.assert_array_equal(traced, video)


def test_pil_modes():
    rgb = random_image(4, 6)
    cmyk = Image.fromarray(rgb).convert("CMYK")
    np.testing.assert_array_equal(pixels.as_image(cmyk), np.asarray(cmyk.convert("RGB")))
    palette = Image.fromarray(rgb).convert("P")
    np.testing.assert_array_equal(pixels.as_image(palette), np.asarray(palette.convert("RGB")))
    deep = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2800
    np.testing.assert_array_equal(pixels.as_image(Image.fromarray(deep)), np.repeat((deep >> 8)[..., None], 3, -1))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 20, 30), np.uint8), "channels last"),
        (np.zeros((2, 3, 4, 5, 3), np.uint8), "channels last"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.full((4, 4, 3), 2.0), "0 to 1"),
        (np.full((4, 4, 3), -0.1), "0 to 1"),
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4, 3), 256), "0 to 255"),
        (np.full((4, 4, 3), 1000, np.uint16), "0 to 255"),
        (np.ones((4, 4), bool), "bool"),
        (jnp.ones((4, 4), bool), "bool"),
        (np.array([["a"]]), "expected uint8"),
        ([[1, 2], [3]], "one array"),
    ],
)
def test_bad_images(image, message):
    with pytest.raises(FrameError, match=message):
        pixels.as_image(image)


def test_bad_frames():
    with pytest.raises(FrameError, match="grayscale video"):
        pixels.as_frames(np.zeros((5, 20, 30), np.uint8))
    with pytest.raises(FrameError, match="empty"):
        pixels.as_frames(np.zeros((0, 20, 30, 3), np.uint8))
    with pytest.raises(FrameError, match=r"frame 1 is 6x4 .*frame 0 is 5x4"):
        pixels.as_frames([np.zeros((4, 5, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)])
