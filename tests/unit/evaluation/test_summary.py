"""Which frames of an object count, and the means over many."""

import math

import numpy as np
import pytest

from edgetam_jax.errors import FrameError
from edgetam_jax.evaluation.measures import boundary_accuracy, region_similarity, statistics
from edgetam_jax.evaluation.summary import TrackMetrics, collect, evaluate_track, has_scored_frames, summarize, table

LENGTH, SIZE = 12, 20


def squares(places: list[int | None]) -> np.ndarray:
    """Masks [T, SIZE, SIZE]: a square at that column, or nothing."""
    masks = np.zeros((len(places), SIZE, SIZE), bool)
    for mask, x in zip(masks, places, strict=True):
        if x is not None:
            mask[4:10, x : x + 6] = True
    return masks


def test_the_frames_that_count() -> None:
    """Prompted on frame 2 of 12: frames 3 to 10. It is gone on 5, 6 and 9, and before it was prompted."""
    truth = squares([None, 1, 1, 2, 3, None, None, 4, 5, None, 6, 7])
    found = squares([9, 9, 9, 2, 4, None, 4, 5, 5, 6, None, 9])
    present = np.array([0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1], bool)
    one = evaluate_track(found, truth, 2, present)
    assert one.distance.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert one.visible.tolist() == [True, True, False, False, True, True, False, True]
    assert one.returned.tolist() == [False, False, False, False, True, True, False, True]
    assert one.present is not None and one.present.tolist() == present[3:11].tolist()
    np.testing.assert_array_equal(one.j, [1, 30 / 42, 1, 0, 30 / 42, 1, 0, 0])
    np.testing.assert_array_equal(one.j, region_similarity(found, truth)[3:11])
    np.testing.assert_array_equal(one.f, boundary_accuracy(found, truth)[3:11])
    assert one.first == 0 and evaluate_track(found, truth, 4).first == 30 / 42
    assert evaluate_track(found, truth, 9).j.shape == (1,) and evaluate_track(found, truth, 9).present is None
    assert [has_scored_frames(start, LENGTH) for start in (-1, 0, 9, 10, 11)] == [False, True, True, False, False]


def random_object(seed: int, length: int, scored: bool) -> TrackMetrics:
    rng = np.random.default_rng(seed)
    visible = rng.random(length) < 0.6
    return TrackMetrics(
        j=rng.random(length),
        f=rng.random(length),
        distance=np.arange(1, length + 1),
        visible=visible,
        returned=visible & (rng.random(length) < 0.5),
        present=rng.random(length) < 0.7 if scored else None,
        first=rng.random(),
    )


def test_means() -> None:
    """Every object weighs the same in the score; in parts of the frames every frame does."""
    objects = [random_object(seed, length, True) for seed, length in enumerate((20, 5, 9))]
    result = summarize(objects)
    assert result.objects == 3
    assert result.first == pytest.approx(np.mean([one.first for one in objects]))
    means = [(one.j.mean() + one.f.mean()) / 2 for one in objects]
    assert result.score.jf == pytest.approx(np.mean(means))
    for measure, found in (("j", result.score.j), ("f", result.score.f)):
        each = [statistics(getattr(one, measure)) for one in objects]
        np.testing.assert_allclose(found, np.mean(each, 0))
    values: dict[str, list[float]] = {name: [] for name in ("1-7", "8-15", "16-23", "back", "absent", "present")}
    for one in objects:
        assert one.present is not None
        for t, distance in enumerate(one.distance):
            jf = (one.j[t] + one.f[t]) / 2
            values["1-7" if distance < 8 else "8-15" if distance < 16 else "16-23"].append(jf)
            if one.returned[t]:
                values["back"].append(jf)
            values["present" if one.visible[t] else "absent"].append(one.present[t] == one.visible[t])
    got = {**result.by_distance, "back": result.returned, "absent": result.absent, "present": result.present}
    for name, each in values.items():
        share = got[name]
        assert share is not None and share.frames == len(each) > 0
        assert share.value == pytest.approx(np.mean(each)), name


def test_methods_are_kept_apart() -> None:
    clips = [
        {"click": [random_object(0, 20, True)], "still": []},
        {"click": [random_object(1, 9, True), random_object(2, 9, True)], "still": [random_object(3, 9, False)]},
    ]
    results = collect(clips)
    assert {method: one.objects for method, one in results.items()} == {"click": 3, "still": 1}
    np.testing.assert_equal(results["still"]._asdict(), summarize(clips[1]["still"])._asdict())
    still = results["still"]
    assert still.absent is None and still.present is None
    assert math.isnan(still.by_distance["16-23"].value) and still.by_distance["16-23"].frames == 0
    lines = table(results).splitlines()
    assert lines[2].split()[:3] == ["still", "1", f"{still.score.jf:.3f}"]
    assert lines[2].split()[9] == "-" and lines[2].split()[-2:] == ["-", "-"]
    assert len(lines[0]) == len(lines[1]) == len(lines[2]) and " - " not in lines[1]
    with pytest.raises(FrameError, match="no object was scored"):
        summarize([])
