"""Datasets of all layouts: what is found in them, and what is said where they are not right."""

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from edgetam_jax.data import open_training_data
from edgetam_jax.data.footage import Footage, FootageSource
from edgetam_jax.data.polygons import polygons_mask
from edgetam_jax.errors import ConfigError, EdgeTAMError, FrameError
from edgetam_jax.media.image import read_square
from edgetam_jax.ops.rle import rle_decode
from tests.unit.data.footage import (
    HEIGHT,
    WIDTH,
    frame_at,
    make_coco,
    make_sa1b,
    make_sav_training,
    make_videos,
    masks_at,
    save_masklets,
    save_mp4,
)
from tests.unit.evaluation.folders import ids_of, make_davis, make_sav, save_ids, square

SIDE = 16


def names(source: FootageSource) -> list[str]:
    return [source[i].name for i in range(len(source))]


def check(footage: Footage, frames: list[int], numbers: list[int], objects: list[int], off: float = 0.0) -> None:
    """Annotated frames show the numbered frames, with both objects and their masks; colours are off by so much."""
    for frame, number in zip(frames, numbers, strict=True):
        shares = footage.area_shares(frame)
        assert shares == pytest.approx(dict(zip(objects, masks_at(number).mean((1, 2)), strict=True)))
    for picture, number in zip(footage.read_frames(frames, objects[::-1], SIDE), numbers, strict=True):
        np.testing.assert_array_equal(picture.masks, masks_at(number)[::-1])
        want = Image.fromarray(frame_at(number)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(picture.image, int) - np.asarray(want, int)).mean() <= off


def test_folders_of_ids(tmp_path: Path) -> None:
    source = pickle.loads(pickle.dumps(open_training_data(make_videos(tmp_path, {"a": 4, "b": 3}))))
    assert names(source) == ["a", "b"] and len(source[0]) == 4
    check(source[0], [0, 2, 3], [0, 2, 3], [1, 2])
    assert names(open_training_data(tmp_path, "train")) == names(open_training_data(tmp_path / "train")) == ["a", "b"]


def test_the_split_for_training_is_meant(tmp_path: Path) -> None:
    ids = ids_of({1: square(1, 1), 255: square(8, 8)})
    make_davis(tmp_path, {"seen": [ids], "held-out": [ids]})
    lists = tmp_path / "ImageSets" / "2017"
    (lists / "val.txt").write_text("held-out\n")
    (lists / "train.txt").write_text("seen\n")
    source = open_training_data(tmp_path)
    assert names(source) == ["seen"] and names(open_training_data(tmp_path, "val")) == ["held-out"]
    assert source[0].area_shares(0) == {1: 16 / ids.size}  # void is nobody


def test_objects_in_their_own_folders(tmp_path: Path) -> None:
    here, there = square(1, 1), square(2, 3)
    source = open_training_data(make_sav(tmp_path, "v", 9, {"000": {0: here, 4: there}, "003": {4: here, 8: here}}))
    (footage,) = [source[i] for i in range(len(source))]
    assert len(footage) == 3  # of nine frames
    assert footage.area_shares(0) == {0: here.mean()} and footage.area_shares(1) == {0: there.mean(), 3: here.mean()}
    first, second = footage.read_frames([0, 1], [3, 0], SIDE)
    np.testing.assert_array_equal(first.masks, [np.zeros_like(here), here])
    np.testing.assert_array_equal(second.masks, [here, there])


@pytest.mark.parametrize("as_file", [False, True])
def test_masklets_of_sav(tmp_path: Path, as_file: bool) -> None:
    source = pickle.loads(pickle.dumps(open_training_data(make_sav_training(tmp_path, "v1", 13, as_file))))
    assert names(source) == ["v1"] and len(source[0]) == 4
    check(source[0], [0, 1, 3], [0, 4, 12], [0, 1], off=6.0 if as_file else 0.0)
    (tmp_path / "sav_000").mkdir()  # as it is unpacked: one folder down
    for path in [p for p in tmp_path.iterdir() if p.name.startswith("v1")]:
        path.rename(tmp_path / "sav_000" / path.name)
    assert names(open_training_data(tmp_path)) == ["v1"]


def test_masklets_that_are_not_whole(tmp_path: Path) -> None:
    """Frames on which an object is not annotated are left out; one that shows nothing is not."""
    make_sav_training(tmp_path, "v", 13, as_file=False)
    nobody = np.zeros((HEIGHT, WIDTH), bool)
    rows = [[masks_at(0)[0]], [None], [nobody], [masks_at(12)[0]]]
    save_masklets(tmp_path / "v_manual.json", rows)
    footage = open_training_data(tmp_path)[0]
    assert len(footage) == 3 and set(footage.area_shares(1)) == {1}
    check(footage, [0, 2], [0, 12], [0, 1])


def test_coco(tmp_path: Path) -> None:
    path = make_coco(tmp_path, 3) / "annotations" / "instances_train2017.json"
    for source in (open_training_data(tmp_path), open_training_data(tmp_path, "train2017"), open_training_data(path)):
        assert names(source) == ["000.png", "001.png", "002.png"]  # the fourth shows nothing
        check(pickle.loads(pickle.dumps(source))[2], [0], [2], [0, 1])
    with pytest.raises(FrameError, match="there is no split val2017; there are train2017"):
        open_training_data(tmp_path, "val2017")


def test_sa1b(tmp_path: Path) -> None:
    source = open_training_data(make_sa1b(tmp_path / "sa_000", 3).parent)
    assert names(source) == ["sa_0.png", "sa_1.png", "sa_2.png"]
    check(pickle.loads(pickle.dumps(source))[2], [0], [2], [0, 1])


def test_polygons_are_those_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for number in range(400):
        height, width = (int(n) for n in rng.integers(3, 60, 2))
        corners = rng.uniform(-8, 70, (rng.integers(3, 10), 2))
        corners = [corners, np.round(corners), np.round(corners, 2), np.repeat(corners, 2, 0)][number % 4]
        (want,) = coco_mask.frPyObjects([corners.ravel().tolist()], height, width)
        np.testing.assert_array_equal(polygons_mask([corners], (height, width)), rle_decode(want))


def test_a_mask_is_the_union_of_its_polygons() -> None:
    polygons = [np.array([[2, 2], [9, 2], [9, 7], [2, 7]]), np.array([[6, 4], [14, 4], [14, 10], [6, 10]])]
    want = np.zeros((12, 16), bool)
    want[2:7, 2:9] = want[4:10, 6:14] = True
    np.testing.assert_array_equal(polygons_mask(polygons, (12, 16)), want)
    assert not polygons_mask([], (12, 16)).any()


def test_polygons_without_pycocotools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_coco(tmp_path, 1)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ConfigError, match="polygons need pycocotools: pip install 'edgetam-jax\\[train\\]'"):
        open_training_data(tmp_path)


@pytest.mark.parametrize("orientation", [1, 6])
def test_images_are_decoded_at_a_reduced_size(tmp_path: Path, orientation: int) -> None:
    """What is shown stays where it was, also where an eighth of the image is not a whole number of pixels."""
    y, x = np.mgrid[:301, :437]
    smooth = np.stack([x * 255 / 436, y * 255 / 300, 128 + 100 * np.sin(x / 60)], -1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95, exif=exif)
    image, size = read_square(tmp_path / "a.jpg", 32)
    assert size == ((301, 437) if orientation == 1 else (437, 301))
    upright = smooth if orientation == 1 else np.rot90(smooth, -1)
    want = np.asarray(Image.fromarray(upright).resize((32, 32), Image.Resampling.BILINEAR), float)
    difference = np.asarray(image, float) - want
    assert np.abs(difference).max() < 5 and np.abs(difference.mean((0, 1))).max() < 0.6


def _no_masks(root: Path) -> None:
    (root / "train" / "Annotations" / "b").rename(root / "b")


def _no_frames(root: Path) -> None:
    (root / "train" / "JPEGImages" / "b").rename(root / "b")


def _too_few_frames(root: Path) -> None:
    (root / "train" / "JPEGImages" / "b" / "00001.png").unlink()


def _broken_frame(root: Path) -> None:
    path = root / "train" / "JPEGImages" / "b" / "00001.png"
    path.write_bytes(path.read_bytes()[:90])


def _other_size(root: Path) -> None:
    save_ids(root / "train" / "Annotations" / "b" / "00001.png", np.ones((20, 30)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_masks, "1 videos have frames, but no masks in .*Annotations: b"),
        (_no_frames, "1 videos have no frames in .*JPEGImages: b"),
        (_too_few_frames, "00001.png: there is no frame of that name"),
        (_broken_frame, "00001.png: the image is broken"),
        (_other_size, r"00001.png: its masks are 30x20 \(width x height\), the frame is 64x48"),
    ],
)
def test_folders_that_are_not_whole(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(make_videos(tmp_path, {"a": 2, "b": 2}))
    with pytest.raises(FrameError, match=message):
        list(open_training_data(tmp_path)[1].read_frames([0, 1], [1], SIDE))


def _sav_without_video(root: Path) -> None:
    (root / "v.mp4").unlink()


def _sav_without_masks(root: Path) -> None:
    save_mp4(root / "w.mp4", 2)


def _sav_cut(root: Path) -> None:
    save_mp4(root / "v.mp4", 8)


def _sav_garbled(root: Path) -> None:
    (root / "v.mp4").write_bytes(b"no video" * 50)


def _sav_torn(root: Path) -> None:
    path = root / "v.mp4"
    path.write_bytes(path.read_bytes()[:900])


def _sav_other(root: Path) -> None:
    (root / "v_auto.json").write_text('{"masklet": {}}')


def _sav_ragged(root: Path) -> None:
    save_masklets(root / "v_auto.json", [[masks_at(0)[0]], []])


def _sav_broken(root: Path) -> None:
    (root / "v_auto.json").write_text('{"masklet": [[{"size": [4, 4], "counts": [1')


def _sav_counts(root: Path) -> None:
    (root / "v_auto.json").write_text(json.dumps({"masklet": [[{"size": [48, 64], "counts": [1, 2]}]] * 4}))


def _sav_polygons(root: Path) -> None:
    (root / "v_auto.json").write_text(json.dumps({"masklet": [[[[1, 2, 3, 4, 5, 6]]]] * 4}))


def _sav_no_pixels(root: Path) -> None:
    (root / "v_auto.json").write_text(json.dumps({"masklet": [[{"size": [0, 64], "counts": []}]] * 4}))


def _sav_sizes(root: Path) -> None:
    save_masklets(root / "v_auto.json", [[np.ones((6, 8), bool)]] * 4)


def _sav_nothing(root: Path) -> None:
    save_masklets(root / "v_auto.json", [[None]] * 4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_sav_without_video, "1 videos of .* have masks, but no frames: v"),
        (_sav_without_masks, r"1 videos of .* have no masks: w\.mp4"),
        (_sav_cut, "has 8 frames; .*v_manual.json has masks of frame 12"),
        (_sav_garbled, "v.mp4: not a video that can be read"),
        (_sav_torn, "v.mp4: not a video that can be read"),
        (_sav_other, "v_auto.json: expected SA-V's masklets"),
        (_sav_ragged, "v_auto.json: the frames have different numbers of objects"),
        (_sav_broken, "v_auto.json: not JSON that can be read"),
        (_sav_counts, "the counts add up to 3; expected 48 x 64"),
        (_sav_polygons, "v_auto.json: expected run-lengths of each object on each frame"),
        (_sav_no_pixels, "the size is 0 x 64 .* expected at least one pixel"),
        (_sav_sizes, "v_manual.json: frame 0: the masks of the objects on this frame differ in size"),
        (_sav_nothing, "no frame has masks of all objects"),
    ],
)
def test_masklets_and_videos_that_do_not_fit(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(make_sav_training(tmp_path, "v", 13, as_file=True))
    with pytest.raises(FrameError, match=message):
        list(open_training_data(tmp_path)[0].read_frames([0, 3], [0, 1], SIDE))


def test_a_missing_image_of_masklets(tmp_path: Path) -> None:
    make_sav_training(tmp_path, "v", 13, as_file=False)
    (tmp_path / "v" / "00008.png").unlink()
    with pytest.raises(FrameError, match="v: the image of frame 8 is missing; .*v_manual.json has its masks"):
        list(open_training_data(tmp_path)[0].read_frames([1, 2], [0], SIDE))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, "1 images of .*train2017.json have masks, but no entry: 0"),
        ({"annotations": []}, "has no masks of objects"),
        ({"annotations": [{"image_id": 0, "segmentation": [[1, 2, 3, 4]]}]}, "has no masks of objects"),
        ({"annotations": [{"image_id": 0}]}, "these are no COCO instances .*KeyError: 'segmentation'"),
        ({"annotations": [{"image_id": 0, "segmentation": [[1, 2, 3]]}]}, "json: image 0: these are no polygons"),
        ({"annotations": [{"image_id": 0, "segmentation": [[1, 2, 3, 4, 5, float("nan")]]}]}, "that are not finite"),
        ({"images": [{"id": 0, "file_name": "none.png", "height": 48, "width": 64}]}, "there is no none.png"),
        ({"images": [{"id": 0, "file_name": 5, "height": 48, "width": 64}]}, "these are no COCO instances .*TypeError"),
        ({"images": [{"id": 0, "file_name": "000.png", "height": 0, "width": 64}]}, "image is 0 high and 64 wide"),
        ({"annotations": [{"image_id": [0], "segmentation": [[1, 2, 3, 4, 5, 6]]}]}, "no COCO instances .*TypeError"),
        (
            {"annotations": [{"image_id": 0, "segmentation": [[1, 2, 3, 4, 5, 1e30]]}]},
            "not finite or far from any",
        ),
        ({"images": [{"id": 0, "file_name": "000.png", "height": 40, "width": 64}]}, "its masks are 64x40"),
    ],
)
def test_coco_that_is_not_right(tmp_path: Path, change: dict, message: str) -> None:
    path = make_coco(tmp_path, 1) / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(EdgeTAMError, match=message):
        list(open_training_data(tmp_path)[0].read_frames([0], [0], SIDE))


def test_coco_without_an_image(tmp_path: Path) -> None:
    make_coco(tmp_path, 3)
    (tmp_path / "train2017" / "002.png").unlink()
    with pytest.raises(FrameError, match="1 images of instances_train2017.json are missing in .*: 002.png"):
        open_training_data(tmp_path)


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (lambda whole: whole[:90], "the image is broken"),
        (lambda whole: b"", "not an image that can be read"),
        (lambda whole: b"no image" * 50, "not an image that can be read"),
    ],
)
def test_broken_images(tmp_path: Path, cut: Callable[[bytes], bytes], message: str) -> None:
    for source in (open_training_data(make_coco(tmp_path / "a", 1)), open_training_data(make_sa1b(tmp_path / "b", 1))):
        (path,) = tmp_path.rglob(source[0].name)
        path.write_bytes(cut(path.read_bytes()))
        with pytest.raises(FrameError, match=f"{source[0].name}: {message}"):
            list(source[0].read_frames([0], [0], SIDE))


def test_sa1b_that_is_not_right(tmp_path: Path) -> None:
    root = make_sa1b(tmp_path / "a", 3)
    (root / "sa_2.json").write_text("[]")
    with pytest.raises(FrameError, match="sa_2.json: expected SA-1B's image with height and width"):
        open_training_data(root)[2]
    (root / "sa_2.json").write_text('{"image": {"height": 0, "width": 64}, "annotations": []}')
    with pytest.raises(FrameError, match=r"sa_2\.json: expected SA-1B's image .*an image is 0 high and 64 wide"):
        open_training_data(root)[2]
    (root / "sa_2.json").unlink()
    with pytest.raises(FrameError, match="1 images have no masks: .*sa_2.png"):
        open_training_data(root)
    (root / "sa_2.png").unlink()
    (root / "sa_1.png").unlink()
    with pytest.raises(FrameError, match="1 files have masks, but no image beside them: .*sa_1.json"):
        open_training_data(root)
    with pytest.raises(FrameError, match="one split by itself; val is not in it"):
        open_training_data(root, "val")


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="none is not a folder; expected a dataset"):
        open_training_data(tmp_path / "none")
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(FrameError, match="no dataset that is known here; expected JPEGImages .*COCO.*SA-1B"):
        open_training_data(tmp_path)
