"""`edgetam-jax track`: its outputs hold the masks of the predictor, in every format; interruptions and errors."""

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from edgetam_jax import VideoPredictor, load, open_video
from edgetam_jax.cli import main as cli
from edgetam_jax.cli import track
from edgetam_jax.media import outputs
from edgetam_jax.media.visualize import overlay
from edgetam_jax.ops.rle import rle_decode
from tests.support.scene import FRAMES
from tests.unit.cli.conftest import RATE, SIZE

CLICK, BOX, LATE = "1:12,14", "7:22,12,40,28", "1:12,14,3"
FORMATS = ["clip.mp4", "clip.gif", "masks", "masks.json", "masks.npz"]


def run(network: Path, video: Path, *line: str) -> int:
    return cli.main(["track", str(video), "--model", str(network), *line])


def outs(*names: str) -> list[str]:
    return [part for name in names for part in ("--out", name)]


def read(folder: Path = Path()) -> np.ndarray:
    """Masks [T, O, H, W] of the three formats that hold them, which must agree."""
    with np.load(folder / "masks.npz") as file:
        masks, obj_ids = file["masks"], file["obj_ids"].tolist()
    records = json.loads((folder / "masks.json").read_text())
    assert [(r["frame"], r["obj_id"]) for r in records] == [(t, o) for t in range(len(masks)) for o in obj_ids]
    for record, mask in zip(records, masks.reshape(-1, *SIZE), strict=True):
        np.testing.assert_array_equal(rle_decode(record["segmentation"]), mask)
        x, y, width, height = record["bbox"]
        assert record["area"] == mask.sum() == mask[y : y + height, x : x + width].sum()
    files = sorted((folder / "masks").iterdir())
    assert [file.name for file in files] == [f"{t:05d}.png" for t in range(len(masks))]
    for file, at in zip(files, masks, strict=True):
        ids = np.asarray(Image.open(file))
        for obj_id, mask in zip(obj_ids, at, strict=True):
            np.testing.assert_array_equal(ids == obj_id, mask)
    return masks


def test_every_format(network: Path, video: Path, frames: np.ndarray, capsys: pytest.CaptureFixture) -> None:
    assert run(network, video, "--point", CLICK, "--box", BOX, *outs(*FORMATS)) == 0
    printed = capsys.readouterr()
    assert f"{FRAMES}/{FRAMES} frames" in printed.err and "frames/s" in printed.err
    assert all(f"written: {name}" in printed.out for name in FORMATS)

    predictor = VideoPredictor(load(network), non_overlap_masks=True)
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, [[12, 14]], [1])
    predictor.add_new_points_or_box(state, 0, 7, box=[22, 12, 40, 28])
    want = np.stack([logits[:, 0] > 0 for *_, logits in predictor.propagate_in_video(state)])
    masks = read()
    np.testing.assert_array_equal(masks, want)
    assert 0.01 < masks.mean() < 0.9

    with av.open("clip.mp4") as container:
        stream = container.streams.video[0]
        assert stream.frames == FRAMES and float(stream.average_rate or 0) == RATE
    with open_video("clip.mp4") as made, open_video(video) as source:
        assert (made.height, made.width) == (SIZE[0] + 1, SIZE[1] + 1)
        for picture, pixels, at in zip(made, source, masks, strict=True):
            drawn = overlay(pixels, at, obj_ids=[0, 6]).astype(float)
            assert np.abs(picture[: SIZE[0], : SIZE[1]] - drawn).mean() < 16
    with Image.open("clip.gif") as gif:
        assert gif.size == SIZE[::-1]


def test_before_the_first_prompt(network: Path, video: Path, tmp_path: Path) -> None:
    """These frames are tracked backward from it, so that every frame of the input is in the output."""
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps([{"obj_id": 1, "frame": 3, "points": [[12, 14]], "labels": [1]}]))
    assert run(network, video, "--prompts", str(prompts), *outs("masks", "masks.json", "masks.npz")) == 0
    predictor = VideoPredictor(load(network), non_overlap_masks=True)
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 3, 1, [[12, 14]], [1])
    want = {t: logits[:, 0] > 0 for t, _, logits in predictor.propagate_in_video(state, 3, reverse=True)}
    masks = read()
    assert len(masks) == FRAMES
    np.testing.assert_array_equal(masks[:4], np.stack([want[t] for t in range(4)]))
    assert masks[:3].any()


def test_folders_and_gifs(network: Path, video: Path, frames: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{index}.png")
    assert run(network, tmp_path / "frames", "--point", CLICK, "--fps", "10") == 0
    with open_video("frames-track.mp4") as made:
        assert made.fps == 10 and len(made) == FRAMES
    first, *others = map(Image.fromarray, frames)
    first.save("clip.gif", save_all=True, append_images=others, duration=[100, 300] * (FRAMES // 2))
    assert run(network, Path("clip.gif"), "--point", CLICK) == 0
    with open_video("clip-track.mp4") as made:
        want = np.cumsum([0, *[0.1, 0.3] * (FRAMES // 2)])[:FRAMES]
        np.testing.assert_allclose(made.seconds or (), want, atol=1e-3)


def test_interrupted(
    network: Path, video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """After three frames; these are in the outputs, and the video plays."""
    add = outputs._FolderWriter.add

    def stop(writer: Any, result: outputs.FrameResult) -> None:
        add(writer, result)
        if result.frame == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(outputs._FolderWriter, "add", stop)
    before = signal.getsignal(signal.SIGINT)
    assert run(network, video, "--point", CLICK, "--box", BOX, *outs(*FORMATS)) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert "what is done is kept" in capsys.readouterr().err
    assert len(read()) == 3
    with open_video("clip.mp4") as made:
        assert len(list(made)) == 3


def test_a_broken_frame(network: Path, frames: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The frames before it are written."""
    (tmp_path / "frames").mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{index}.png")
    whole = (tmp_path / "frames" / "4.png").read_bytes()
    (tmp_path / "frames" / "4.png").write_bytes(whole[: len(whole) // 2])
    line = ["--point", CLICK, "--box", BOX, *outs("masks", "masks.json", "masks.npz")]
    assert run(network, tmp_path / "frames", *line) == 2
    error = capsys.readouterr().err
    assert "4.png: the image is broken" in error and "The 4 frames before it are written" in error
    assert len(read()) == 4


def test_a_full_disk(
    network: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """After two frames; existing files stay, and no partial output is left."""
    add = outputs._FolderWriter.add

    def fill(writer: Any, result: outputs.FrameResult) -> None:
        if result.frame == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        add(writer, result)

    monkeypatch.setattr(outputs._FolderWriter, "add", fill)
    Path("clip.mp4").write_text("precious")
    there = sorted(tmp_path.iterdir())
    assert run(network, video, "--point", CLICK, "--box", BOX, *outs("masks", "clip.mp4"), "--force") == 2
    error = capsys.readouterr().err
    assert "masks could not be written: No space left on device" in error and "Check the free space" in error
    assert sorted(tmp_path.iterdir()) == there and Path("clip.mp4").read_text() == "precious"


def test_a_folder_without_write_permission(
    network: Path, video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The error comes before the network is loaded."""
    monkeypatch.setattr(track, "open_model", lambda _: pytest.fail("the network is loaded"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert run(network, video, "--point", CLICK, *outs("clip.mp4")) == 2
    assert "nothing can be written to the folder" in capsys.readouterr().err


def test_existing_outputs(network: Path, video: Path, capsys: pytest.CaptureFixture) -> None:
    """They stay, unless --force is given; even then a folder with other files stays."""
    Path("masks").mkdir()
    Path("masks/00009.png").touch()
    Path("clip.mp4").write_text("precious")
    line = ["--point", CLICK, "--box", BOX, *outs("clip.mp4", "masks")]
    assert run(network, video, *line) == 2
    assert "clip.mp4 exists" in capsys.readouterr().err
    assert Path("clip.mp4").read_text() == "precious"
    assert run(network, video, *line, "--force") == 0
    assert len(list(Path("masks").iterdir())) == FRAMES
    Path("masks/notes.txt").write_text("mine")
    assert run(network, video, *line, "--force") == 2
    assert "notes.txt" in capsys.readouterr().err and Path("masks/notes.txt").read_text() == "mine"


def test_mistakes(
    network: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Each is reported in one line before the network is loaded, and leaves no files behind."""
    Path("empty.mp4").touch()
    Path("text.mp4").write_text("not a video")
    Path("cut.mp4").write_bytes(video.read_bytes()[:-200])
    Path("nothing").mkdir()
    monkeypatch.setattr(track, "open_model", lambda _: pytest.fail("the network is loaded"))
    there = sorted(tmp_path.iterdir())
    for path, line, message in (
        ("none.mp4", [], "no such file or folder"),
        ("empty.mp4", [], "the file is empty"),
        ("text.mp4", [], "not a video that can be read"),
        ("cut.mp4", [], "not a video that can be read"),
        ("nothing", [], "holds no images"),
        (video, ["--point", "1:900,14"], "outside the frame of 47x35"),
        (video, ["--point", "1:9,14,99"], "object 1, frame 99: there is no such frame"),
        (video, outs("clip.avi"), "use .mp4, .gif, no suffix, .json, .npz"),
        (video, outs("a.mp4", "a.mp4"), "named twice"),
        (video, outs("none/clip.mp4"), "does not exist"),
        (video, ["--fps", "0"], "expected 1 to 1000"),
    ):
        assert run(network, Path(path), "--point", CLICK, *line) == 2, path
        error = capsys.readouterr().err
        assert any(part in error for part in message.split("|")), error
        assert "Traceback" not in error
    assert run(network, video) == 2
    assert "there is no prompt" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == there
