"""Which frames and objects make an example, and that masks move with the pixels."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from edgetam_jax.data import PLAIN, Augment, DataConfig, Jitter, make_example, open_training_data
from edgetam_jax.data.augment import FILL, MaskWarp, Warp, recolor, sample_augmentation, warp_image
from edgetam_jax.data.example import sample_clip
from edgetam_jax.data.footage import Footage
from edgetam_jax.errors import ConfigError, FrameError
from tests.unit.data.footage import COLORS, frame_at, make_coco, make_videos, masks_at

SIZE, SIDE = (90, 160), 64
GEOMETRY = dataclasses.replace(PLAIN, flip=0.5, rotation=25, shear=20, scale=(0.8, 1.3), shift=0.1, mosaic=0.5)


class FakeFootage:
    """Footage by the objects that each annotated frame shows, and their shares of it."""

    name = "shown"

    def __init__(self, *frames: dict[int, float]) -> None:
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def area_shares(self, frame: int) -> dict[int, float]:
        return self._frames[frame]

    def read_frames(self, frames: Any, objects: Any, side: int) -> Any:
        raise NotImplementedError


def samples(footage: Footage, count: int = 300, **changes: Any) -> list[Any]:
    options = {"frames": 4, "objects": 2, "stride": 1, "backwards": 0.0, "min_share": 0.01} | changes
    return [sample_clip(footage, **options, rng=np.random.default_rng(seed)) for seed in range(count)]


def test_clips_are_consecutive_frames_with_a_random_stride() -> None:
    found = {tuple(one.frames) for one in samples(FakeFootage(*[{1: 0.5}] * 10), stride=5)}
    want = {tuple(range(start, start + 3 * s + 1, s)) for s in (1, 2, 3) for start in range(10 - 3 * s)}
    assert found == want  # a stride of 4 or 5 is too long for ten frames
    backwards = samples(FakeFootage(*[{1: 0.5}] * 10), backwards=0.3, count=1000)
    assert np.mean([one.frames[0] > one.frames[1] for one in backwards]) == pytest.approx(0.3, abs=0.05)
    assert all(set(np.diff(one.frames)) in ({1}, {-1}) for one in backwards)


def test_short_videos_are_played_forward_and_backward() -> None:
    found = {tuple(one.frames) for one in samples(FakeFootage(*[{1: 0.5}] * 3), frames=6)}
    assert found == {(0, 1, 2, 1, 0, 1), (1, 2, 1, 0, 1, 2), (2, 1, 0, 1, 2, 1), (1, 0, 1, 2, 1, 0)}
    assert {tuple(one.frames) for one in samples(FakeFootage({1: 0.5}), backwards=0.5)} == {(0, 0, 0, 0)}


def test_the_first_frame_shows_all_objects() -> None:
    """Whichever end comes first. Others count neither for the start nor among the objects."""
    frames = [{5: 0.2}, {5: 0.2, 6: 0.001}, {}, {7: 0.2}, {5: 0.3, 7: 0.3, 8: 0.3}, {}, {}]
    found = {(one.frames[0], tuple(one.objects)) for one in samples(FakeFootage(*frames), frames=3, backwards=0.5)}
    pairs = {(4, (a, b)) for a in (5, 7, 8) for b in (5, 7, 8) if a != b}
    assert found == {(0, (5,)), (1, (5,)), (3, (7,))} | pairs
    with pytest.raises(FrameError, match="shown: none of the 2 annotated frames .* shows an object"):
        samples(FakeFootage({}, {1: 0.001}), frames=2)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A frame with two objects of one colour each, and their masks: an ellipse and an angle."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    masks = np.stack(
        [
            (x - 60) ** 2 / 900 + (y - 40) ** 2 / 400 < 1,
            (y > 45) & (y < 82) & (x > 98) & (x < 145) & ~((x > 120) & (y < 62)),
        ]
    )
    return COLORS[masks[0] + 2 * masks[1]], masks


def agrees(image: np.ndarray, masks: np.ndarray) -> None:
    """The objects' colours are where the masks are: how much of each pixel is an object's follows from its colour."""
    palette = np.concatenate([COLORS[:3], [FILL]]).astype(float)
    mixture = np.linalg.solve(np.concatenate([palette.T, np.ones((1, 4))]), np.insert(image.reshape(-1, 3), 3, 1, 1).T)
    for mask, share in zip(masks, mixture[1:3].reshape(2, *image.shape[:2]), strict=True):
        inside = np.asarray(ndimage.binary_erosion(mask, iterations=2), bool)
        around = np.asarray(ndimage.binary_dilation(mask, iterations=2), bool)
        assert (share[inside] > 0.8).all() and (share[~around] < 0.2).all()
        share = np.clip(share, 0, 1) * around  # elsewhere it is what rounding makes of nothing
        assert share.sum() == pytest.approx(mask.sum(), rel=0.05, abs=4)
        if mask.sum() > 100:  # of fewer, single pixels move the middle
            np.testing.assert_allclose(ndimage.center_of_mass(share), ndimage.center_of_mass(mask), atol=0.2)


@pytest.mark.parametrize("seed", range(20))
def test_masks_move_with_the_pixels(seed: int) -> None:
    frame, masks = scene()
    rng = np.random.default_rng(seed)
    warp = sample_augmentation(GEOMETRY, 1, SIZE, rng).warp
    image = warp_image(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR), warp)
    moved = MaskWarp(warp, SIZE, SIDE)(masks)
    if warp.tile is None:
        agrees(np.asarray(image), moved)
        return
    half = SIDE // 2
    column, row = (half * n for n in warp.tile)
    quarters = [np.asarray(image)[y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    for quarter in quarters:
        np.testing.assert_array_equal(quarter, quarters[0])
    agrees(quarters[0], moved[:, row : row + half, column : column + half])
    assert moved.sum() == moved[:, row : row + half, column : column + half].sum() > 0


def test_geometry_is_what_it_says() -> None:
    """Points of the frame go where the parameters say, in pixels of the frame: a turn does not squeeze."""
    only = {
        "rotation": lambda a, b: np.linalg.norm(a) == pytest.approx(np.linalg.norm(b)),
        "scale": lambda a, b: 0.5 <= a[0] / b[0] <= 0.8 and a[0] / b[0] == pytest.approx(a[1] / b[1]),
        "shear": lambda a, b: a[1] == pytest.approx(b[1]),
    }
    values: dict[str, Any] = {"rotation": 90.0, "scale": (0.5, 0.8), "shear": 20.0}
    for name, holds in only.items():
        for seed in range(5):
            warp = sample_augmentation(
                dataclasses.replace(PLAIN, **{name: values[name]}), 1, SIZE, np.random.default_rng(seed)
            ).warp
            assert not np.allclose(warp.matrix, np.eye(2), atol=0.02)
            np.testing.assert_allclose(warp.matrix @ (0.5, 0.5) + warp.offset, 0.5)
            back = np.array([0.3, -0.2])
            aspect = np.array(SIZE[::-1])
            assert holds(back * aspect, warp.matrix @ back * aspect)
    warp = sample_augmentation(dataclasses.replace(PLAIN, shift=0.2), 1, SIZE, np.random.default_rng(0)).warp
    np.testing.assert_array_equal(warp.matrix, np.eye(2))
    assert 0 < np.abs(warp.offset).max() <= 0.2


def test_mirroring_is_exact() -> None:
    frame, masks = scene()
    warp = sample_augmentation(dataclasses.replace(PLAIN, flip=1.0), 1, SIZE, np.random.default_rng(0)).warp
    square = Image.fromarray(frame).resize((SIDE, SIDE))
    np.testing.assert_array_equal(np.asarray(warp_image(square, warp)), np.asarray(square)[:, ::-1])
    plain = MaskWarp(Warp(np.eye(2), np.zeros(2)), SIZE, SIDE)(masks)
    mirrored = MaskWarp(warp, SIZE, SIDE)(masks)
    assert (mirrored[..., ::-1] != plain).mean() < 0.003  # where a middle lies on the border of two pixels
    even = MaskWarp(Warp(np.eye(2), np.zeros(2)), (SIDE, SIDE), SIDE)(masks[:, :SIDE, 40 : 40 + SIDE])
    np.testing.assert_array_equal(even, masks[:, :SIDE, 40 : 40 + SIDE])


def test_colors() -> None:
    """Against their definitions, written out."""
    pixels = np.random.default_rng(0).integers(60, 180, (8, 8, 3), np.uint8)
    image, grey = Image.fromarray(pixels), (pixels @ [0.299, 0.587, 0.114])[..., None]
    mean = (pixels.mean((0, 1)) @ [0.299, 0.587, 0.114]).item()
    for factors, want in [
        ((1.0, 1.0, 1.0), pixels),
        ((1.2, 1.0, 1.0), pixels * 1.2),
        ((1.0, 0.7, 1.0), mean + 0.7 * (pixels - mean)),
        ((1.0, 1.0, 1.4), grey + 1.4 * (pixels - grey)),
        ((1.0, 1.0, 0.0), np.repeat(grey, 3, -1)),
        ((0.9, 1.1, 0.8), 0.9 * (mean + 1.1 * (grey + 0.8 * (pixels - grey) - mean))),
    ]:
        np.testing.assert_allclose(recolor(image, np.array(factors)), want, atol=1.1)
    clip, each = Jitter(0.1, 0.03, 0.0), Jitter(0.0, 0.0, 0.05)
    augment = dataclasses.replace(PLAIN, clip_colors=clip, frame_colors=each)
    colors = np.stack(
        [sample_augmentation(augment, 5, SIZE, np.random.default_rng(seed)).colors for seed in range(200)]
    )
    assert (colors[..., :2] == colors[:, :1, :2]).all() and (colors[:, 1:, 2] != colors[:, :-1, 2]).all()
    np.testing.assert_allclose(np.abs(colors - 1).max((0, 1)), [0.1, 0.03, 0.05], rtol=0.05)
    grays = [
        sample_augmentation(dataclasses.replace(augment, grayscale=0.3), 2, SIZE, np.random.default_rng(s)).colors
        for s in range(400)
    ]
    assert np.mean([(one[:, 2] == 0).all() for one in grays]) == pytest.approx(0.3, abs=0.07)


def test_shares_of_augmentation() -> None:
    drawn = [sample_augmentation(Augment(), 1, SIZE, np.random.default_rng(seed)).warp for seed in range(1000)]
    assert np.mean([warp.tile is not None for warp in drawn]) == pytest.approx(0.1, abs=0.03)
    assert np.mean([np.linalg.det(warp.matrix) < 0 for warp in drawn]) == pytest.approx(0.5, abs=0.05)
    assert {warp.tile for warp in drawn} == {None, (0, 0), (0, 1), (1, 0), (1, 1)}


def resized(number: int) -> np.ndarray:
    return np.asarray(Image.fromarray(frame_at(number)).resize((64, 64), Image.Resampling.BILINEAR))


def test_examples_of_videos(tmp_path: Path) -> None:
    footage = open_training_data(make_videos(tmp_path, {"a": 6}))[0]
    config = DataConfig(str(tmp_path), frames=3, objects=3, backwards=0.0, augment=PLAIN)
    starts, orders = set(), set()
    for seed in range(40):
        frames, masks, valid = (np.asarray(x) for x in make_example(footage, config, 64, np.random.default_rng(seed)))
        assert frames.shape == (3, 64, 64, 3) and frames.dtype == np.uint8
        assert masks.shape == (3, 3, 64, 64) and masks.dtype == bool
        assert valid.tolist() == [True, True, False] and not masks[:, 2].any()
        rows = (2 * np.arange(64) + 1) * 48 // 128  # under the middle of each
        (start,) = (number for number in range(4) if (frames[0] == resized(number)).all())
        order = [0, 1] if (masks[0, 0] == masks_at(start)[0][rows]).all() else [1, 0]
        for t in range(3):
            np.testing.assert_array_equal(masks[t, :2], masks_at(start + t)[order][:, rows])
        starts.add(start)
        orders.add(tuple(order))
    assert starts == {0, 1, 2, 3} and orders == {(0, 1), (1, 0)}


def test_all_frames_of_a_clip_are_changed_alike(tmp_path: Path) -> None:
    footage = open_training_data(make_videos(tmp_path, {"a": 6}))[0]
    config = DataConfig(str(tmp_path), frames=5, objects=2, backwards=0.5, augment=GEOMETRY)
    for seed in range(20):
        frames, masks, _ = (np.asarray(x) for x in make_example(footage, config, 64, np.random.default_rng(seed)))
        colors = [tuple(frames[0][masks[0, o]].mean(0).argsort()) for o in range(2)]
        assert colors[0] != colors[1]
        for t in range(5):
            for o in range(2):
                inside = ndimage.binary_erosion(masks[t, o])
                assert not inside.any() or tuple(frames[t][inside].mean(0).argsort()) == colors[o]


def test_a_video_that_stands_still_goes_on_standing(tmp_path: Path) -> None:
    """However it is warped and coloured."""
    for path in make_videos(tmp_path, {"a": 4}).glob("train/*/a/*.png"):
        path.write_bytes(path.with_name("00000.png").read_bytes())
    footage = open_training_data(tmp_path)[0]
    augment = dataclasses.replace(GEOMETRY, clip_colors=Jitter(0.2, 0.2, 0.2), grayscale=0.5)
    config = DataConfig(str(tmp_path), frames=4, objects=2, augment=augment)
    seen = set()
    for seed in range(10):
        frames, masks, _ = (np.asarray(x) for x in make_example(footage, config, 64, np.random.default_rng(seed)))
        assert masks[0].any() and (masks == masks[0]).all() and (frames == frames[0]).all()
        seen.add(masks[0].any(0).tobytes())
    assert len(seen) == 10


def test_still_images_fill_a_clip(tmp_path: Path) -> None:
    footage = open_training_data(make_coco(tmp_path, 1))[0]
    config = DataConfig(str(tmp_path), frames=3, objects=1)
    frames, masks, valid = (np.asarray(x) for x in make_example(footage, config, 64, np.random.default_rng(3)))
    assert valid.all() and masks[0].any() and (masks == masks[0]).all()
    assert (frames[0] != frames[1]).any()  # their colours are jittered one by one
    assert np.abs(frames[0].astype(int) - frames[1]).max() < 60
    single = make_example(footage, dataclasses.replace(config, frames=1), 64, np.random.default_rng(3))
    assert single.frames.shape == (1, 64, 64, 3)


def test_no_object_is_lost_on_the_first_frame(tmp_path: Path) -> None:
    """What would shift an object out of the frame is not done."""
    footage = open_training_data(make_videos(tmp_path, {"a": 2}))[0]
    away = dataclasses.replace(PLAIN, shift=1.0)
    config = DataConfig(str(tmp_path), frames=1, objects=2, backwards=0.0, augment=away)
    moved = 0
    for seed in range(30):
        frames, masks, valid = (np.asarray(x) for x in make_example(footage, config, 64, np.random.default_rng(seed)))
        assert valid.all() and masks[0].any((1, 2)).all()
        moved += not any((frames[0] == resized(number)).all() for number in (0, 1))
    assert 0 < moved < 30


def test_what_cannot_be_seen_is_named(tmp_path: Path) -> None:
    footage = open_training_data(make_videos(tmp_path, {"tiny": 2}))[0]
    with pytest.raises(FrameError, match="tiny: none of the 2 annotated frames"):
        make_example(footage, DataConfig(str(tmp_path), frames=1), 4, np.random.default_rng(0))


def test_a_video_of_two_sizes(tmp_path: Path) -> None:
    footage = open_training_data(make_videos(tmp_path, {"a": 2}))[0]
    for folder in ("JPEGImages", "Annotations"):
        path = tmp_path / "train" / folder / "a" / "00001.png"
        Image.open(path).resize((40, 30), Image.Resampling.NEAREST).save(path)
    with pytest.raises(FrameError, match=r"a: frames are of \(48, 64\) and of \(30, 40\)"):
        make_example(footage, DataConfig(str(tmp_path), frames=2, backwards=0), 32, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Augment(flip=1.5), "flip is 1.5; expected a share"),
        (lambda: Augment(mosaic=float("nan")), "mosaic is nan"),
        (lambda: Augment(rotation=-1), "rotation is -1; expected degrees"),
        (lambda: Augment(shear=90), "shear is 90; expected degrees, 0 to 80"),
        (lambda: Augment(scale=(2, 1)), r"scale is \(2, 1\)"),
        (lambda: Jitter(contrast=2), "contrast is 2; expected how far"),
        (lambda: DataConfig("a", frames=0), "frames is 0; expected at least 1"),
        (lambda: DataConfig("a", backwards=-0.1), "backwards is -0.1; expected a share"),
        (lambda: DataConfig("a", weight=0), "weight is 0; expected a number above 0"),
    ],
)
def test_impossible_values(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
