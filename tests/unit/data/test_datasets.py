"""Folders of the benchmarks: what is found in them, and what is said where they are not right."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetam_jax.data.datasets import open_dataset, read_ids
from edgetam_jax.errors import FrameError
from tests.unit.evaluation.folders import ids_of, make_davis, make_mose, make_sav, save_frames, save_ids, square


def test_davis(tmp_path: Path) -> None:
    ids = ids_of({1: square(1, 1), 3: square(8, 2), 255: square(8, 8, 2)})
    late = ids_of({1: square(2, 1), 2: square(8, 8)})
    dataset = open_dataset(make_davis(tmp_path, {"bear": [ids, late], "ant": [ids]}))
    assert (dataset.layout, dataset.names, len(dataset)) == ("davis", ("bear", "ant"), 2)
    bear, ant = dataset
    assert [path.name for path in bear.frames] == ["00000.jpg", "00001.jpg"]
    assert list(bear.files) == [0, 1] and len(ant.frames) == 1
    np.testing.assert_array_equal(bear.ids_at(0), ids)
    shown = bear.first_masks()
    assert {obj_id: one.frame for obj_id, one in shown.items()} == {
        1: 0,
        3: 0,
    }  # neither void nor late
    np.testing.assert_array_equal(shown[3].mask, square(8, 2))
    assert bear.object_folders() == {}


def test_mose_and_youtube_vos(tmp_path: Path) -> None:
    """Objects are known from the first annotation that shows them; not all frames have one."""
    here, there = square(1, 1), square(8, 2)
    annotations = {2: ids_of({4: here}), 5: ids_of({4: there, 2: here}), 7: ids_of({2: there})}
    dataset = open_dataset(make_mose(tmp_path, "0a1", 9, annotations))
    assert (dataset.layout, dataset.names) == ("ids", ("0a1",))
    video = dataset.video("0a1")
    shown = video.first_masks()
    assert {obj_id: one.frame for obj_id, one in shown.items()} == {4: 2, 2: 5}
    np.testing.assert_array_equal(shown[2].mask, here)
    of_four = video.masks_of(4)
    assert list(of_four) == [2, 5, 7] and not of_four[7].any()
    np.testing.assert_array_equal(of_four[5], there)
    assert set(video.masks_at(5)) == {2, 4}


def test_sav(tmp_path: Path) -> None:
    """Objects in their own folders may overlap; any value but 0 is the object."""
    here, nowhere = square(1, 1), np.zeros_like(square(0, 0))
    objects = {"000": {0: here, 4: square(2, 1)}, "002": {0: nowhere, 4: here, 8: here}}
    dataset = open_dataset(make_sav(tmp_path / "sav_val", "sav_1", 9, objects))
    assert (dataset.layout, dataset.names) == ("sa-v", ("sav_1",))
    video = dataset.video("sav_1")
    shown = video.first_masks()
    assert {obj_id: one.frame for obj_id, one in shown.items()} == {0: 0, 2: 4}
    np.testing.assert_array_equal(shown[2].mask, here)
    assert video.object_folders() == {0: "000", 2: "002"}
    assert list(video.masks_of(0)) == [0, 4] and not video.masks_of(2)[0].any()


def test_splits(tmp_path: Path) -> None:
    root = make_mose(tmp_path, "a", 1, {0: ids_of({1: square(1, 1)})})
    (root / "valid").rename(root / "train")
    assert open_dataset(root).names == ("a",)  # the only one
    make_mose(root, "b", 1, {0: ids_of({1: square(1, 1)})})
    assert open_dataset(root).names == ("b",)  # the one for validation
    assert open_dataset(root, "train").names == ("a",)
    assert open_dataset(root / "train").names == open_dataset(root / "train", "train").names == ("a",)
    with pytest.raises(FrameError, match="one split by itself; valid is not in it"):
        open_dataset(root / "train", "valid")
    (root / "valid").rename(root / "test")
    with pytest.raises(FrameError, match="say which split; there are test, train"):
        open_dataset(root)
    with pytest.raises(FrameError, match="no split val; there are"):
        open_dataset(root, "val")


def _no_frames(root: Path) -> None:
    for path in (root / "JPEGImages" / "480p" / "bear").iterdir():
        path.unlink()
    (root / "JPEGImages" / "480p" / "bear").rmdir()


def _no_annotations(root: Path) -> None:
    (root / "Annotations" / "480p" / "bear").rename(root / "Annotations" / "480p" / "other")


def _stray_annotation(root: Path) -> None:
    save_ids(root / "Annotations" / "480p" / "bear" / "00007.png", ids_of({}))


def _no_first_annotation(root: Path) -> None:
    (root / "Annotations" / "480p" / "bear" / "00000.png").unlink()


def _empty_annotations(root: Path) -> None:
    for path in (root / "Annotations" / "480p" / "bear").iterdir():
        path.unlink()


def _twice(root: Path) -> None:
    Image.new("RGB", (16, 12)).save(root / "JPEGImages" / "480p" / "bear" / "00000.png")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_frames, "bear has no frames"),
        (_no_annotations, "bear has no annotations"),
        (_stray_annotation, "00007.png: there is no frame of that name"),
        (_no_first_annotation, "00000.jpg, has no annotation"),
        (_empty_annotations, "holds no annotation"),
        (_twice, "two images have one name"),
    ],
)
def test_a_video_that_is_not_whole(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    ids = ids_of({1: square(1, 1)})
    dataset = open_dataset(make_davis(tmp_path, {"ant": [ids], "bear": [ids, ids]}))
    damage(tmp_path)
    assert len(dataset.video("ant").frames) == 1
    with pytest.raises(FrameError, match=message):
        dataset.video("bear")


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="is not a folder"):
        open_dataset(tmp_path / "none")
    save_frames(tmp_path / "video", 1)
    with pytest.raises(FrameError, match="no dataset that is known"):
        open_dataset(tmp_path)
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(FrameError, match="holds no folder"):
        open_dataset(tmp_path)
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    with pytest.raises(FrameError, match="there are none"):
        open_dataset(tmp_path)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("\n")
    with pytest.raises(FrameError, match="names no video"):
        open_dataset(tmp_path)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("bear\n")
    with pytest.raises(FrameError, match="no folder 480p"):
        open_dataset(tmp_path)


def test_objects_without_a_number(tmp_path: Path) -> None:
    root = make_sav(tmp_path, "a", 1, {"cat": {0: square(1, 1)}})
    with pytest.raises(FrameError, match="the number of an object"):
        open_dataset(root).video("a")


def test_annotations_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "ids.png"
    with pytest.raises(FrameError, match="no such file"):
        read_ids(path)
    save_ids(path, np.zeros((200, 200)) + np.arange(200) % 7)
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(FrameError, match="broken"):
        read_ids(path)
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(FrameError, match=r"holds colours \(mode RGB\)"):
        read_ids(path)
    for mode in ("1", "L"):
        Image.new(mode, (4, 4), 1).save(path)
        assert read_ids(path).any()
