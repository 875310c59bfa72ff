"""Evaluation on synthetic clips: what is asked, of which network, and what is reported."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgetam_jax import Model, Prompt, Prompts, VideoPredictor, save, track
from edgetam_jax.cli import main as cli
from edgetam_jax.data.synthetic import ClipConfig, SyntheticClip, batches
from edgetam_jax.errors import ConfigError
from edgetam_jax.evaluation import held_out
from edgetam_jax.evaluation.baselines import match_box, repeat_mask
from edgetam_jax.evaluation.held_out import PROMPT_KINDS, baselines, evaluate, first_prompts, first_shown, least_pixels
from edgetam_jax.evaluation.protocols import after_clicks
from edgetam_jax.evaluation.provenance import fingerprint
from edgetam_jax.evaluation.summary import evaluate_track, summarize
from tests.parity.pairs import minimal_model
from tests.support.scene import FRAMES, HEIGHT, MINIMAL, WIDTH, clip, disk

CONFIG = ClipConfig(frames=FRAMES, height=HEIGHT, width=WIDTH)


def made(seed: int = 0) -> SyntheticClip:
    """One object from the first frame on, which leaves and comes back, one that is hardly seen, one that comes late."""
    masks = np.zeros((FRAMES, 3, HEIGHT, WIDTH), bool)
    for t in range(FRAMES):
        if t not in (3, 4):
            masks[t, 0] = disk(12 + 3 * t, 14, 7)
        masks[t, 1, 5, 5 : 5 + least_pixels(HEIGHT, WIDTH) - 1] = True
        masks[t, 2] = disk(30 + t, 20, 9) & (t > 1)
    masks[1, 2, 20, 30] = True
    arrays = clip(seed), masks, masks.any((2, 3)), np.zeros((FRAMES, 3, 4), np.int32), np.zeros((FRAMES, 3))
    return SyntheticClip(*map(jnp.asarray, arrays))


@pytest.fixture(scope="module")
def model() -> Model:
    """Random in every tensor, and biased so that it finds all objects."""
    return minimal_model(score_bias=3.0)


@pytest.fixture(scope="module")
def asked() -> Prompts:
    """What a user would say of the first and the last object."""
    first, last = np.asarray(made().masks)[[0, 2], [0, 2]]
    said: list[dict[str, Any]] = [
        {"points": [[12, 14]], "labels": [1]},
        {"points": [[32, 20]], "labels": [1]},
        {"box": [6, 8, 18, 20]},
        {"box": [24, 12, 40, 28]},
        {"mask": first},
        {"mask": last},
    ]
    assert first.any(0).nonzero()[0].tolist() == list(range(6, 19)) and last[20, 24:41].all()
    # With empty rows, so that all tests share a compiled program.
    return Prompts.build([Prompt(**one, frame=2 * (i % 2)) for i, one in enumerate(said)], num_objects=9)


def test_prompts(asked: Prompts) -> None:
    """Each kind for each object, as users would give them; the object that is hardly seen gets none."""
    masks = made().masks
    assert first_shown(masks).tolist() == [0, -1, 2]
    got = first_prompts(masks)
    rows = np.flatnonzero(got.valid[:, 0])
    assert rows.tolist() == [0, 2, 3, 5, 6, 8]
    for name in ("frames", "valid", "points", "labels", "masks", "is_mask"):
        np.testing.assert_array_equal(getattr(got, name)[rows], getattr(asked, name)[:6], err_msg=name)
        assert getattr(got, name).dtype == getattr(asked, name).dtype
    assert least_pixels(256, 256) == 64


def test_results_of_a_network(model: Model, asked: Prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of tracks that the public function gives, whose masks are cut and scored here."""
    clips, scores = [made(0), made(1)], np.random.default_rng(0).normal(size=(FRAMES, 9))
    monkeypatch.setattr(held_out, "track", lambda *args: track(*args)._replace(scores=jnp.asarray(scores)))
    results = evaluate(model, clips)
    want: dict[str, list[Any]] = {kind: [] for kind in PROMPT_KINDS}
    for one in clips:
        tracks = track(one.frames, asked, model)
        masks, truth = np.asarray(tracks.masks((HEIGHT, WIDTH))), np.asarray(one.masks)
        for row, score in enumerate(scores[:, [0, 2, 3, 5, 6, 8]].T):
            o = 2 * (row % 2)
            want[PROMPT_KINDS[row // 2]].append(evaluate_track(masks[:, row], truth[:, o], o, score > 0))
    assert list(results) == list(PROMPT_KINDS)
    for kind, objects in want.items():
        np.testing.assert_equal(results[kind]._asdict(), summarize(objects)._asdict())
        assert results[kind].objects == 4
    jfs = [result.score.jf for result in results.values()]
    assert len(set(jfs)) == 3 and min(jfs) > 0
    shares = [result.absent.value for result in results.values() if result.absent]
    assert len(set(shares)) == 3


def test_results_without_a_network() -> None:
    one = made()
    frames, truth = np.asarray(one.frames), np.asarray(one.masks)
    results = baselines([one])
    for way, follow in (("held still", repeat_mask), ("box's best match", match_box)):
        objects = []
        for o, start in ((0, 0), (2, 2)):
            found = np.concatenate([truth[:start, o], follow(frames[start:], truth[start, o])])
            objects.append(evaluate_track(found, truth[:, o], start))
        np.testing.assert_equal(results[way]._asdict(), summarize(objects)._asdict())
    still, moved = results.values()
    assert 0 < still.score.jf != moved.score.jf and still.absent is None


def test_held_out_keys_are_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    """They differ from each other, and from those of training, also of a recipe with the same seed."""
    keys: list[tuple[int, ...]] = []

    def record_clip(key: Any, config: ClipConfig, *_: Any, **__: Any) -> SyntheticClip:
        jax.debug.callback(lambda data: keys.append(tuple(data.tolist())), jax.random.key_data(key))
        masks = jnp.zeros((config.frames, config.objects, config.height, config.width), bool)
        pixels = jnp.zeros((*masks.shape[:1], *masks.shape[2:], 3), jnp.uint8)
        return SyntheticClip(
            pixels, masks, masks.any((2, 3)), jnp.zeros((*masks.shape[:2], 4), int), jnp.zeros(masks.shape[:2])
        )

    monkeypatch.setattr(held_out, "make_clip", record_clip)
    monkeypatch.setattr(batches, "make_clip", record_clip)
    for number in range(100):
        held_out.held_out_clip(number, CONFIG)
    for seed in (0, 1, held_out.HELD_OUT):
        training = batches.SyntheticBatches(batches.SyntheticConfig(frames=1, least=0.5), 16, 8, seed)
        for _ in range(8):
            next(training)
    jax.effects_barrier()
    assert len(set(keys)) == len(keys) == 100 + 3 * 8 * 8


def test_report(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """It says what was done, and names what is not there by nothing."""
    seen = []
    monkeypatch.setattr(held_out, "held_out_clip", lambda n, config: seen.append((n, config)) or made(n))
    save(model, tmp_path / "model.safetensors")
    sizes = ["--clips", "2", "--frames", str(FRAMES), "--size", "64", "--objects", "2"]
    out = tmp_path / "results.json"
    assert cli.main(["held-out", str(tmp_path / "model.safetensors"), "--out", str(out), *sizes]) == 0
    assert seen == [(n, ClipConfig(frames=FRAMES, height=64, width=64, objects=2)) for n in (0, 1)]

    def refuse(value: str) -> None:
        raise AssertionError(value)

    document = json.loads(out.read_text(), parse_constant=refuse)
    want = evaluate(model, [made(0), made(1)]) | baselines([made(0), made(1)])
    assert list(document["results"]) == list(want)
    for way, result in want.items():
        told = document["results"][way]
        assert told["jf"] == result.score.jf and told["objects"] == 4
        assert told["score"]["j"]["decay"] == result.score.j.decay
        assert told["by_distance"]["1-7"] == {"value": result.by_distance["1-7"].value, "frames": 2 * (6 + 4)}
        assert told["by_distance"]["8-15"] == {"value": None, "frames": 0}
    assert document["results"]["held still"]["absent"] is None
    assert document["clips"]["seed"] == held_out.HELD_OUT and document["clips"]["count"] == 2
    assert document["fingerprint"] == fingerprint(model)
    assert document["network"] == json.loads(json.dumps(MINIMAL.to_dict()))
    shown = [(made(n), o, start) for n in (0, 1) for o, start in ((0, 0), (2, 2))]
    predictor = VideoPredictor(model)
    ious = [after_clicks(predictor, np.asarray(x.frames)[t], np.asarray(x.masks)[t, o]) for x, o, t in shown]
    assert document["after_clicks"] == np.mean(ious, 0).tolist()
    told = capsys.readouterr()
    assert (
        "clips: 100%" in told.err
        and "2/2" in told.err
        and f"after 1 to 3 clicks: {np.mean(ious, 0)[0]:.3f}" in told.out
    )
    jf = want["click"].score.jf
    assert f"click: J&F {jf:.3f}, target 0.80: {jf - 0.8:+.3f}" in told.out


def test_what_cannot_be_evaluated(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for arguments, message in (
        (["--clips", "0"], "expected at least 1 of at least 3"),
        (["--frames", "2"], "expected at least 1 of at least 3"),
        (["--size", "8"], "height is 8"),
        ([], "none"),
        (["--out", str(tmp_path / "no" / "results.json")], "does not exist"),
    ):
        out = [] if "--out" in arguments else ["--out", str(tmp_path / "results.json")]
        assert cli.main(["held-out", str(tmp_path / "none"), *out, *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="expected some of"):
        evaluate(model, [made()], ["scribble"])  # pyright: ignore[reportArgumentType]
