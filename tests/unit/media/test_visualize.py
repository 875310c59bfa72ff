import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetam_jax.errors import EdgeTAMError, FrameError, PromptError
from edgetam_jax.media.contours import HALO_OPACITY
from edgetam_jax.media.palette import PALETTE, davis_palette, mask_to_palette, object_colors
from edgetam_jax.media.visualize import BACKGROUND, contact_sheet, draw_contours, draw_prompts, overlay

HEIGHT, WIDTH = 30, 40
COLOR = (200, 0, 50)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def gray(value: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_fill() -> None:
    mask = square(5, 8, 10)
    picture = overlay(gray(100), mask, [COLOR], contours=False)
    np.testing.assert_array_equal(picture[mask], np.broadcast_to((150, 50, 75), (100, 3)))
    assert (picture[~mask] == 100).all()
    np.testing.assert_array_equal(overlay(gray(100), mask, COLOR, alpha=1, contours=False)[mask][0], COLOR)


def test_later_objects_lie_on_top_and_do_not_mix() -> None:
    masks = np.stack([square(5, 5, 10), square(10, 10, 10)])
    picture = overlay(gray(100), masks, contours=False)
    for mask, color in ((masks[0] & ~masks[1], PALETTE[0]), (masks[1], PALETTE[1])):
        np.testing.assert_array_equal(np.unique(picture[mask], axis=0), [np.round(50 + color / 2)])


def test_contour_across_a_level_border() -> None:
    """From outside to inside: the image, halo, line, halo, the image."""
    dark = round(200 * (1 - HALO_OPACITY))
    for width, line in ((1, 1), (2, 2), (3, 3)):
        picture = draw_contours(gray(200), square(8, 12, 14), COLOR, width=width)
        across = picture[15, :20]
        first = 12 - width // 2
        np.testing.assert_array_equal(across[first : first + line], np.broadcast_to(COLOR, (line, 3)))
        assert (across[first - 1] == dark).all()
        assert (across[first + line] == dark).all()
        assert (across[: first - 2] == 200).all()
        assert (across[first + line + 2 :] == 200).all()


def test_contours_change_nothing_elsewhere(image: np.ndarray) -> None:
    before = image.copy()
    mask = square(8, 12, 14)
    changed = (overlay(image, mask, alpha=0, width=1) != image).any(-1)
    np.testing.assert_array_equal(changed[6:24, 10:28].any(), True)
    near = square(6, 10, 18) & ~square(11, 15, 8)
    assert not changed[~near].any()
    assert changed[square(8, 12, 14) & ~square(9, 13, 12)].all()
    np.testing.assert_array_equal(overlay(image, mask, alpha=0, contours=False), image)
    np.testing.assert_array_equal(image, before)


def test_slanted_borders_are_smooth() -> None:
    """Of a disc's outline, most pixels are neither the line's colour nor the image's."""
    y, x = np.mgrid[:100, :100]
    disc = np.hypot(x - 50, y - 50) < 30
    picture = draw_contours(gray(0, 100, 100), disc, (255, 255, 255), width=2)[..., 0]
    radius = np.hypot(x - 50, y - 50)
    assert (picture[np.abs(radius - 30) < 0.3] > 200).all()
    assert (picture[np.abs(radius - 30) > 3] == 0).all()
    assert ((picture > 0) & (picture < 255)).sum() > 100


def test_contours_follow_the_distance_to_the_other_side() -> None:
    """Against distances from each pixel to every other, smoothed along both axes."""
    small = np.random.default_rng(2).random((5, 6)) < 0.4
    mask = np.kron(small, np.ones((4, 4))).astype(bool)
    here = np.pad(mask, 8, mode="edge")
    at = np.argwhere(np.ones_like(here))
    nearest = [
        np.sqrt(((at[:, None] - at[here.ravel() == side]) ** 2).sum(-1).min(1)).reshape(here.shape)
        for side in (True, False)
    ]
    depth = np.where(here, 0.5 - nearest[1], nearest[0] - 0.5)
    for axis in (0, 1):
        depth = 0.25 * np.roll(depth, 1, axis) + 0.5 * depth + 0.25 * np.roll(depth, -1, axis)
    away = np.abs(depth[8:-8, 8:-8])
    shade = 100 * (1 - HALO_OPACITY * np.clip(2.5 - away, 0, 1))
    share = np.clip(1.5 - away, 0, 1)
    want = np.round(shade) * (1 - share) + 200 * share
    got = draw_contours(gray(100, *mask.shape), mask, (200, 200, 200), width=2)[..., 0]
    np.testing.assert_allclose(got, want, atol=0.51)


@pytest.mark.parametrize(("pixels", "seen"), [(np.s_[0:0, 0:0], False), (np.s_[:, :], False), (np.s_[9, 9], True)])
def test_masks_of_nothing_everything_and_one_pixel(image: np.ndarray, pixels: Any, seen: bool) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[pixels] = True
    assert (draw_contours(image, mask) != image).any() == seen


def test_the_images_border_is_none_of_the_mask() -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:, :20] = True
    picture = draw_contours(gray(200), mask, COLOR, width=1)
    np.testing.assert_array_equal(picture, np.broadcast_to(picture[:1], picture.shape))
    assert (picture[:, :17] == 200).all()
    assert (picture[:, 19] == COLOR).all()


def test_forms_of_masks(image: np.ndarray) -> None:
    masks = np.stack([square(2, 2, 8), square(12, 12, 8)])
    want = overlay(image, masks)
    for same in (masks[:, None], masks.astype(np.float32), masks.astype(int)):
        np.testing.assert_array_equal(overlay(image, same), want)
    np.testing.assert_array_equal(overlay(image, masks[:0]), image)


def test_objects_keep_their_colours(image: np.ndarray) -> None:
    masks = np.stack([square(2, 2, 8), square(12, 12, 8)])
    both = overlay(image, masks, obj_ids=[7, 3])
    np.testing.assert_array_equal(overlay(image, masks[::-1], obj_ids=[3, 7]), both)
    alone = overlay(image, masks[1], obj_ids=[3])
    np.testing.assert_array_equal(alone[11:21, 11:21], both[11:21, 11:21])
    np.testing.assert_array_equal(object_colors([3, 7]), PALETTE[[3, 7]])
    assert len(np.unique(object_colors(range(24)), axis=0)) == 24
    assert object_colors([-1, 10**6]).shape == (2, 3)


# Machado, Oliveira and Fernandes (2009), severity 1: what linear RGB looks like to those who lack a kind of cone.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / to_xyz.sum(1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


@pytest.mark.parametrize("sight", SIGHT)
def test_no_two_colours_are_close(sight: str) -> None:
    value = PALETTE / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    seen = lab(np.clip(linear @ np.transpose(SIGHT[sight]), 0, 1))
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(len(PALETTE), 1)]
    assert apart.min() > (46 if sight == "normal" else 27)
    assert (seen[:, 0] > 30).all()  # and none is too dark to stand out


def test_markers() -> None:
    on, off = (draw_prompts(gray(128), [[20, 15]], [label], width=1) for label in (1, 0))
    for picture in (on, off):
        np.testing.assert_array_equal(picture[15, 20], (255, 255, 255))
        np.testing.assert_array_equal(picture[:, 8:33], picture[:, 8:33][:, ::-1])
        np.testing.assert_array_equal(picture[3:28], picture[3:28][::-1])
        assert (picture[:, 31:] == 128).all()
    # A plus has a vertical bar where a minus has none; a disc covers corners where a diamond has none.
    np.testing.assert_array_equal(on[13, 20], (255, 255, 255))
    assert off[13, 20, 0] > 180 > 60 > off[13, 20, 1]
    assert (on[11, 16] != 128).any()
    assert (off[10, 15] == 128).all()
    on_colour, off_colour = on[17, 18].astype(int), off[13, 20].astype(int)
    assert on_colour[1] > on_colour[0] + 60
    assert off_colour[0] > off_colour[1] + 60


def test_markers_lie_between_pixels_and_may_be_cut_off(image: np.ndarray) -> None:
    shifted = draw_prompts(gray(128), [[20.5, 15]], [1], width=1)
    np.testing.assert_array_equal(shifted[:, 8:34], shifted[:, 8:34][:, ::-1])
    for corner in ([0, 0], [WIDTH, HEIGHT], [0, HEIGHT]):
        assert (draw_prompts(image, [corner], [0]) != image).any()
    np.testing.assert_array_equal(draw_prompts(image, [[-50, 10], [10, 500]], [0, 1]), image)


def test_box() -> None:
    picture = draw_prompts(gray(100), box=[10, 6, 29, 20], color=COLOR, width=1)
    line = (picture == COLOR).all(-1)
    want = np.zeros((HEIGHT, WIDTH), bool)
    want[6:21, 10:30] = True
    want[7:20, 11:29] = False
    np.testing.assert_array_equal(line, want)
    dark = round(100 * (1 - HALO_OPACITY))
    assert (picture[13, 9] == dark).all()
    assert (picture[13, 11] == dark).all()
    assert (picture[9:18, 13:27] == 100).all()
    assert (picture[:4] == 100).all()


def test_box_and_points_together() -> None:
    box, points = {"box": [5, 5, 35, 25]}, {"points": [[12, 15], [28, 15]], "labels": [1, 0]}
    one_by_one = draw_prompts(draw_prompts(gray(90), **box), **points)
    np.testing.assert_array_equal(draw_prompts(gray(90), **box, **points), one_by_one)


def test_lines_and_markers_grow_with_the_image() -> None:
    small, large = gray(100, 180, 240), gray(100, 1080, 1440)
    for draw in (
        lambda x: draw_prompts(x, [[x.shape[1] / 2, x.shape[0] / 2]], [1]),
        lambda x: draw_prompts(x, box=[10, 10, x.shape[1] - 10, x.shape[0] - 10]),
        lambda x: draw_contours(x, np.indices(x.shape[:2])[1] < x.shape[1] / 2),
    ):
        changed = [(draw(x) != x).any(-1)[x.shape[0] // 2].sum() for x in (small, large)]
        assert 1.5 * changed[0] < changed[1] < 6 * changed[0]


def test_contact_sheet() -> None:
    tiles = [gray(40 * n) for n in range(5)]
    sheet = contact_sheet(tiles, columns=3)
    gap = 1
    assert sheet.shape == (2 * (HEIGHT + gap) + gap, 3 * (WIDTH + gap) + gap, 3)
    for n in range(6):
        top, left = gap + n // 3 * (HEIGHT + gap), gap + n % 3 * (WIDTH + gap)
        part = sheet[top : top + HEIGHT, left : left + WIDTH]
        assert (part == (40 * n if n < 5 else BACKGROUND)).all()
    assert (sheet[0] == BACKGROUND).all()
    assert (sheet[:, gap + WIDTH] == BACKGROUND).all()
    assert contact_sheet(tiles).shape == sheet.shape
    assert contact_sheet(tiles[:1]).shape == (HEIGHT + 2, WIDTH + 2, 3)


def test_titles() -> None:
    tiles = [gray(128, 90, 120)] * 2
    plain = contact_sheet(tiles, columns=2)
    sheet = contact_sheet(tiles, ["frame 0", ""], 2)
    caption = len(sheet) - len(plain)
    assert caption > 10
    title, none = sheet[: caption + 2, :122], sheet[: caption + 2, 122:]
    assert title.max() > 200
    assert (none == BACKGROUND).all()
    assert (sheet[caption + 2 : -2] == plain[2:-2]).all()
    cut = contact_sheet(tiles, ["all that there is to say of it, and more, and more", ""], 2)
    assert (cut[: caption + 2, 122:] == BACKGROUND).all()
    assert (cut[: caption + 2, 80:120] > 200).any()


def test_large_images_are_scaled_to_the_sheet() -> None:
    sheet = contact_sheet([gray(128, 300, 400)] * 6, ["a"] * 6, 3, width=600)
    assert 580 <= sheet.shape[1] <= 600
    assert sheet.shape[0] < 400


def test_palette_image() -> None:
    masks = np.stack([square(0, 0, 10), square(5, 5, 10)])
    file = io.BytesIO()
    mask_to_palette(masks, [3, 255]).save(file, "PNG")
    with Image.open(file) as image:
        assert image.mode == "P"
        values = np.asarray(image)
        assert (values == np.where(masks[1], 255, np.where(masks[0], 3, 0))).all()
        colors = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(colors, davis_palette()[values])
    assert set(np.unique(mask_to_palette(masks))) == {0, 1, 2}
    first = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    np.testing.assert_array_equal(davis_palette()[:7], first)
    assert len(np.unique(davis_palette(), axis=0)) == 256


MASK, IMAGE = square(0, 0, 5), gray(0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: overlay(IMAGE[:20], MASK), PromptError, r"masks are \(30, 40\), the image is \(20, 40\)"),
        (lambda: overlay(IMAGE, MASK[0]), PromptError, r"shape \(40,\); expected \[objects"),
        (lambda: overlay(IMAGE, 5.0 * MASK), PromptError, "of logits give"),
        (lambda: overlay(IMAGE, MASK, alpha=2), PromptError, "alpha is 2"),
        (lambda: overlay(IMAGE, MASK, PALETTE[:2]), PromptError, r"shape \(2, 3\) for 1 masks"),
        (lambda: overlay(IMAGE, MASK, [(0, 0, 300)]), PromptError, "from 0 to 255"),
        (lambda: overlay(IMAGE, MASK, obj_ids=[1, 2]), PromptError, "2 object ids for 1 masks"),
        (lambda: overlay(IMAGE[..., :2], MASK), FrameError, r"expected \[H, W, 3\]"),
        (lambda: draw_contours(IMAGE, MASK, width=0), PromptError, "width is 0"),
        (lambda: draw_prompts(IMAGE), PromptError, "neither points nor a box"),
        (lambda: draw_prompts(IMAGE, [[1, 2]], [1, 0]), PromptError, "1 points and 2 labels"),
        (lambda: draw_prompts(IMAGE, box=[9, 9, 1, 1]), PromptError, "x0 < x1"),
        (lambda: contact_sheet([]), FrameError, "no images"),
        (lambda: contact_sheet([IMAGE, IMAGE[:9]]), FrameError, "image 1 is 40x9 .*, image 0 is 40x30"),
        (lambda: contact_sheet([IMAGE], ["a", "b"]), FrameError, "2 titles and 1 images"),
        (lambda: contact_sheet([IMAGE], columns=0), FrameError, "0 columns"),
        (lambda: contact_sheet([IMAGE] * 9, columns=9, width=12), FrameError, "9 columns in 12 pixels"),
        (lambda: mask_to_palette(MASK, [1, 2]), PromptError, "2 object ids and 1 masks"),
        (lambda: mask_to_palette(MASK, [256]), PromptError, "1 to 255"),
    ],
)
def test_errors(call: Callable[[], object], error: type[EdgeTAMError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
