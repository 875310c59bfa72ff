"""The images and videos of the published numbers, how they are recognised, and the table of results."""

import hashlib
import pathlib

import numpy as np
import pytest
from PIL import Image

from convert.goldens import FRAMES, CheckResult, decode_runs, format_table, gate_image, load_goldens, read_media
from edgetam_jax.errors import FrameError

WIDTH, HEIGHT = 960, 540  # of the published video


def write(path: pathlib.Path, size: tuple[int, int], colour: int = 0) -> pathlib.Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, (colour, colour, colour)).save(path)
    return path


def test_gate_image_is_as_its_masks_expect() -> None:
    image = gate_image()
    assert image.shape == (800, 1200, 3)
    assert (image != 128).any(-1).sum() == 5 * 144
    for check in load_goldens()["checks"]:
        if check["image"] == "gate":
            mask = decode_runs(check["mask"], image.shape[:2])
            x, y = check["points"][0] if "points" in check else np.reshape(check["box"], (2, 2)).mean(0).astype(int)
            assert mask[y, x]
            assert mask[(image != 128).any(-1)].any()


def test_runs() -> None:
    np.testing.assert_array_equal(decode_runs([1, 2, 3, 1, 1], (2, 4)), [[0, 1, 1, 0], [0, 0, 1, 0]])


def test_images_are_known_by_content_or_by_name_and_size(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("truck.jpg", (1800, 1200)), ("car.png", (7, 5)), ("groceries.jpg", (5, 5)), ("x.png", (3, 2))):
        write(tmp_path / name, size)
    images = read_media(sorted(tmp_path.iterdir()))
    assert images.keys() == {"gate", "truck.jpg", "car.png", str(tmp_path / "groceries.jpg"), str(tmp_path / "x.png")}
    assert images["car.png"].shape == (5, 7, 3)
    digest = hashlib.sha256((tmp_path / "x.png").read_bytes()).hexdigest()
    monkeypatch.setitem(load_goldens()["images"]["truck.jpg"], "sha256", digest)
    assert read_media([tmp_path / "x.png"]).keys() == {"gate", "truck.jpg"}
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(FrameError, match=r"broken\.png cannot be read as an image"):
        read_media([tmp_path / "broken.png"])


def test_video_files_are_known_by_name_and_size(tmp_path: pathlib.Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "bedroom.mp4"
    for size, name in (((WIDTH, HEIGHT), "bedroom.mp4"), ((64, 48), str(path))):
        with av.open(str(path), "w") as file:
            stream = file.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for t in range(FRAMES + 2):
                frame = np.full((*size[::-1], 3), 20 * t, np.uint8)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            file.mux(stream.encode())
        media = read_media([path])
        assert media.keys() == {"gate", name}
        assert media[name].shape == (FRAMES, *size[::-1], 3)
        means = media[name].mean((1, 2, 3))
        np.testing.assert_allclose(means, [0, 20, 40], atol=5)


def test_folders(tmp_path: pathlib.Path) -> None:
    """A folder contributes the files that are recognised; a folder with the video's name holds its frames."""
    with pytest.raises(
        FrameError, match=r"holds none of the published pictures; expected one or more of truck\.jpg, .*"
    ):
        read_media([tmp_path])
    write(tmp_path / "truck.jpg", (1800, 1200))
    write(tmp_path / "holiday.jpg", (40, 30))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "more").mkdir()
    for t in range(FRAMES + 1):
        write(tmp_path / "bedroom" / f"{t:05}.png", (WIDTH, HEIGHT), colour=t)
    for paths in ([tmp_path], [tmp_path / "truck.jpg", tmp_path / "bedroom"]):
        media = read_media(paths)
        assert media.keys() == {"gate", "truck.jpg", "bedroom.mp4"}
        assert media["bedroom.mp4"].shape == (FRAMES, HEIGHT, WIDTH, 3)
        assert media["bedroom.mp4"][:, 0, 0, 0].tolist() == [0, 1, 2]


def test_table() -> None:
    results = [("a", "1", "1", True), ("long name", "1", "2", False), ("c", "", "needs d", None)]
    text = format_table(CheckResult(*result) for result in results)
    assert text.splitlines() == [
        "check      expected  got      result",
        "a          1         1        pass",
        "long name  1         2        FAIL",
        "c                    needs d  skip",
        "1 passed, 1 failed, 1 not run",
    ]
