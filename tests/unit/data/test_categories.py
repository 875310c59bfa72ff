"""YouTube-VOS: which frames of its objects count, and its four numbers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetam_jax.cli.main import main
from edgetam_jax.data.categories import categories_of, seen_categories
from edgetam_jax.data.datasets import Dataset, open_dataset
from edgetam_jax.errors import FrameError
from edgetam_jax.evaluation.measures import boundary_accuracy, region_similarity, statistics
from edgetam_jax.evaluation.scores import ObjectScore, by_category, score_dataset
from tests.unit.evaluation.folders import ids_of, make_mose, save_ids, square

FRAMES = range(0, 30, 5)  # of 30, those that are annotated


def write_meta(path: Path, categories: Mapping[str, Mapping[int, str]]) -> None:
    videos = {
        name: {"objects": {str(obj_id): {"category": category, "frames": ["00000"]} for obj_id, category in of.items()}}
        for name, of in categories.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"videos": videos}))


def make_youtube_vos(root: Path) -> Dataset:
    """Object 1 from the first frame on, object 2 from frame 10, object 3 only on the last."""
    truth = {t: {1: square(t // 5, 1)} for t in FRAMES}
    for t in FRAMES:
        truth[t] |= {2: square(12 - t // 5, 7)} if t >= 10 else {}
        truth[t] |= {3: square(12, 0, 2)} if t == 25 else {}
    make_mose(root, "a", 30, {t: ids_of(one) for t, one in truth.items()})
    write_meta(root / "valid" / "meta.json", {"a": {1: "penguin", 2: "sloth", 3: "sloth"}, "other": {1: "fox"}})
    for t in FRAMES:
        ids = ids_of({1: square(t // 5, 3), **({2: square(12 - t // 5, 4)} if t >= 15 else {})})
        save_ids(root / "found" / "a" / f"{t:05d}.png", ids if t != 10 else ids_of(truth[t]))
    return open_dataset(root)


def expected(obj_id: int) -> Any:
    """Object 1 on frames 5 to 20, where frame 10 is right; object 2 on 15 and 20."""
    pairs = {
        1: [(square(t // 5, 3 if t != 10 else 1), square(t // 5, 1)) for t in (5, 10, 15, 20)],
        2: [(square(12 - t // 5, 4), square(12 - t // 5, 7)) for t in (15, 20)],
    }[obj_id]
    j, f = (np.array([measure(a, b) for a, b in pairs]) for measure in (region_similarity, boundary_accuracy))
    return ObjectScore("a", obj_id, statistics(j), statistics(f))


def test_objects_count_after_the_frame_that_gives_their_mask(tmp_path: Path) -> None:
    """Object 2 would gain by the right mask on frame 10, which was given."""
    dataset = make_youtube_vos(tmp_path)
    assert score_dataset(dataset, tmp_path / "found") == [expected(1), expected(2)]
    (tmp_path / "valid" / "meta.json").unlink()
    _, late = score_dataset(dataset, tmp_path / "found")
    assert late.j.mean == pytest.approx((1 + 2 * expected(2).j.mean) / 3)


def test_seen_and_unseen(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    dataset = make_youtube_vos(tmp_path)
    found = tmp_path / "found"
    assert main(["scores", str(tmp_path), str(found)]) == 0
    assert "give --seen" in capsys.readouterr().err
    write_meta(tmp_path / "elsewhere.json", {"x": {1: "penguin"}, "y": {1: "fox", 4: "ape"}})
    assert seen_categories(dataset, tmp_path / "elsewhere.json") == {"penguin", "fox", "ape"}
    assert main(["scores", str(tmp_path), str(found), "--seen", str(tmp_path / "elsewhere.json")]) == 0
    one, two = expected(1), expected(2)
    four = one.j.mean, one.f.mean, two.j.mean, two.f.mean
    assert len(set(four)) == 4
    named = zip(("J seen", "F seen", "J unseen", "F unseen", "overall"), (*four, np.mean(four)), strict=True)
    line = ", ".join(f"{name} {value:.3f}" for name, value in named)
    assert capsys.readouterr().out.splitlines()[-1] == line
    write_meta(tmp_path / "train" / "meta.json", {"x": {1: "penguin"}})
    (tmp_path / "train" / "JPEGImages").mkdir()
    assert main(["scores", str(tmp_path), str(found)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == line


def score(obj_id: int, value: float) -> ObjectScore:
    return ObjectScore("a", obj_id, statistics([value] * 3), statistics([value / 2] * 3))


def test_objects_weigh_the_same_among_their_kind() -> None:
    categories = {"a": {1: "fox", 2: "ape", 3: "owl"}}
    split = by_category([score(1, 0.8), score(2, 0.6), score(3, 0.2)], categories, {"fox", "ape"})
    assert (split.seen.j.mean, split.unseen.j.mean) == (pytest.approx(0.7), pytest.approx(0.2))
    assert split.overall == pytest.approx((0.7 + 0.35 + 0.2 + 0.1) / 4)
    with pytest.raises(FrameError, match="what object 4 is"):
        by_category([score(4, 0.5)], categories, {"fox"})
    for seen, message in (({"fox", "ape", "owl"}, "did not show"), (set(), "showed")):
        with pytest.raises(FrameError, match=message):
            by_category([score(1, 0.8), score(2, 0.6)], categories, seen)


@pytest.mark.parametrize("text", ["{", "[]", '{"videos": {"a": {"objects": {"1": {}}}}}', '{"videos": {"a": 1}}'])
def test_a_broken_file(tmp_path: Path, text: str) -> None:
    dataset = make_youtube_vos(tmp_path)
    (tmp_path / "valid" / "meta.json").write_text(text)
    with pytest.raises(FrameError, match="cannot be read"):
        categories_of(dataset)


def test_a_dataset_without_categories(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    dataset = make_youtube_vos(tmp_path)
    (tmp_path / "valid" / "meta.json").unlink()
    assert categories_of(dataset) is None and seen_categories(dataset) is None
    assert main(["scores", str(tmp_path), str(tmp_path / "found"), "--seen", "meta.json"]) == 2
    assert "has no meta.json" in capsys.readouterr().err
