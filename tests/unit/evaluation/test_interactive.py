"""A dataset segmented by a user who clicks: every object, restartable, over processes."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetam_jax.cli import interactive as command
from edgetam_jax.cli import main as cli
from edgetam_jax.evaluation import interactive
from edgetam_jax.evaluation.protocols import PassResult, Truth, offline, online
from tests.support.checkpoints import SMALL_1024, small_model
from tests.unit.evaluation.folders import HEIGHT, WIDTH, ids_of, make_davis, make_mose, square

FRAMES = 6
FIRST: Truth = {t: square(t, 1) for t in range(FRAMES)}  # moves right by a pixel a frame
SECOND: Truth = {t: square(2 * t, 7) for t in range(FRAMES)}  # by two
OBJECTS = (FIRST, SECOND)
NOTHING = np.zeros((HEIGHT, WIDTH), bool)


class State:
    def __init__(self, video: Any) -> None:
        self.size, self.length = (HEIGHT, WIDTH), len(video)
        self.clicked: list[int] = []
        self.truth: Truth = {}


class Holding:
    """Shows an object as it was on the latest frame that was clicked on, or else on the next."""

    def __init__(self, model: Any = None) -> None:
        self.passes = 0

    def init_state(self, video: Any) -> State:
        return State(video)

    def add_new_points_or_box(self, state: State, frame: int, *args: Any, clear_old_points: bool) -> Any:
        _, ((x, y),), _ = args
        state.truth = state.truth or next(truth for truth in OBJECTS if truth[frame][y, x])
        state.clicked.append(frame)
        return self.get_masks(state, frame)

    def get_masks(self, state: State, frame: int) -> Any:
        if not state.clicked:
            return frame, [], np.zeros((0, 1, HEIGHT, WIDTH))
        before = [at for at in state.clicked if at <= frame]
        mask = state.truth[max(before) if before else min(state.clicked)]
        return frame, [1], np.where(mask, 1.0, -1.0)[None, None]

    def propagate_in_video(self, state: State, start: int) -> Iterator[Any]:
        self.passes += 1
        for frame in range(start, state.length):
            yield self.get_masks(state, frame)


@pytest.fixture(autouse=True)
def _predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "load", lambda path: small_model())
    monkeypatch.setattr(command, "VideoPredictor", Holding)


def dataset(root: Path, names: str = "ab") -> Path:
    """The first video shows both objects, the others the first."""
    both = [ids_of({1: FIRST[t], 2: SECOND[t]}) for t in range(FRAMES)]
    return make_davis(root / "data", {name: both if name == "a" else [(x == 1) * x for x in both] for name in names})


def main(root: Path, *more: str) -> int:
    return cli.main(["interactive", str(root / "data"), "--model", "m", "--out", str(root / "results.json"), *more])


def results(root: Path) -> dict[str, Any]:
    return json.loads((root / "results.json").read_text())


def plain(outcome: PassResult) -> dict[str, Any]:
    return {
        "clicked": list(outcome.clicked),
        "frames": list(outcome.frames),
        "j": outcome.j.tolist(),
        "f": outcome.f.tolist(),
        "jf": outcome.jf,
    }


def expected(protocol: Any, *args: Any) -> dict[str, Mapping[str, list[dict[str, Any]]]]:
    predictor: Any = Holding()
    found = [protocol(predictor, range(FRAMES), truth, *args) for truth in OBJECTS]
    first, second = [[plain(one) for one in (each if isinstance(each, list) else [each])] for each in found]
    return {"a": {"1": first, "2": second}, "b": {"1": first}}


def test_offline(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    dataset(tmp_path)
    assert main(tmp_path, "--frames", "3", "--clicks", "2") == 0
    document, want = results(tmp_path), expected(offline, 3, 2)
    assert document["videos"] == want
    passes = [[outcome["jf"] for outcome in objects] for video in want.values() for objects in video.values()]
    assert [len(each) for each in passes] == [3, 3, 3] and passes[0] != passes[1]
    np.testing.assert_allclose(document["jf"], np.mean(passes, 0))
    assert document["objects"] == 3 and document["corrected"] == 3
    assert document["settings"]["mode"] == "offline" and document["settings"]["clicks"] == 2
    assert f"J&F {', '.join(f'{x:.3f}' for x in document['jf'])}" in capsys.readouterr().out


def test_online(tmp_path: Path) -> None:
    dataset(tmp_path)
    assert main(tmp_path, "--online", "--good", "0.5") == 0
    document, want = results(tmp_path), expected(online, 8, 3, 0.5)
    assert document["videos"] == want
    clicked = [len(objects[0]["clicked"]) for video in want.values() for objects in video.values()]
    assert len(set(clicked)) > 1 and document["corrected"] == pytest.approx(np.mean(clicked))
    assert document["jf"] == [pytest.approx(np.mean([o[0]["jf"] for v in want.values() for o in v.values()]))]


def test_who_was_right_early_stays_so() -> None:
    one, two = [[{"jf": jf, "clicked": list(range(k))} for k, jf in enumerate(jfs, 1)] for jfs in ((0.5, 1), (0.25,))]
    summary = interactive.summarize({"a": {"1": one}, "b": {"1": two}})
    assert summary == {"objects": 2, "jf": [0.375, 0.625], "corrected": 1.5}


def test_starting_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is finished stays, and there is no result before all is."""
    dataset(tmp_path, "abc")
    segmented = []

    def killed(predictor: Any, clip: Any, settings: Any) -> Any:
        segmented.append(clip.name)
        if segmented == ["a", "b"]:
            raise KeyboardInterrupt
        return segment_video(predictor, clip, settings)

    segment_video = interactive.segment_video
    monkeypatch.setattr(interactive, "segment_video", killed)
    assert main(tmp_path) == 130
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["a.json"]
    before = (tmp_path / "results" / "a.json").stat().st_mtime_ns
    assert main(tmp_path) == 0
    assert segmented == ["a", "b", "b", "c"]
    assert (tmp_path / "results" / "a.json").stat().st_mtime_ns == before
    assert sorted(results(tmp_path)["videos"]) == ["a", "b", "c"]


def test_processes_share_the_videos(tmp_path: Path) -> None:
    dataset(tmp_path, "abc")
    assert main(tmp_path, "--process", "1", "--processes", "2") == 0
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["b.json"]
    assert not (tmp_path / "results.json").exists()
    assert main(tmp_path, "--process", "0", "--processes", "2") == 0
    shared = results(tmp_path)
    alone = tmp_path / "alone.json"
    assert cli.main(["interactive", str(tmp_path / "data"), "--model", "m", "--out", str(alone)]) == 0
    assert shared == json.loads(alone.read_text())


def test_other_settings_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    dataset(tmp_path)
    assert main(tmp_path, "--process", "0", "--processes", "2") == 0
    for more in (["--online"], ["--clicks", "1"], ["--good", "0.6"]):
        assert main(tmp_path, *more) == 2
        assert "Choose another output" in capsys.readouterr().err
    for other in (small_model(image_only=True), dataclasses.replace(small_model(), config=SMALL_1024)):
        with monkeypatch.context() as patch:
            patch.setattr(command, "load", lambda path, other=other: other)
            assert main(tmp_path) == 2
        assert "Choose another output" in capsys.readouterr().err
    (tmp_path / "results" / "b.json").write_text("{}")
    assert main(tmp_path) == 2
    assert "b.json is not what this program writes" in capsys.readouterr().err


def test_videos_that_cannot_be_judged(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """They fail, the others are done, and there is no result of all."""
    make_mose(tmp_path / "data", "a", FRAMES, {0: ids_of({1: FIRST[0]})})
    make_mose(tmp_path / "data", "b", FRAMES, {0: ids_of({})})
    make_mose(tmp_path / "data", "c", FRAMES, {t: ids_of({1: FIRST[t]}) for t in (0, 3)})
    assert main(tmp_path) == 1
    told = capsys.readouterr().err
    assert "object 1 is annotated on one frame only" in told and "its annotations show no object" in told
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["c.json"]
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--clicks", "0"], "expected at least 1 of each"),
        (["--good", "1.5"], "expected an IoU"),
        (["--split", "test"], "there is no split test"),
        (["--out", "results"], "ends in .json"),
        (["--out", "no/results.json"], "does not exist"),
    ],
)
def test_nothing_to_start(tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    dataset(tmp_path)
    assert main(tmp_path, *more) == 2
    assert message in capsys.readouterr().err
