"""Segmenting a dataset: what is asked of the predictor, and what is written."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from edgetam_jax import save
from edgetam_jax.cli import main as cli
from edgetam_jax.cli import vos as command
from edgetam_jax.data.datasets import Dataset, open_dataset, read_ids
from edgetam_jax.evaluation import vos
from edgetam_jax.evaluation.provenance import PROVENANCE_FILE
from edgetam_jax.evaluation.scores import score_dataset
from edgetam_jax.media.palette import davis_palette
from edgetam_jax.model import Model
from edgetam_jax.ops.masks import non_overlapping
from edgetam_jax.types import NO_OBJECT
from tests.parity.pairs import make_pair, with_score_bias
from tests.support.checkpoints import SMALL_1024, small_model
from tests.support.oracle import TINY
from tests.support.tolerances import FLIPPED_PIXELS
from tests.unit.evaluation.folders import ids_of, make_davis, make_mose, make_sav, square

FRAMES = 6


class FakeSession(NamedTuple):
    size: tuple[int, int]
    length: int
    masks: dict[int, np.ndarray]
    prompts: list[tuple[int, int]]  # frame and object
    visited: list[int]


class Standing:
    """A predictor to whom all objects stand still."""

    def __init__(self) -> None:
        self.sessions: list[FakeSession] = []

    def init_state(self, video: Any, keep: str) -> FakeSession:
        assert keep == "nothing"
        self.sessions.append(FakeSession((video.height, video.width), len(video), {}, [], []))
        return self.sessions[-1]

    def add_new_mask(self, state: FakeSession, frame: int, obj_id: int, mask: np.ndarray) -> None:
        state.masks[obj_id] = mask
        state.prompts.append((frame, obj_id))

    def propagate_in_video(
        self, state: FakeSession, start: int, count: int | None
    ) -> Iterator[tuple[int, list[int], Any]]:
        stop = state.length if count is None else start + count + 1
        for frame in range(start, stop):
            state.visited.append(frame)
            logits = np.stack([np.where(mask, 3.0, -3.0) for mask in state.masks.values()])
            yield frame, list(state.masks), logits[:, None]


def run(dataset: Dataset, out: Path, predictor: Any = None) -> int:
    return vos.run(predictor or Standing(), dataset, out)


def written(out: Path) -> Mapping[str, np.ndarray]:
    return {str(path.relative_to(out)): read_ids(path) for path in sorted(out.rglob("*.png"))}


def test_objects_are_given_where_they_come(tmp_path: Path) -> None:
    """In batches, one for each frame where any come, and with masks on all frames, empty before."""
    four, two, nine = square(1, 1), square(8, 2), square(4, 7)
    annotations = {1: ids_of({4: four}), 3: ids_of({4: square(2, 1), 2: two, 9: nine}), 5: ids_of({2: square(9, 2)})}
    dataset = open_dataset(make_mose(tmp_path, "a", FRAMES, annotations))
    predictor = Standing()
    assert run(dataset, tmp_path / "out", predictor) == 0
    assert predictor.sessions[0].prompts == [(1, 4), (3, 2), (3, 9)]
    assert predictor.sessions[0].visited == [1, 2, 3, 4, 5]
    found = written(tmp_path / "out")
    assert list(found) == [f"a/{t:05d}.png" for t in range(FRAMES)]
    want = [{}, {4: four}, {4: four}, *[{4: four, 2: two, 9: nine}] * 3]
    for ids, masks in zip(found.values(), want, strict=True):
        np.testing.assert_array_equal(ids, ids_of(masks))
    with Image.open(tmp_path / "out" / "a" / "00003.png") as image:
        assert image.mode == "P"
        colors = image.getpalette()
    assert colors is not None and colors[:30] == davis_palette().ravel().tolist()[:30]


def test_only_objects_of_the_first_frame_in_davis(tmp_path: Path) -> None:
    ids = [ids_of({1: square(1, 1)}), ids_of({1: square(1, 1), 2: square(8, 8)}), ids_of({1: square(2, 1)}), ids_of({})]
    dataset = open_dataset(make_davis(tmp_path, {"bear": ids}))
    predictor = Standing()
    assert run(dataset, tmp_path / "out", predictor) == 0
    assert predictor.sessions[0].prompts == [(0, 1)]
    (score,) = score_dataset(dataset, tmp_path / "out")
    assert (score.j.mean, score.f.mean) == (pytest.approx((1 + 12 / 20) / 2), pytest.approx(1))


def test_sav_has_a_folder_an_object(tmp_path: Path) -> None:
    """Their masks may overlap."""
    objects = {"000": {0: square(1, 1), 4: square(2, 1)}, "003": {0: square(0, 0, 0), 4: square(2, 2)}}
    dataset = open_dataset(make_sav(tmp_path, "a", FRAMES, objects))
    assert run(dataset, tmp_path / "out") == 0
    found = written(tmp_path / "out")
    assert list(found) == [f"a/{obj}/{t:05d}.png" for obj in objects for t in range(FRAMES)]
    for t in range(FRAMES):
        np.testing.assert_array_equal(found[f"a/000/{t:05d}.png"], square(1, 1))
        np.testing.assert_array_equal(found[f"a/003/{t:05d}.png"], square(2, 2) & (t >= 4))


def test_starting_again(tmp_path: Path) -> None:
    """Finished videos stay as they are, the one that was broken off is done again, and nothing else lies about."""
    ids = [ids_of({1: square(1, 1)})] * 3
    dataset = open_dataset(make_davis(tmp_path, {"ant": ids, "bear": ids, "cat": ids}))

    class Killed(Standing):
        def propagate_in_video(self, *args: Any, **kwargs: Any) -> Iterator[tuple[int, list[int], Any]]:
            for frame, obj_ids, logits in super().propagate_in_video(*args, **kwargs):
                if len(self.sessions) == 2 and frame == 1:
                    raise KeyboardInterrupt
                yield frame, obj_ids, logits

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(dataset, out, Killed())
    assert [path.name for path in out.iterdir()] == ["ant"]
    before = (out / "ant").stat().st_mtime_ns
    predictor = Standing()
    assert run(dataset, out, predictor) == 0
    assert len(predictor.sessions) == 2
    assert (out / "ant").stat().st_mtime_ns == before
    assert sorted(path.name for path in out.iterdir()) == ["ant", "bear", "cat"]
    assert len(written(out)) == 9


def test_processes_share_the_videos(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ids = [ids_of({1: square(1, 1)})] * 2
    dataset = open_dataset(make_davis(tmp_path, dict.fromkeys("abcde", ids)))
    for rank, share in enumerate(("ace", "bd")):
        assert vos.run(Standing(), dataset, tmp_path / "out", (rank, 2)) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("] ")[1][0] for line in lines] == list(share)
        assert lines[0].startswith(f"[process {rank + 1}/2, video 1/{len(share)}]")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == list("abcde")


def test_a_video_that_fails_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ids = [ids_of({1: square(1, 1)})] * 2
    dataset = open_dataset(make_davis(tmp_path, {"empty": [ids_of({})] * 2, "gone": ids, "good": ids}))
    for path in (dataset.images / "gone").iterdir():
        path.unlink()
    assert run(dataset, tmp_path / "out") == 2
    errors = capsys.readouterr().err
    assert "empty: failed: empty: its annotations show no object" in errors
    assert "a mask in black and white needs 1 for white" in errors
    assert "gone: failed: " in errors and "holds no images" in errors
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good"]


def test_nothing_to_start(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_davis(tmp_path, {"a": [ids_of({1: square(1, 1)})]})
    assert cli.main(["vos", str(tmp_path / "none"), str(tmp_path / "out"), "--model", "none"]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert cli.main(["vos", str(tmp_path), str(tmp_path / "out"), "--model", str(tmp_path / "none")]) == 2
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_masks_of_two_networks_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Whatever is different in the network or the kind of dataset; the same goes on, and is scored as ever."""
    ids = [ids_of({1: square(1, 1)})] * 3
    davis, out = make_davis(tmp_path / "davis", {"ant": ids, "bear": ids}), tmp_path / "out"
    mose = make_mose(tmp_path / "mose", "ant", 3, dict(enumerate(ids)))
    monkeypatch.setattr(vos, "VideoPredictor", lambda model, **_: Standing())

    def main(dataset: Path, model: Model, *more: str) -> int:
        monkeypatch.setattr(command, "load", lambda path: model)
        return cli.main(["vos", str(dataset), str(out), "--model", "mine", *more])

    for share in "01":
        assert main(davis, small_model(), "--processes", "2", "--process", share) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert sorted(path.name for path in out.iterdir()) == [PROVENANCE_FILE, "ant", "bear"]
    assert main(davis, small_model()) == 0
    assert capsys.readouterr().out.count("done before") == 2
    others = dataclasses.replace(small_model(), config=SMALL_1024), small_model(image_only=True)
    for told, arguments in (
        ("network.image_size 128; now it is network.image_size 1024", (davis, others[0])),
        ("out was made by mine with weights", (davis, others[1])),
        ("dataset davis; now it is dataset ids", (mose, small_model())),
    ):
        assert main(*arguments) == 2
        shown = capsys.readouterr().err
        assert told in shown and "Choose another output, or delete that folder." in shown
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert len(score_dataset(open_dataset(davis), out)) == 2
    (out / PROVENANCE_FILE).unlink()
    assert main(davis, small_model()) == 2
    assert "holds ant, bear, but not" in capsys.readouterr().err


def test_a_network_as_the_original_is_run(tmp_path: Path, tiny_original: Any) -> None:
    """Each object alone from its first frame on, and then every pixel to the one whose logit is largest.

    The network and the size are those of `test_video`, so that they share compiled programs.
    """
    size, rng = (60, 80), np.random.default_rng(0)
    still = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).resize(size[::-1], Image.Resampling.BICUBIC)
    y, x = np.mgrid[: size[0], : size[1]]
    shown = {1: (0, (x - 30) ** 2 + (y - 25) ** 2 < 200), 2: (2, (x - 45) ** 2 + (y - 35) ** 2 < 200)}
    make_mose(tmp_path, "a", FRAMES, {frame: mask * obj_id for obj_id, (frame, mask) in shown.items()})
    folder = tmp_path / "valid" / "JPEGImages" / "a"
    for frame in range(FRAMES):
        Image.fromarray(np.roll(np.asarray(still), 2 * frame, 1)).save(folder / f"{frame:05d}.jpg")
    model = with_score_bias(make_pair(tiny_original, TINY).model, lambda bias: bias + 2.0)
    save(model, tmp_path / "model.safetensors")
    assert cli.main(["vos", str(tmp_path), str(tmp_path / "out"), "--model", str(tmp_path / "model.safetensors")]) == 0

    logits = np.full((2, FRAMES, *size), NO_OBJECT, np.float32)
    bias = tiny_original.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    before = bias.clone()
    bias.add_(2.0)
    with mock.patch.object(tiny_original, "binarize_mask_from_pts_for_mem_enc", False):
        for obj_id, (start, mask) in shown.items():
            state = tiny_original.init_state(str(folder))
            tiny_original.add_new_mask(state, start, 1, mask)
            for frame, _, found in tiny_original.propagate_in_video(state):
                logits[obj_id - 1, frame] = found[0, 0]
    bias.copy_(before)
    want = np.asarray(non_overlapping(logits)) > 0
    assert (logits > 0).all(0).sum() > 10 * FLIPPED_PIXELS
    assert want[0].any((1, 2)).all() and want[1, 2:].any((1, 2)).all() and not want[1, :2].any()
    assert ((logits[0] > 0) != (logits[1] > 0)).sum((1, 2)).min() > FLIPPED_PIXELS  # an object's own memory shows
    for frame, ids in enumerate(written(tmp_path / "out").values()):
        wrong = (ids != want[0, frame] * 1 + want[1, frame] * 2).sum()
        assert wrong <= FLIPPED_PIXELS, f"frame {frame}: {wrong} pixels"
