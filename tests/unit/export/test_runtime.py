"""The runtime that can be copied out, against this package."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from edgetam_jax import Model, Prompts, init_state, track_step
from edgetam_jax import Prompt as JaxPrompt
from edgetam_jax.export import runtime
from edgetam_jax.export.api import export
from edgetam_jax.export.runtime import ExportedFilesError, Prompt, Tracker
from edgetam_jax.export.runtime import resize as runtime_resize
from edgetam_jax.ops import resize
from tests.support.scene import HEIGHT, WIDTH, clip, disk

RUN = Path(__file__).parents[2] / "support" / "run_runtime.py"
IDS = 3, 8, 9


@pytest.fixture
def copy(onnx_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(onnx_folder, tmp_path / "copy"))


def test_a_copy_tracks_without_jax(onnx_folder: Path, model: Model, tmp_path: Path) -> None:
    frames, mask = clip(0), disk(30, 20, 9)
    shutil.copytree(Path(runtime.__file__).parent, tmp_path / "runtime")
    np.savez(tmp_path / "in.npz", frames=frames, mask=mask)
    command = [sys.executable, str(RUN), str(tmp_path), str(onnx_folder), "in.npz", "out.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    got = np.load(tmp_path / "out.npz")

    first = [
        JaxPrompt(points=[[12, 14]], labels=[1], obj_id=3),
        JaxPrompt(box=[22, 12, 40, 28], obj_id=8),
        JaxPrompt(mask=mask, obj_id=9),
    ]
    later = [JaxPrompt(points=[[20, 14], [40, 3]], labels=[1, 0], obj_id=3, frame=2)]
    state, largest = init_state(model, len(IDS)), 0.0
    for t, frame in enumerate(frames):
        prompts = Prompts.build(first if t == 0 else later, obj_ids=IDS) if t in (0, 2) else None
        state, tracks = track_step(model, state, frame, prompts)
        want = np.asarray(tracks.logits[0])
        largest = max(largest, np.abs(want[want != -1024]).max(initial=0))
        assert np.abs(got["logits"][t] - want).max() <= 1e-5 * largest
        sure = np.abs(np.asarray(resize.resize_logits(want, frame.shape[:2]))) > 1e-2
        np.testing.assert_array_equal(got["masks"][t][sure], np.asarray(tracks.masks(frame.shape[:2]))[0][sure])


@pytest.mark.parametrize("shape", [(36, 48), (64, 64), (131, 97), (20, 300)])
def test_images_are_resized_as_by_pillow(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*shape, 3), np.uint8)
    np.testing.assert_array_equal(runtime_resize.resize_bicubic(image, 64), resize.bicubic_uint8(image, (64, 64)))
    mask = image[..., 0] > 128
    want = jax.image.resize(mask.astype(np.float32), (64, 64), "linear", antialias=True)
    np.testing.assert_allclose(runtime_resize.resize_linear(mask, 64), want, atol=1e-6)
    logits = 50 * rng.normal(size=(16, 16)).astype(np.float32)
    np.testing.assert_allclose(
        runtime_resize.resize_logits(logits, shape), resize.resize_logits(logits, shape), atol=1e-4
    )


def test_objects_come_and_go(onnx_folder: Path) -> None:
    frames, tracker = clip(0), Tracker(onnx_folder, threads=1)
    assert tracker.step(frames[0]) == {}
    click = Prompt(points=[[12, 14]], labels=[1])
    alone = tracker.step(frames[1], {3: click})[3]
    saved = tracker.state()
    both = tracker.step(frames[2], {8: Prompt(box=[22, 12, 40, 28])})
    assert set(both) == {3, 8} and tracker.obj_ids == [3, 8]
    tracker.restore(saved)
    again = tracker.step(frames[2])
    assert set(again) == {3}
    np.testing.assert_array_equal(again[3].logits, both[3].logits)
    tracker.init()
    np.testing.assert_array_equal(tracker.step(frames[1], {3: click})[3].logits, alone.logits)
    tracker.forget(3)
    assert tracker.step(frames[2]) == {}


def test_images_are_segmented(onnx_folder: Path) -> None:
    result = Tracker(onnx_folder).segment(clip(0)[0], Prompt(box=[22, 12, 40, 28]), multimask=False)
    assert result.mask.shape == (HEIGHT, WIDTH) and 0 <= result.iou <= 1


def damage(copy: Path) -> None:
    data = bytearray((copy / "track.onnx").read_bytes())
    data[len(data) // 2] ^= 255
    (copy / "track.onnx").write_bytes(data)


def change_version(copy: Path) -> None:
    spec = json.loads((copy / "edgetam.json").read_text())
    (copy / "edgetam.json").write_text(json.dumps(spec | {"version": 99}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage, "track.onnx is not the file.*Export again"),
        (lambda copy: shutil.copy(copy / "decode.onnx", copy / "encode.onnx"), "encode.onnx is not the file"),
        (lambda copy: (copy / "encode.onnx").unlink(), "encode.onnx is missing"),
        (lambda copy: (copy / "edgetam.json").unlink(), "not an export of edgetam-jax"),
        (lambda copy: (copy / "edgetam.json").write_text("[]"), "not an export of edgetam-jax"),
        (change_version, "this runtime reads"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(copy: Path, change, message: str) -> None:
    change(copy)
    with pytest.raises(ExportedFilesError, match=message):
        Tracker(copy)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        None,
    ],
)
def test_frames_of_another_kind_are_refused(onnx_folder: Path, frame) -> None:
    with pytest.raises(ExportedFilesError, match="expected uint8"):
        Tracker(onnx_folder).step(frame)


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(),
        Prompt(points=[[1, 1]]),
        Prompt(points=[[1, 99]], labels=[1]),
        Prompt(points=[[1, 1]] * 4, labels=[1] * 4),
        Prompt(mask=np.zeros((HEIGHT, WIDTH), bool)),
        Prompt(mask=np.ones((4, 4), bool)),
    ],
)
def test_prompts_that_do_not_fit_are_refused(onnx_folder: Path, prompt: Prompt) -> None:
    tracker = Tracker(onnx_folder)
    with pytest.raises(ExportedFilesError, match="expected"):
        tracker.step(clip(0)[0], {1: prompt})
    assert tracker.obj_ids == []


def test_a_missing_package_is_named(onnx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportedFilesError, match="pip install onnxruntime"):
        Tracker(onnx_folder).step(clip(0)[0])


def test_another_state_is_refused(onnx_folder: Path) -> None:
    tracker = Tracker(onnx_folder)
    with pytest.raises(ExportedFilesError, match="another network's"):
        tracker.restore({"fingerprint": "0", "objects": {}})
    with pytest.raises(ExportedFilesError, match="other arrays"):
        tracker.restore(tracker.state() | {"objects": {1: {"frame": np.zeros(1, np.int32)}}})


def test_an_export_for_images_does_not_track(model: Model, tmp_path: Path) -> None:
    video_only = {"memory_attention", "memory_encoder", "spatial_perceiver", "obj_ptr_proj"}
    params = {name: value for name, value in model.params.items() if name not in video_only}
    spec = export(dataclasses.replace(model, params=params), tmp_path / "images")
    assert set(spec["programs"]) == {"encode", "decode"}
    tracker = Tracker(tmp_path / "images")
    assert tracker.segment(clip(0)[0], Prompt(points=[[12, 14]], labels=[1])).mask.shape == (HEIGHT, WIDTH)
    with pytest.raises(ExportedFilesError, match="still images"):
        tracker.step(clip(0)[0])
