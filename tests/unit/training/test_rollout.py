"""A lesson is tracking as users have it, and its losses are those of its answers, each counted as often as given."""

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
from edgetam_jax.training import interaction as talk
from edgetam_jax.training.interaction import RolloutConfig, enlarge
from edgetam_jax.training.losses import losses
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


def plan_of(said: dict[tuple[int, int, int], str], corrected: list[tuple[int, int, int]], user: User = USER) -> Plan:
    """From what is said, and corrected, by (clip, object, frame); of each object on up to two frames."""
    lead = CLIPS, OBJECTS, 2
    points = np.zeros((*lead, user.capacity, 2), np.float32)
    labels = np.full((*lead, user.capacity), Label.ABSENT, np.int32)
    masks = np.zeros((*lead, SIZE, SIZE), bool)
    frames, valid, is_mask = np.zeros(lead, np.int32), np.zeros(lead, bool), np.zeros(lead, bool)
    for (clip, o, frame), kind in said.items():
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


class Answer(NamedTuple):
    """What the losses were asked about, [B, O, ...]."""

    logits: np.ndarray
    ious: np.ndarray
    score: np.ndarray
    truth: np.ndarray
    visible: np.ndarray
    multimask: np.ndarray


heard: list[Answer] = []


@pytest.fixture(scope="module")
def teach() -> Iterator[Any]:
    """A lesson, compiled once, that notes every answer in `heard`, in their order."""

    def overheard(prediction: Any, truth: Any, visible: Any, multimask: Any, weights: Any) -> Any:
        told = prediction.logits, prediction.ious, prediction.score, truth, visible, multimask
        jax.debug.callback(lambda *args: heard.append(Answer(*map(np.asarray, args))), *told, ordered=True)
        return losses(prediction, truth, visible, multimask, weights)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(talk, "losses", overheard)
        yield jax.jit(partial(rollout, course=RolloutConfig(USER), remat=False))


def lesson_of(teach: Any, plan: Plan) -> tuple[Rollout, list[Answer]]:
    heard.clear()
    lesson = jax.tree.map(np.asarray, teach(tiny_model(), EXAMPLES, plan, jax.random.split(jax.random.key(0), CLIPS)))
    jax.effects_barrier()
    return lesson, list(heard)


def cost_of(answer: Answer) -> dict[str, np.ndarray]:
    """[B, O] each, one object at a time, from the formulas, in float64."""
    found = {name: np.zeros(answer.visible.shape) for name in ("focal", "dice", "iou", "score", "total")}
    for at in np.ndindex(answer.visible.shape):
        truth, sign = answer.truth[at], 1 if answer.visible[at] else -1
        found["score"][at] = np.log1p(np.exp(-sign * float(answer.score[at])))
        options = []
        for mask in (1, 2, 3) if answer.multimask[at] else (0,):
            x = answer.logits[at][mask].astype(float)
            p = 1 / (1 + np.exp(-x))
            right = np.where(truth, p, 1 - p)
            focal = np.mean(np.where(truth, 0.25, 0.75) * (1 - right) ** 2 * np.logaddexp(0, np.where(truth, -x, x)))
            dice = 1 - (2 * p[truth].sum() + 1) / (p.sum() + truth.sum() + 1)
            iou = ((x > 0) & truth).sum() / max(((x > 0) | truth).sum(), 1)
            options.append((20 * focal + dice, focal, dice, abs(answer.ious[at][mask] - iou)))
        if answer.visible[at]:
            _, found["focal"][at], found["dice"][at], _ = min(options)
            found["iou"][at] = np.mean([off for *_, off in options])
    found["total"] = 20 * found["focal"] + found["dice"] + found["iou"] + found["score"]
    return found


PLAN = plan_of(
    {(0, 0, 0): "click", (0, 1, 0): "mask", (1, 0, 0): "box", (1, 1, 1): "click", (0, 0, 3): "box"},
    corrected=[(0, 0, 0), (1, 0, 2), (1, 1, 1)],
)


def test_losses_are_those_of_every_answer(teach: Any) -> None:
    lesson, answers = lesson_of(teach, PLAN)
    told = iter(answers)
    for t in range(LENGTH):
        here = PLAN.prompts.valid & (PLAN.prompts.frames == t)
        masked, corrected = (here & PLAN.prompts.is_mask).any(-1), PLAN.corrected[:, t]
        asked = here.any(-1) | corrected
        known = (PLAN.prompts.valid & (PLAN.prompts.frames < t)).any(-1)
        want = dict.fromkeys(lesson.losses._fields, np.zeros((CLIPS, OBJECTS)))
        if asked.any():
            want = {name: np.where(asked & ~masked, x, 0) for name, x in cost_of(next(told)).items()}
        if corrected.any():
            again = cost_of(next(told))
            want = {name: x + np.where(corrected, again[name], 0) for name, x in want.items()}
        followed = next(told)
        np.testing.assert_array_equal(followed.truth, EXAMPLES.masks[:, t])
        assert followed.multimask[known & ~asked].all()
        after = cost_of(followed)
        for name, x in want.items():
            expected = np.where(asked, x, np.where(known, after[name], 0))
            assert_close(f"{name} of frame {t}", getattr(lesson.losses, name)[t], expected, rtol=RTOL)
        np.testing.assert_array_equal(lesson.asked[t], asked | known)
        np.testing.assert_array_equal(lesson.visible[t], EXAMPLES.masks[:, t].any((-2, -1)))
    assert next(told, None) is None


def test_alternatives_are_on_offer_where_little_is_said(teach: Any) -> None:
    _, answers = lesson_of(teach, PLAN)
    first, corrected = answers[:2]  # of the first frame: clicked and masked, boxed and nothing yet
    np.testing.assert_array_equal(first.multimask[[0, 1], [0, 0]], [True, False])
    assert not corrected.multimask[0, 0]  # a click and another one


def test_answers_are_those_of_track(teach: Any) -> None:
    plan = plan_of({(0, 0, 0): "click", (0, 1, 0): "mask", (1, 0, 0): "box"}, corrected=[])
    lesson, _ = lesson_of(teach, plan)
    for clip in range(CLIPS):
        prompts = jax.tree.map(lambda x, clip=clip: jnp.asarray(x[clip]), plan.prompts)
        tracks = track(EXAMPLES.frames[clip], prompts, _on_device())
        asked = lesson.asked[:, clip]
        assert_close("scores", lesson.scores[:, clip][asked], np.asarray(tracks.scores)[asked], rtol=RTOL)
        masks, truth = np.asarray(tracks.masks((SIZE, SIZE))), EXAMPLES.masks[clip]
        ious = (masks & truth).sum((-2, -1)) / np.maximum((masks | truth).sum((-2, -1)), 1)
        assert_close("IoU", lesson.ious[:, clip][asked], ious[asked], rtol=RTOL)
    np.testing.assert_array_equal(lesson.asked, np.tile([[[True, True], [True, False]]], (LENGTH, 1, 1)))


def test_corrections_are_those_of_a_user_at_work() -> None:
    """Two clicks on a prompted frame and on one that was tracked, each at what the answer before has left wrong.

    The interactive predictor gives the same masks, there and on the frames that follow.
    """
    user = User(corrections=2, aim="centre", from_truth=0.0)
    plan = plan_of({(0, 0, 0): "click"}, [(0, 0, 0), (0, 0, 2)], user)
    keys = jax.random.split(jax.random.key(0), CLIPS)
    lesson = jax.jit(partial(rollout, course=RolloutConfig(user)))(tiny_model(), EXAMPLES, plan, keys)
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
    assert_close("IoU", np.asarray(lesson.ious)[:, 0, 0], ious, rtol=RTOL)
    # Both frames are remembered for good. The predictor, as SAM 2's, does so with prompted ones alone.
    answers, between = state.objects[1].answers, state.objects[1].found[1]
    bank = memory.init(TINY, user.corrected_frames)
    for frame, entry in ((0, answers[0].entry), (1, None), (2, answers[2].entry)):
        remembered = (between.tokens, between.pointer) if entry is None else (entry.tokens, entry.prediction.pointer)
        bank = memory.write_recent(bank, frame, *remembered)
        bank = bank if entry is None else memory.write_conditioning(bank, frame, *remembered)

    @jax.jit
    def last(model: Model, bank: Bank) -> jax.Array:
        features = encode_frames(model, EXAMPLES.frames[0, 3])
        return track_object(model, features, memory.read(bank, jnp.asarray(3), 1, TINY)).prediction.score

    want = last(tiny_model(), bank)
    assert abs(state.objects[1].found[3].score - float(want)) > 20 * RTOL
    assert_close("score", np.asarray(lesson.scores)[3, 0, 0], np.asarray(want), rtol=RTOL)


def test_frames_are_computed_again_on_the_way_back() -> None:
    """What the way forward saves for it, in bytes."""
    keys = jax.random.split(jax.random.key(0), CLIPS)

    def total(remat: bool, model: Model) -> jax.Array:
        return rollout(model, EXAMPLES, PLAN, keys, RolloutConfig(User(corrections=0)), remat).losses.total.sum()

    def saved(remat: bool) -> int:
        back = jax.eval_shape(lambda model: jax.vjp(partial(total, remat), model)[1], tiny_model())
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(back))

    assert saved(True) < saved(False) / 2


def _on_device() -> Model:
    return jax.tree.map(jnp.asarray, tiny_model())


def test_masks_shrink_by_the_majority_and_grow_between_pixels() -> None:
    mask = np.zeros((1, 8, 8), bool)
    mask[0, :4, :4] = True
    np.testing.assert_array_equal(shrink(mask, 4)[0], np.pad(np.ones((2, 2), bool), ((0, 2), (0, 2))))
    np.testing.assert_array_equal(shrink(mask, 8), mask)
    logits = np.array([[0.0, 4.0], [8.0, 12.0]], np.float32)
    np.testing.assert_allclose(enlarge(logits, 4)[0], [0, 1, 3, 4])
    np.testing.assert_allclose(enlarge(logits, 4)[:, 0], [0, 2, 6, 8])
