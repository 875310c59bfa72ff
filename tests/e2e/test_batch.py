"""A folder of videos, tracked by two processes, one of which is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetam_jax import load, save
from edgetam_jax.cli.main import main
from edgetam_jax.data.prompt_files import read_prompts
from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.evaluation.batch import find_names, find_video
from edgetam_jax.evaluation.provenance import PROVENANCE_FILE
from tests.parity.pairs import make_pair, with_score_bias
from tests.support.compiling import IN_SUBPROCESSES, few_optimizations
from tests.support.oracle import TINY
from tests.support.ports import free_port
from tests.support.waiting import HANG_SECONDS, wait_until

VIDEOS, FRAMES = 4, 3


@pytest.fixture(autouse=True, scope="module")
def compiled_fast() -> Iterator[None]:
    with few_optimizations():
        yield


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, tiny_original: Any) -> Path:
    root = tmp_path_factory.mktemp("batch")
    rng = np.random.default_rng(0)
    for index in range(VIDEOS):
        folder = root / "videos" / f"clip{index}"
        folder.mkdir(parents=True)
        for frame in range(FRAMES):
            pixels = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).resize((64, 48))
            pixels.save(folder / f"{frame}.png")
        prompts = [{"obj_id": 3, "box": [10, 8, 40, 40]}, {"obj_id": 5, "points": [[50, 20]], "labels": [1]}]
        folder.with_suffix(".json").write_text(json.dumps(prompts))
    # Biased so that all objects are found.
    model = with_score_bias(make_pair(tiny_original, TINY).model, lambda bias: bias + 3.0)
    save(model, root / "model.safetensors")
    return root


def start(videos: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgetam_jax", "batch", str(videos / "videos"), str(out)]
    return subprocess.Popen(
        [*command, "--model", str(videos / "model.safetensors"), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **IN_SUBPROCESSES},
    )


def pixels(out: Path) -> dict[str, np.ndarray]:
    return {str(path.relative_to(out)): np.asarray(Image.open(path)) for path in sorted(out.glob("*/*.png"))}


@pytest.fixture(scope="module")
def expected(videos: Path) -> dict[str, np.ndarray]:
    """What one process alone writes."""
    out = videos / "alone"
    assert main(["batch", str(videos / "videos"), str(out), "--model", str(videos / "model.safetensors")]) == 0
    found = pixels(out)
    assert len(found) == VIDEOS * FRAMES
    assert set(np.unique(np.stack(list(found.values())))) >= {0, 3}
    return found


def same(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> bool:
    return got.keys() == want.keys() and all(np.array_equal(got[name], want[name]) for name in want)


def start_two(videos: Path, out: Path) -> list[subprocess.Popen]:
    address = f"127.0.0.1:{free_port()}"
    return [
        start(videos, out, "--coordinator", address, "--processes", "2", "--process", str(rank)) for rank in range(2)
    ]


@pytest.mark.slow
def test_two_processes_share_the_work(videos: Path, expected: dict[str, np.ndarray]) -> None:
    out = videos / "together"
    for rank, worker in enumerate(start_two(videos, out)):
        output, _ = worker.communicate(timeout=HANG_SECONDS)
        assert worker.returncode == 0, output
        for index in range(VIDEOS):
            assert (f"clip{index}: {FRAMES} frames" in output) == (index % 2 == rank), output
    assert same(pixels(out), expected)


@pytest.mark.slow
def test_a_killed_worker_loses_only_its_current_video(videos: Path, expected: dict[str, np.ndarray]) -> None:
    """Of two, the other one finishes its share, and a new one the rest."""
    out = videos / "killed"
    survivor, worker = start_two(videos, out)
    wait_until(lambda: (out / "clip1").exists() or worker.poll() is not None, "a worker's first video")
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    output, _ = survivor.communicate(timeout=HANG_SECONDS)
    assert survivor.returncode == 0, output
    done = {folder: folder.stat().st_mtime_ns for folder in out.glob("clip*")}
    assert len(done) < VIDEOS
    assert {out / f"clip{index}" for index in (1, *range(0, VIDEOS, 2))} <= done.keys()
    output, _ = (again := start(videos, out)).communicate(timeout=HANG_SECONDS)
    assert again.returncode == 0, output
    assert same(pixels(out), expected)
    assert all(folder.stat().st_mtime_ns == before for folder, before in done.items())
    assert [path.name for path in out.glob(".*")] == [PROVENANCE_FILE]


def test_masks_of_another_network_are_not_added(
    videos: Path, expected: dict[str, np.ndarray], capsys: pytest.CaptureFixture
) -> None:
    other = videos / "other.safetensors"
    save(with_score_bias(load(videos / "model.safetensors"), lambda bias: bias + 1.0), other)
    shutil.rmtree(videos / "alone" / "clip0")
    line = [str(videos / "videos"), str(videos / "alone"), "--model"]
    assert main(["batch", *line, str(other)]) == 2
    assert f"alone was made by {videos / 'model.safetensors'} with weights" in capsys.readouterr().err
    assert not (videos / "alone" / "clip0").exists()
    assert main(["batch", *line, str(videos / "model.safetensors")]) == 0
    assert capsys.readouterr().out.count("done before") == VIDEOS - 1
    assert same(pixels(videos / "alone"), expected)


def test_prompts_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="not a folder"):
        find_names(tmp_path / "none")
    with pytest.raises(FrameError, match="no JSON file"):
        find_names(tmp_path)
    prompts = tmp_path / "clip.json"
    for text, message in (
        ("[", "cannot be read"),
        ("{}", "a list of prompts"),
        ('[{"obj_id": 1, "point": [[1, 2]]}]', "unknown keys"),
        ('[{"obj_id": 0, "box": [1, 2, 3, 4]}]', "obj_id is 0"),
        ('[{"obj_id": 1, "box": [1, 2, 3, 4]}, {"obj_id": 1, "frame": 0}]', "two prompts"),
    ):
        prompts.write_text(text)
        with pytest.raises(PromptError, match=message):
            read_prompts(prompts)
    with pytest.raises(FrameError, match="found none"):
        find_video(tmp_path, "clip")
    for name in ("clip", "clip.v1"):
        (tmp_path / name).mkdir()
    assert find_video(tmp_path, "clip") == tmp_path / "clip"
    assert find_video(tmp_path, "clip.v1") == tmp_path / "clip.v1"
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(FrameError, match=r"found clip, clip\.mp4"):
        find_video(tmp_path, "clip")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--process", "1"], "go together"),
        (["--coordinator", "localhost:1"], "go together"),
        (["--process", "2", "--processes", "2"], "expected 0 to 1"),
    ],
)
def test_processes_that_cannot_be(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["batch", str(tmp_path), str(tmp_path / "out"), "--model", "none", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_video_that_fails_does_not_stop_the_others(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name, box in (("good", [10, 8, 40, 40]), ("bad", [10, 8, 400, 40])):
        (tmp_path / name).symlink_to(videos / "videos" / "clip0")
        (tmp_path / f"{name}.json").write_text(json.dumps([{"obj_id": 1, "box": box}]))
    assert main(["batch", str(tmp_path), str(tmp_path / "out"), "--model", str(videos / "model.safetensors")]) == 1
    assert "outside the frame" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [PROVENANCE_FILE, "good"]
