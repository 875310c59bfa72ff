"""Which frames and objects count, and how they are averaged."""

from pathlib import Path

import numpy as np
import pytest

from edgetam_jax.cli.main import main
from edgetam_jax.data.datasets import open_dataset
from edgetam_jax.errors import FrameError
from edgetam_jax.evaluation.measures import boundary_accuracy, region_similarity, statistics
from edgetam_jax.evaluation.scores import ObjectScore, average, by_video, measure, score_dataset, table
from tests.unit.evaluation.folders import HEIGHT, WIDTH, ids_of, make_davis, make_mose, make_sav, save_ids, square

FRAMES = 7
NOTHING = np.zeros((HEIGHT, WIDTH), bool)


def path_of(obj_id: int, frame: int) -> np.ndarray:
    return square(frame + obj_id, 2 * obj_id)


def found_of(obj_id: int, frame: int) -> np.ndarray:
    """Further and further off."""
    return square(frame + obj_id, 2 * obj_id + frame // 3)


def expected(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[list[float], list[float]]:
    j = [float(region_similarity(found, truth)) for found, truth in pairs]
    f = [float(boundary_accuracy(found, truth)) for found, truth in pairs]
    assert 0 < np.mean(j) < 1 and np.std(j) > 0
    return j, f


def test_davis(tmp_path: Path) -> None:
    """Objects of the first annotation up to the largest id, on all frames but the first and last; void is nobody."""
    truth = [{1: path_of(1, t), 3: path_of(3, t), 255: square(14, 0, 2)} for t in range(FRAMES)]
    found = [{1: found_of(1, t)} | ({3: found_of(3, t)} if t != 4 else {}) for t in range(FRAMES)]
    found[0] = found[-1] = {1: NOTHING}
    dataset = open_dataset(make_davis(tmp_path, {"bear": [ids_of(one) for one in truth]}))
    for t, one in enumerate(found):
        save_ids(tmp_path / "found" / "bear" / f"{t:05d}.png", ids_of(one))
    scores = score_dataset(dataset, tmp_path / "found")
    assert [(one.video, one.obj_id) for one in scores] == [("bear", 1), ("bear", 2), ("bear", 3)]
    for obj_id in (1, 3):
        pairs = [(found[t].get(obj_id, NOTHING), truth[t][obj_id]) for t in range(1, FRAMES - 1)]
        # Objects drawn later hide earlier ones in both images alike.
        pairs = [(a & (ids_of(found[t + 1]) == obj_id), b) for t, (a, b) in enumerate(pairs)]
        j, f = expected(pairs)
        assert scores[obj_id - 1].j == statistics(j) and scores[obj_id - 1].f == statistics(f)
    assert scores[1].j == scores[1].f == (1.0, 1.0, 0.0)  # the gap among the ids: empty, and found empty
    assert scores[2].j.recall < 1


def test_other_datasets_score_objects_from_where_they_are_seen(tmp_path: Path) -> None:
    """Object 2 comes on frame 4, found one frame early; 9 is never true, 5 only where nothing counts, 255 nobody."""
    truth = {t: {1: path_of(1, t)} for t in range(FRAMES)}
    truth |= {t: truth[t] | {2: square(9, 7, 3)} for t in (4, 5)}
    truth[FRAMES - 1] = truth[FRAMES - 1] | {5: square(12, 8, 3)}
    truth = {t: one | {255: square(14, 10, 2)} for t, one in truth.items()}
    found = {t: {1: found_of(1, t), 9: square(13, 0, 2)} for t in range(FRAMES)}
    found |= {t: found[t] | {2: square(9 + t % 2, 7, 3)} for t in (3, 4, 5)}
    dataset = open_dataset(make_mose(tmp_path, "a", FRAMES, {t: ids_of(one) for t, one in truth.items()}))
    for t, one in found.items():
        save_ids(tmp_path / "found" / "a" / f"{t:05d}.png", ids_of(one))
    one, two = score_dataset(dataset, tmp_path / "found")
    assert (one.obj_id, two.obj_id) == (1, 2)
    j, f = expected([(found_of(1, t), path_of(1, t)) for t in range(1, FRAMES - 1)])
    assert one.j == statistics(j) and one.f == statistics(f)
    j, f = expected([(found[t][2], truth[t].get(2, NOTHING)) for t in (3, 4, 5)])
    assert j[0] == 0 and two.j == statistics(j) and two.f == statistics(f)
    # SA-V's own scorer on these masks, which knows no 255.
    np.testing.assert_allclose([(x.j.mean, x.f.mean) for x in (one, two)], [(0.76, 1), (0.5, 2 / 3)], atol=1e-9)


def test_sav(tmp_path: Path) -> None:
    """By object; only annotated frames count, but for each object's first and last."""
    objects = {
        "000": {t: path_of(1, t) for t in (0, 2, 4, 6)},
        "001": {t: path_of(2, t) if t > 2 else NOTHING for t in (0, 2, 3, 4, 5)},
    }
    dataset = open_dataset(make_sav(tmp_path, "a", FRAMES, objects))
    for name, obj_id in (("000", 1), ("001", 2)):
        for t in range(FRAMES):
            mask = found_of(obj_id, t) if obj_id == 1 or t > 2 else NOTHING
            save_ids(tmp_path / "found" / "a" / name / f"{t:05d}.png", mask * 1)
    first, second = score_dataset(dataset, tmp_path / "found")
    assert (first.obj_id, second.obj_id) == (0, 1)
    for score, obj_id, frames in ((first, 1, (2, 4)), (second, 2, (3, 4))):
        j = [float(region_similarity(found_of(obj_id, t), path_of(obj_id, t))) for t in frames]
        f = [float(boundary_accuracy(found_of(obj_id, t), path_of(obj_id, t))) for t in frames]
        assert score.j == statistics(j) and score.f == statistics(f)
    # SA-V's own scorer on these masks.
    np.testing.assert_allclose([(x.j.mean, x.f.mean) for x in (first, second)], [(0.8, 1), (0.6, 1)], atol=1e-9)


def test_every_object_weighs_the_same() -> None:
    def score(video: str, obj_id: int, value: float) -> ObjectScore:
        return ObjectScore(video, obj_id, statistics([value] * 3), statistics([value / 2] * 3))

    scores = [score("a", 1, 0.9), score("a", 2, 0.6), score("b", 1, 0.3)]
    assert average(scores).j.mean == pytest.approx(0.6)
    assert average(scores).jf == pytest.approx((0.6 + 0.3) / 2)
    assert average(scores).j.recall == pytest.approx(2 / 3)
    assert {video: one.j.mean for video, one in by_video(scores).items()} == pytest.approx({"a": 0.75, "b": 0.3})
    lines = table(scores).splitlines()
    assert len(lines) == 1 + 1 + 2 + 3
    assert lines[1].split() == ["all", "objects", "0.450", "0.600", "0.667", "0.000", "0.300", "0.000", "0.000"]
    with pytest.raises(FrameError, match="no object was scored"):
        average([])


def test_masks_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ids = ids_of({1: square(1, 1)})
    make_davis(tmp_path, {"bear": [ids] * 4})
    masks, found = tmp_path / "masks", tmp_path / "masks" / "bear"
    save_ids(found / "00001.png", ids)
    arguments = [str(tmp_path), str(masks)]
    assert main(["scores", *arguments]) == 2
    assert "00002.png is missing" in capsys.readouterr().err
    save_ids(found / "00002.png", ids[:-1])
    assert main(["scores", *arguments]) == 2
    assert "a mask is (11, 16)" in capsys.readouterr().err
    save_ids(found / "00002.png", ids_of({2: square(1, 1)}))
    assert main(["scores", *arguments]) == 2
    assert "masks are of objects [2]; expected none but [1]" in capsys.readouterr().err
    save_ids(found / "00002.png", ids)
    assert main(["scores", *arguments]) == 0
    assert "bear" in capsys.readouterr().out


def test_too_few_annotations(tmp_path: Path) -> None:
    """As MOSE's and YouTube-VOS's parts for validation have them: those are scored by their servers."""
    dataset = open_dataset(make_mose(tmp_path, "a", 5, {0: ids_of({1: square(1, 1)})}))
    with pytest.raises(FrameError, match="1 frames are annotated"):
        score_dataset(dataset, tmp_path)


def test_no_object_on_the_frames() -> None:
    blank = np.zeros((4, 4), np.uint8)
    assert measure([(blank, blank)]) == {}
    assert measure([], [1])[1].shape == (2, 0)
