import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgetam_jax.errors import FrameError
from edgetam_jax.ops import pixels as pre

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


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise, half of it black and white only, so that cubic overshoot is clipped."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return (
        noise if seed % 2 else np.where(rng.random((height, width, 1)) < 0.5, noise, 255 * (noise > 127)).astype("u1")
    )


def pillow_bicubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Width, then height: the order of every Pillow before 13, and of later ones for most shapes."""
    height, width = size
    wide = Image.fromarray(image).resize((width, image.shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(wide.resize((width, height), Image.Resampling.BICUBIC))


def torch_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].contiguous()
    return torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("before", "after"), SIZES)
@pytest.mark.parametrize("seed", [0, 1])
def test_bicubic_is_pillows_bit_for_bit(before, after, seed):
    image = random_image(*before, seed)
    np.testing.assert_array_equal(pre.video_bicubic(image, after), pillow_bicubic(image, after))


def test_bicubic_is_pillows_single_call_on_a_landscape_frame():
    image = random_image(135, 240)
    want = Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(pre.video_bicubic(image, (256, 256)), np.asarray(want))


@settings(max_examples=6, deadline=None)
@given(sides, sides, sides, sides, st.integers(0, 9))
def test_uint8_rules_bit_for_bit_on_any_size(h, w, new_h, new_w, seed):
    image = random_image(h, w, seed)
    np.testing.assert_array_equal(pre.video_bicubic(image, (new_h, new_w)), pillow_bicubic(image, (new_h, new_w)))
    np.testing.assert_array_equal(pre.hf_bilinear(image, (new_h, new_w)), torch_bilinear(image, (new_h, new_w)))


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_hf_rule_is_torchs_bit_for_bit_and_pillows_within_one(before, after):
    image = random_image(*before)
    got = np.asarray(pre.hf_bilinear(image, after))
    np.testing.assert_array_equal(got, torch_bilinear(image, after))
    pillow = Image.fromarray(image).resize(after[::-1], Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(pillow).astype(int) - got).max() <= 1


@pytest.mark.parametrize(("before", "after"), [s for s in SIZES if s[1][1] > 1] + [((257, 513), (100, 257))])
def test_image_rule_is_torchs_float_resize(before, after):
    image = random_image(*before)
    want = torch_bilinear(image.astype(np.float32) / 255, after)
    np.testing.assert_allclose(np.asarray(pre.image_float(image, after)) / 255, want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("rule", ["image", "video", "hf"])
def test_preprocess_normalises_under_jit_and_vmap(rule):
    frames = np.stack([[random_image(40, 64, 2 * i + j) for j in range(2)] for i in range(3)])
    got = jax.jit(pre.preprocess, static_argnums=(1, 2))(frames, 32, rule)
    assert got.shape == (3, 2, 32, 32, 3)
    assert got.dtype == jnp.float32
    resize = {
        "image": lambda f: torch_bilinear(f.astype(np.float32) / 255, (32, 32)),
        "video": lambda f: pillow_bicubic(f, (32, 32)) / 255,
        "hf": lambda f: torch_bilinear(f, (32, 32)) / 255,
    }[rule]
    want = (resize(frames[2, 1]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(got[2, 1], want, atol=3e-6, rtol=0)
    mapped = jax.vmap(lambda f: pre.preprocess(f, 32, rule))(jnp.asarray(frames))
    np.testing.assert_allclose(mapped, got, atol=1e-6, rtol=0)


def test_the_rules_differ():
    image = random_image(60, 90)
    a, b, c = (pre.preprocess(image, 32, rule) for rule in ("image", "video", "hf"))
    assert float(jnp.abs(a - b).max()) > 0.1
    assert 1e-3 < float(jnp.abs(a - c).max()) < 0.02


def test_preprocess_refuses_other_input():
    image = random_image(8, 8)
    with pytest.raises(FrameError, match="rule is 'video2'"):
        pre.preprocess(image, 16, "video2")  # pyright: ignore[reportArgumentType]
    with pytest.raises(FrameError, match="float32"):
        pre.preprocess(image.astype(np.float32), 16)
    with pytest.raises(FrameError, match="as_frames"):
        pre.preprocess(image[..., 0], 16)


@pytest.mark.parametrize("xp", [np, jnp])
def test_as_image_takes_every_kind(xp):
    rgb = random_image(5, 7)
    np.testing.assert_array_equal(pre.as_image(xp.asarray(rgb)), rgb)
    gray = np.repeat(rgb[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(pre.as_image(xp.asarray(rgb[..., 0])), gray)
    np.testing.assert_array_equal(pre.as_image(xp.asarray(rgb[..., :1])), gray)
    rgba = np.concatenate([rgb, np.full((5, 7, 1), 9, np.uint8)], axis=-1)
    np.testing.assert_array_equal(pre.as_image(xp.asarray(rgba)), rgb)
    np.testing.assert_array_equal(pre.as_image(xp.asarray(rgb.astype(np.float32) / 255)), rgb)
    assert int(pre.as_image(xp.full((1, 1), 127.9 / 255))[0, 0, 0]) == 128
    got = pre.as_image(xp.asarray(rgb.astype(np.int32)))
    np.testing.assert_array_equal(got, rgb)
    assert got.dtype == np.uint8
    assert isinstance(got, np.ndarray if xp is np else jax.Array)


def test_as_frames_takes_videos_lists_and_single_images():
    video = np.stack([random_image(5, 7, i) for i in range(3)])
    np.testing.assert_array_equal(pre.as_frames(video), video)
    np.testing.assert_array_equal(pre.as_frames(list(video)), video)
    np.testing.assert_array_equal(pre.as_frames(video.tolist()), video)
    np.testing.assert_array_equal(pre.as_frames([Image.fromarray(f) for f in video]), video)
    assert pre.as_frames(video[..., :1]).shape == (3, 5, 7, 3)
    assert pre.as_frames(video[0]).shape == (1, 5, 7, 3)
    assert pre.as_frames(video[0, ..., 0]).shape == (1, 5, 7, 3)
    traced = jax.jit(pre.as_frames)(video.astype(np.float32) / 255)
    np.testing.assert_array_equal(traced, video)


def test_pil_modes():
    rgb = random_image(4, 6)
    cmyk = Image.fromarray(rgb).convert("CMYK")
    np.testing.assert_array_equal(pre.as_image(cmyk), np.asarray(cmyk.convert("RGB")))
    palette = Image.fromarray(rgb).convert("P")
    np.testing.assert_array_equal(pre.as_image(palette), np.asarray(palette.convert("RGB")))
    deep = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2800
    np.testing.assert_array_equal(pre.as_image(Image.fromarray(deep)), np.repeat((deep >> 8)[..., None], 3, -1))


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
        pre.as_image(image)


def test_bad_frames():
    with pytest.raises(FrameError, match="grayscale video"):
        pre.as_frames(np.zeros((5, 20, 30), np.uint8))
    with pytest.raises(FrameError, match="empty"):
        pre.as_frames(np.zeros((0, 20, 30, 3), np.uint8))
    with pytest.raises(FrameError, match=r"frame 1 is 6x4 .*frame 0 is 5x4"):
        pre.as_frames([np.zeros((4, 5, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)])
