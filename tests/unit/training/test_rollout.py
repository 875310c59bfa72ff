"""A rollout tracks as users do, and its losses are those of its predictions, each counted once."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgetam_jax import VideoPredictor, track
from edgetam_jax.data.simulated_user import Plan, User
from edgetam_jax.evaluation.protocols import next_click
from edgetam_jax.model import Model
from edgetam_jax.prompts import Prompts
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank
from edgetam_jax.tracking.step import encode_frames, track_object
from edgetam_jax.training import interaction
from edgetam_jax.training.interaction import RolloutConfig, enlarge
from edgetam_jax.training.losses import object_losses
from edgetam_jax.training.rollout import Rollout, rollout, shrink
from edgetam_jax.types import Label
from tests.support.tolerances import assert_close
from tests.unit.training.network import SIZE, TINY, clips, tiny_model

CLIPS, LENGTH, OBJECTS = 2, 4, 2
USER = User(corrections=1)
RTOL = 1e-5
EXAMPLES = clips(CLIPS, LENGTH)
LABELS = {
    "click": (Label.POSITIVE, Label.NOT_A_POINT, Label.ABSENT),
    "box": (Label.BOX_START, Label.BOX_END, Label.NOT_A_POINT),
    "mask": (Label.ABSENT, Label.ABSENT, Label.ABSENT),
}


def plan_of(prompts: dict[tuple[int, int, int], str], corrected: list[tuple[int, int, int]], user: User = USER) -> Plan:
    """From kinds of prompts and corrections by (clip, object, frame); for each object on up to two frames."""
    lead = CLIPS, OBJECTS, 2
    points = np.zeros((*lead, user.capacity, 2), np.float32)
    labels = np.full((*lead, user.capacity), Label.ABSENT, np.int32)
    masks = np.zeros((*lead, SIZE, SIZE), bool)
    frames, valid, is_mask = np.zeros(lead, np.int32), np.zeros(lead, bool), np.zeros(lead, bool)
    for (clip, o, frame), kind in prompts.items():
        at = clip, o, int(valid[clip, o].sum())
        truth = EXAMPLES.masks[clip, frame, o]
        ys, xs = np.nonzero(truth)
        frames[at], valid[at], is_mask[at] = frame, True, kind == "mask"
        labels[at][:3] = LABELS[kind]
        if kind == "mask":
            masks[at] = truth
        else:
            corners = (xs.min(), ys.min()), (xs.max(), ys.max())
            points[at][:2] = corners if kind == "box" else [(xs.mean(), ys.mean()), (0, 0)]
    again = np.zeros((CLIPS, LENGTH, OBJECTS), bool)
    for clip, o, frame in corrected:
        again[clip, frame, o] = True
    ids = np.tile(np.arange(OBJECTS, dtype=np.int32), (CLIPS, 1))
    return Plan(Prompts(ids, frames, valid, points, labels, masks, is_mask), again)


class Supervised(NamedTuple):
    """The arguments of the losses [B, O, ...]."""

    logits: np.ndarray
    ious: np.ndarray
    score: np.ndarray
    truth: np.ndarray
    visible: np.ndarray
    multimask: np.ndarray


recorded: list[Supervised] = []


@pytest.fixture(scope="module")
def run_rollout() -> Iterator[Any]:
    """A rollout, compiled once, that appends the arguments of every loss to `recorded`, in order."""

    def record(prediction: Any, truth: Any, visible: Any, multimask: Any, weights: Any) -> Any:
        arguments = prediction.logits, prediction.ious, prediction.score, truth, visible, multimask
        jax.debug.callback(lambda *args: recorded.append(Supervised(*map(np.asarray, args))), *arguments, ordered=True)
        return object_losses(prediction, truth, visible, multimask, weights)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interaction, "object_losses", record)
        yield jax.jit(partial(rollout, config=RolloutConfig(USER), remat=False))


def rollout_of(run_rollout: Any, plan: Plan) -> tuple[Rollout, list[Supervised]]:
    recorded.clear()
    result = jax.tree.map(
        np.asarray, run_rollout(tiny_model(), EXAMPLES, plan, jax.random.split(jax.random.key(0), CLIPS))
    )
    jax.effects_barrier()
    return result, list(recorded)


def expected_losses(call: Supervised) -> dict[str, np.ndarray]:
    """[B, O] each, one object at a time, from the formulas, in float64."""
    found = {name: np.zeros(call.visible.shape) for name in ("focal", "dice", "iou", "score", "total")}
    for at in np.ndindex(call.visible.shape):
        truth, sign = call.truth[at], 1 if call.visible[at] else -1
        found["score"][at] = np.log1p(np.exp(-sign * float(call.score[at])))
        options = []
        for mask in (1, 2, 3) if call.multimask[at] else (0,):
            x = call.logits[at][mask].astype(float)
            p = 1 / (1 + np.exp(-x))
            right = np.where(truth, p, 1 - p)
            focal = np.mean(np.where(truth, 0.25, 0.75) * (1 - right) ** 2 * np.logaddexp(0, np.where(truth, -x, x)))
            dice = 1 - (2 * p[truth].sum() + 1) / (p.sum() + truth.sum() + 1)
            iou = ((x > 0) & truth).sum() / max(((x > 0) | truth).sum(), 1)
            options.append((20 * focal + dice, focal, dice, abs(call.ious[at][mask] - iou)))
        if call.visible[at]:
            _, found["focal"][at], found["dice"][at], _ = min(options)
            found["iou"][at] = np.mean([off for *_, off in options])
    found["total"] = 20 * found["focal"] + found["dice"] + found["iou"] + found["score"]
    return found


PLAN = plan_of(
    {(0, 0, 0): "click", (0, 1, 0): "mask", (1, 0, 0): "box", (1, 1, 1): "click", (0, 0, 3): "box"},
    corrected=[(0, 0, 0), (1, 0, 2), (1, 1, 1)],
)


def test_losses_are_those_of_every_prediction(run_rollout: Any) -> None:
    result, calls = rollout_of(run_rollout, PLAN)
    remaining = iter(calls)
    for t in range(LENGTH):
        here = PLAN.prompts.valid & (PLAN.prompts.frames == t)
        masked, corrected = (here & PLAN.prompts.is_mask).any(-1), PLAN.corrected[:, t]
        prompted = here.any(-1) | corrected
        has_memory = (PLAN.prompts.valid & (PLAN.prompts.frames < t)).any(-1)
        want = dict.fromkeys(result.losses._fields, np.zeros((CLIPS, OBJECTS)))
        if prompted.any():
            want = {name: np.where(prompted & ~masked, x, 0) for name, x in expected_losses(next(remaining)).items()}
        if corrected.any():
            again = expected_losses(next(remaining))
            want = {name: x + np.where(corrected, again[name], 0) for name, x in want.items()}
        tracked = next(remaining)
        np.testing.assert_array_equal(tracked.truth, EXAMPLES.masks[:, t])
        assert tracked.multimask[has_memory & ~prompted].all()
        after = expected_losses(tracked)
        for name, x in want.items():
            expected = np.where(prompted, x, np.where(has_memory, after[name], 0))
            assert_close(f"{name} of frame {t}", getattr(result.losses, name)[t], expected, rtol=RTOL)
        np.testing.assert_array_equal(result.tracked[t], prompted | has_memory)
        np.testing.assert_array_equal(result.visible[t], EXAMPLES.masks[:, t].any((-2, -1)))
    assert next(remaining, None) is None


def test_alternative_masks_are_candidates_for_ambiguous_prompts(run_rollout: Any) -> None:
    _, calls = rollout_of(run_rollout, PLAN)
    first, corrected = calls[:2]  # of the first frame: clicked and masked, boxed and nothing yet
    np.testing.assert_array_equal(first.multimask[[0, 1], [0, 0]], [True, False])
    assert not corrected.multimask[0, 0]  # a click and another one


def test_predictions_are_those_of_track(run_rollout: Any) -> None:
    plan = plan_of({(0, 0, 0): "click", (0, 1, 0): "mask", (1, 0, 0): "box"}, corrected=[])
    result, _ = rollout_of(run_rollout, plan)
    for clip in range(CLIPS):
        prompts = jax.tree.map(lambda x, clip=clip: jnp.asarray(x[clip]), plan.prompts)
        tracks = track(EXAMPLES.frames[clip], prompts, _on_device())
        tracked = result.tracked[:, clip]
        assert_close("scores", result.scores[:, clip][tracked], np.asarray(tracks.scores)[tracked], rtol=RTOL)
        masks, truth = np.asarray(tracks.masks((SIZE, SIZE))), EXAMPLES.masks[clip]
        ious = (masks & truth).sum((-2, -1)) / np.maximum((masks | truth).sum((-2, -1)), 1)
        assert_close("IoU", result.ious[:, clip][tracked], ious[tracked], rtol=RTOL)
    np.testing.assert_array_equal(result.tracked, np.tile([[[True, True], [True, False]]], (LENGTH, 1, 1)))


def test_corrections_match_the_interactive_predictor() -> None:
    """Two clicks on a prompted frame and on a tracked one, each in the largest error of the previous prediction.

    The interactive predictor gives the same masks, there and on the following frames.
    """
    user = User(corrections=2, aim="centre", from_truth=0.0)
    plan = plan_of({(0, 0, 0): "click"}, [(0, 0, 0), (0, 0, 2)], user)
    keys = jax.random.split(jax.random.key(0), CLIPS)
    result = jax.jit(partial(rollout, config=RolloutConfig(user)))(tiny_model(), EXAMPLES, plan, keys)
    predictor, truth = VideoPredictor(_on_device()), EXAMPLES.masks[0, :, 0]
    state = predictor.init_state(EXAMPLES.frames[0])
    found = {}

    def correct(frame: int, logits: np.ndarray) -> None:
        for _ in range(user.corrections):
            click = next_click(logits[0, 0] > 0, truth[frame])
            assert click is not None
            added = state, frame, 1, [[click.x, click.y]], [int(click.positive)]
            logits = predictor.add_new_points_or_box(*added, clear_old_points=False)[2]
        found[frame] = logits

    click = plan.prompts.points[0, 0, 0, :1]
    correct(0, predictor.add_new_points_or_box(state, 0, 1, click, [1])[2])
    tracked = {frame: logits for frame, _, logits in predictor.propagate_in_video(state, 0)}
    found[1] = tracked[1]
    correct(2, tracked[2])
    found[3] = {frame: logits for frame, _, logits in predictor.propagate_in_video(state, 3)}[3]
    masks = np.stack([found[t][0, 0] > 0 for t in range(LENGTH)])
    ious = (masks & truth).sum((-2, -1)) / (masks | truth).sum((-2, -1))
    assert len(set(ious.round(3))) == LENGTH and np.any(masks[2] != (tracked[2][0, 0] > 0))
    assert_close("IoU", np.asarray(result.ious)[:, 0, 0], ious, rtol=RTOL)
    # Both are conditioning frames. In the predictor, as in SAM 2's, only prompted frames are.
    prompted, between = state.objects[1].prompt_outputs, state.objects[1].track_outputs[1]
    bank = memory.init(TINY, user.corrected_frames)
    for frame, entry in enumerate((prompted[0].output.memory, between.memory, prompted[2].output.memory)):
        entry = jax.tree.map(jnp.asarray, entry)
        bank = memory.write_recent(bank, frame, entry)
        bank = memory.write_conditioning(bank, frame, entry) if frame in prompted else bank

    @jax.jit
    def last(model: Model, bank: Bank) -> jax.Array:
        features = encode_frames(model, jnp.asarray(EXAMPLES.frames[0, 3]))
        return track_object(model, features, memory.read(bank, jnp.asarray(3), 1, TINY)).mask.score

    want = last(tiny_model(), bank)
    assert abs(state.objects[1].track_outputs[3].score - float(want)) > 20 * RTOL
    assert_close("score", np.asarray(result.scores)[3, 0, 0], np.asarray(want), rtol=RTOL)


def test_remat_saves_less_for_the_backward_pass() -> None:
    """Compared in bytes."""
    keys = jax.random.split(jax.random.key(0), CLIPS)
    examples, plan = jax.tree.map(jnp.asarray, (EXAMPLES, PLAN))

    def total(remat: bool, model: Model) -> jax.Array:
        return rollout(model, examples, plan, keys, RolloutConfig(User(corrections=0)), remat).losses.total.sum()

    def saved(remat: bool) -> int:
        back = jax.eval_shape(lambda model: jax.vjp(partial(total, remat), model)[1], tiny_model())
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(back))

    assert saved(True) < saved(False) / 2


def _on_device() -> Model:
    return jax.tree.map(jnp.asarray, tiny_model())


def test_masks_shrink_by_majority_and_grow_bilinearly() -> None:
    mask = jnp.zeros((1, 8, 8), bool).at[0, :4, :4].set(True)
    np.testing.assert_array_equal(shrink(mask, 4)[0], np.pad(np.ones((2, 2), bool), ((0, 2), (0, 2))))
    np.testing.assert_array_equal(shrink(mask, 8), mask)
    logits = jnp.array([[0.0, 4.0], [8.0, 12.0]])
    np.testing.assert_allclose(enlarge(logits, 4)[0], [0, 1, 3, 4])
    np.testing.assert_allclose(enlarge(logits, 4)[:, 0], [0, 2, 6, 8])
