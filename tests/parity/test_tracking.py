"""`track` beside the original's video predictor: the same prompts on the same JPEG files, every frame compared."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgetam_jax.model import Model
from edgetam_jax.ops.resize import resize_logits
from edgetam_jax.prompts import Prompt, Prompts
from edgetam_jax.tracking.memory import Slots
from edgetam_jax.tracking.scan import track
from edgetam_jax.tracking.state import Tracks
from edgetam_jax.types import MASK_LOGIT
from tests.parity.networks import Ours
from tests.parity.pairs import Pair
from tests.parity.videos import write_real_video, write_video
from tests.support.media import media
from tests.support.tolerances import MEMORY_ATOL, NO_OBJECT, POINTER_ATOL, SCORE_ATOL, TRACKED_LOGITS_ATOL, assert_close

SHORT, LONG = 8, 20  # frames; in the long video all rings wrap
FULL_HEIGHT, FULL_WIDTH = 480, 640
FULL, FULL_REAL = 9, 18  # frames at the full size: the ring of memories wraps; on a real clip that of pointers too
FULL_SHIFT = 2.5
HEIGHT, WIDTH = 96, 128
OBJECTS, PROMPTED = 3, 4  # the most that a case has: objects, and prompted frames of one


class Pass(NamedTuple):
    """One call of the original's `propagate_in_video`."""

    start: int | None = None
    reverse: bool = False


class FrameOutputs(NamedTuple):
    """What the original keeps of a frame, for all its objects."""

    logits: np.ndarray  # [O, h, w]
    score: np.ndarray  # [O]
    pointer: np.ndarray  # [O, C]
    tokens: np.ndarray  # [O, L, D]


class Scene(NamedTuple):
    pair: Pair
    folder: Path
    frames: np.ndarray  # [T, H, W, 3], what the files hold


@pytest.fixture(scope="module")
def tiny(tiny_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("tiny") / "frames"
    frames = write_video(folder, LONG, HEIGHT, WIDTH)
    return Scene(tiny_pair, folder, frames)


@pytest.fixture(scope="module")
def short(tiny: Scene, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("short")
    for path in sorted(tiny.folder.iterdir())[:SHORT]:
        (folder / path.name).symlink_to(path)
    return Scene(tiny.pair, folder, tiny.frames[:SHORT])


@pytest.fixture(scope="module")
def full(full_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Here objects are found: scores are shifted until they are."""
    folder = tmp_path_factory.mktemp("full") / "frames"
    if clip := media("bedroom.mp4"):
        frames = write_real_video(folder, clip, FULL_REAL, FULL_HEIGHT, FULL_WIDTH)
    else:
        frames = write_video(folder, FULL, FULL_HEIGHT, FULL_WIDTH)
    bias = full_pair.torch.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    before = bias.clone()
    bias.add_(FULL_SHIFT)
    yield Scene(Pair(full_pair.torch, Ours(full_pair.model).with_score_bias(bias.numpy().copy()).model), folder, frames)
    bias.copy_(before)


def original(
    scene: Scene,
    prompts: Sequence[Prompt],
    passes: Sequence[Pass] = (Pass(),),
    limit: int = -1,
    last: int | None = None,
) -> dict[int, FrameOutputs]:
    """What the original finds, by frame."""
    predictor = scene.pair.torch
    state = predictor.init_state(str(scene.folder))
    for prompt in prompts:
        if prompt.mask is not None:
            predictor.add_new_mask(state, prompt.frame, prompt.obj_id, prompt.mask)
        else:
            kinds = {"points": prompt.points, "labels": prompt.labels, "box": prompt.box}
            predictor.add_new_points_or_box(state, prompt.frame, prompt.obj_id, **kinds)
    with mock.patch.object(predictor, "max_cond_frames_in_attn", limit):
        for start, reverse in passes:
            list(predictor.propagate_in_video(state, start, last, reverse))
    outputs = {**state["output_dict"]["non_cond_frame_outputs"], **state["output_dict"]["cond_frame_outputs"]}
    return {frame: _frame_outputs(outputs[frame]) for frame in sorted(outputs)}


def _frame_outputs(output: dict[str, Any]) -> FrameOutputs:
    arrays = [output[name].numpy() for name in ("pred_masks", "object_score_logits", "obj_ptr", "maskmem_features")]
    return FrameOutputs(arrays[0][:, 0], arrays[1][:, 0], arrays[2], arrays[3])


def some_absent(scene: Scene, run: Callable[[], dict[int, FrameOutputs]]) -> tuple[Model, dict[int, FrameOutputs]]:
    """A model whose object scores are shifted so that some of what is tracked is absent; what `run` finds with it."""
    bias = scene.pair.torch.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    before = bias.clone()
    try:
        for _ in range(6):
            want = run()
            scores = np.sort(np.concatenate([found.score for found in want.values()]))
            if (scores < 0).sum() > 0 and (scores > 0).mean() >= 0.4:
                return Ours(scene.pair.model).with_score_bias(bias.numpy().copy()).model, want
            scores = scores[np.abs(scores) != MASK_LOGIT]  # those of given masks stay
            third = len(scores) // 3
            bias.sub_(float(scores[third - 1 : third + 1].mean()))
    finally:
        bias.copy_(before)
    raise AssertionError("all present or nearly all absent, whatever the bias")


def run_track(scene: Scene, model: Model, prompts: Sequence[Prompt], **kwargs: Any) -> Tracks:
    """`track` with prompts filled up to one shape, so that all cases are one program."""
    places = OBJECTS, PROMPTED
    built = Prompts.build(prompts, num_objects=OBJECTS)

    def fill(x: jax.Array, *shape: int) -> jax.Array:
        return jnp.pad(x, [(0, new - old) for old, new in zip(x.shape, (*places, *shape), strict=True)])

    points, masks = built.points.shape[2:], scene.frames.shape[1:3]
    filled = Prompts(
        obj_ids=built.obj_ids,
        frames=fill(built.frames),
        valid=fill(built.valid),
        points=fill(built.points, *points),
        labels=fill(built.labels, points[0]),
        masks=fill(built.masks, *masks),
        is_mask=fill(built.is_mask),
    )
    return track(scene.frames, filled, model, **kwargs)


def compare(got: Tracks, want: dict[int, FrameOutputs], visited: Sequence[int]) -> dict[str, float]:
    """Logits and scores on all visited frames; elsewhere there is no mask. Returns the largest errors."""
    visited = list(visited)
    objects = len(want[visited[0]].score)
    assert (np.asarray(got.logits)[:, objects:] == NO_OBJECT).all()
    logits, scores = np.asarray(got.logits)[:, :objects], np.asarray(got.scores)[:, :objects]
    other = np.delete(np.arange(len(logits)), visited)
    assert (logits[other] == NO_OBJECT).all() and (scores[other] < 0).all()
    want_logits = np.stack([want[frame].logits for frame in visited])
    want_scores = np.stack([want[frame].score for frame in visited])
    return {
        "logits": assert_close("logits", logits[visited], want_logits, atol=TRACKED_LOGITS_ATOL, both_signs=True),
        "scores": assert_close("scores", scores[visited], want_scores, atol=SCORE_ATOL),
    }


def compare_memory(got: Tracks, want: dict[int, FrameOutputs]) -> dict[str, float]:
    """Every memory and every pointer that is left at the end."""
    objects = len(next(iter(want.values())).score)
    banks = jax.tree.map(lambda x: np.asarray(x)[:objects], got.state.banks)
    pointers = banks.conditioning._replace(values=banks.conditioning_pointers)
    return {
        "tokens": max(
            compare_slots("recent tokens", banks.recent, "tokens", want, MEMORY_ATOL),
            compare_slots("prompted tokens", banks.conditioning, "tokens", want, MEMORY_ATOL),
        ),
        "pointers": max(
            compare_slots("recent pointers", banks.pointers, "pointer", want, POINTER_ATOL),
            compare_slots("prompted pointers", pointers, "pointer", want, POINTER_ATOL),
        ),
    }


def compare_slots(name: str, slots: Slots, field: str, want: dict[int, FrameOutputs], atol: float) -> float:
    wanted = [
        [
            getattr(want[int(frame)], field)[o] if ok else np.zeros_like(value)
            for value, frame, ok in zip(*row, strict=True)
        ]
        for o, row in enumerate(zip(*slots, strict=True))
    ]
    assert slots.valid.any(-1).all(), f"{name}: nothing is remembered"
    valid = slots.valid.reshape(*slots.valid.shape, *[1] * (slots.values.ndim - 2))
    return assert_close(name, np.where(valid, slots.values, 0), np.stack([np.stack(row) for row in wanted]), atol=atol)


def disk(size: tuple[int, int], cx: float = 0.3, cy: float = 0.4, radius: float = 0.2) -> np.ndarray:
    height, width = size
    y, x = np.mgrid[:height, :width]
    return (x / width - cx) ** 2 + (y / width - cy * height / width) ** 2 < radius**2


def click(obj_id: int, frame: int, x: float = 40, y: float = 40) -> Prompt:
    return Prompt(points=[[x, y]], labels=[1], frame=frame, obj_id=obj_id)


def box(obj_id: int, frame: int) -> Prompt:
    return Prompt(box=[20, 15, 70, 60], frame=frame, obj_id=obj_id)


def clicks(obj_id: int, frame: int) -> Prompt:
    return Prompt(points=[[40, 40], [90, 60], [10, 80]], labels=[1, 0, 0], frame=frame, obj_id=obj_id)


def mask(obj_id: int, frame: int) -> Prompt:
    return Prompt(mask=disk((HEIGHT, WIDTH)), frame=frame, obj_id=obj_id)


class Case(NamedTuple):
    prompts: Sequence[Prompt]
    start: int | None = None
    limit: int = -1  # the original's, -1 for none


SLOTS = 2  # in these cases ours is always limited: without more prompts than that it makes no difference


FORWARD = {
    "one click": Case([click(1, 0)]),
    "box": Case([box(1, 0)]),
    "several clicks": Case([clicks(1, 0)]),
    "mask": Case([mask(1, 0)]),
    "box and click": Case([Prompt(box=[20, 15, 70, 60], points=[[50, 40]], labels=[0], frame=0, obj_id=1)]),
    "prompt on a later frame": Case([click(1, 3)]),
    "prompts on two frames": Case([click(1, 0), box(1, 4)]),
    "prompts in any order": Case([box(1, 4), mask(1, 1)]),
    "two objects": Case([click(1, 0), box(2, 0)]),
    "three objects": Case([click(7, 0), box(2, 0), mask(5, 0)]),
    "two objects on two frames": Case([click(1, 0), box(2, 0), clicks(1, 3), mask(2, 3)]),
    "start before the prompt": Case([click(1, 3)], start=0),
    "start after the prompt": Case([click(1, 1)], start=3),
    "two closest prompts": Case([click(1, 0), box(1, 2), click(1, 3, 80), clicks(1, 6)], limit=SLOTS),
    "closest prompts, start after some": Case([click(1, 0), box(1, 1), click(1, 2, 80), clicks(1, 6)], 3, limit=SLOTS),
}


@pytest.mark.parametrize("case", FORWARD.values(), ids=FORWARD)
def test_forward(tiny: Scene, case: Case) -> None:
    prompts, start, limit = case
    model, want = some_absent(tiny, lambda: original(tiny, prompts, [Pass(start)], limit))
    first = min(prompt.frame for prompt in prompts) if start is None else start
    got = run_track(tiny, model, prompts, start=first, attend_prompts=SLOTS)
    print(compare(got, want, range(first, LONG)), compare_memory(got, want))


BACKWARD = {
    "one click": (Case([click(1, 5)], 5), [Pass(5, True)]),
    "two frames": (Case([click(1, 6), box(1, 2)]), [Pass(6, True)]),
    "from between": (Case([click(1, 6), box(1, 2)], 4), [Pass(4, True)]),
    "start after the prompt": (Case([click(1, 3)], 6), [Pass(6, True)]),
    "two objects": (Case([click(1, 7), mask(2, 7)]), [Pass(7, True)]),
    "two closest prompts": (
        Case([click(1, 7), box(1, 5), click(1, 4, 80), clicks(1, 2)], limit=SLOTS),
        [Pass(7, True)],
    ),
}
BOTH = {
    "one click": (Case([click(1, 10)]), [Pass(), Pass(reverse=True)]),
    "more frames after than are remembered": (Case([click(1, 2)]), [Pass(), Pass(reverse=True)]),
    "two frames": (Case([click(1, 13), box(1, 8)]), [Pass(), Pass(reverse=True)]),
    "from a frame without prompt": (Case([click(1, 1)], 9), [Pass(9), Pass(9, True)]),
    "three objects": (Case([click(1, 4), box(2, 4), mask(3, 4)]), [Pass(), Pass(reverse=True)]),
}


@pytest.mark.parametrize(("case", "passes"), BACKWARD.values(), ids=BACKWARD)
def test_backward(short: Scene, case: Case, passes: list[Pass]) -> None:
    model, want = some_absent(short, lambda: original(short, case.prompts, passes, case.limit))
    last = passes[0].start
    assert last is not None
    got = run_track(short, model, case.prompts, direction="backward", start=last, attend_prompts=SLOTS)
    print(compare(got, want, range(last + 1)))


@pytest.mark.parametrize(("case", "passes"), BOTH.values(), ids=BOTH)
def test_both_ways(tiny: Scene, case: Case, passes: list[Pass]) -> None:
    """Going back, what was found going forward is remembered."""
    model, want = some_absent(tiny, lambda: original(tiny, case.prompts, passes))
    start = min(prompt.frame for prompt in case.prompts) if case.start is None else case.start
    got = run_track(tiny, model, case.prompts, direction="both", start=start)
    print(compare(got, want, range(LONG)))


def test_objects_on_different_frames(tiny: Scene) -> None:
    """Each as if it were alone; the original lets them disturb each other."""
    objects = [[click(1, 0)], [box(2, 2), click(2, 5)], [mask(3, 4)]]

    def one_by_one() -> dict[int, FrameOutputs]:
        runs = [original(tiny, prompts, [Pass(0)]) for prompts in objects]
        return {t: FrameOutputs(*map(np.concatenate, zip(*(run[t] for run in runs), strict=True))) for t in range(LONG)}

    model, want = some_absent(tiny, one_by_one)
    got = run_track(tiny, model, [p for prompts in objects for p in prompts], start=0, attend_prompts=SLOTS)
    print(compare(got, want, range(LONG)), compare_memory(got, want))


LONG_CASES = {"one click": [click(1, 0)], "prompts on two frames": [box(1, 1), click(1, 9)]}


@pytest.mark.parametrize("prompts", LONG_CASES.values(), ids=LONG_CASES)
def test_rings_wrap(tiny: Scene, prompts: list[Prompt]) -> None:
    model, want = some_absent(tiny, lambda: original(tiny, prompts))
    visited = sorted(want)
    present = np.array([want[frame].score[0] > 0 for frame in visited])
    assert (~present[:-1] & present[1:]).any(), "the object does not return"
    got = run_track(tiny, model, prompts, start=visited[0], attend_prompts=SLOTS)
    print(compare(got, want, visited), compare_memory(got, want))


FULL_PROMPTS = {
    "one click": Prompt(points=[[195, 190]], labels=[1], obj_id=1),
    "box": Prompt(box=[60, 60, 330, 320], obj_id=2),
    "several clicks": Prompt(points=[[195, 190], [450, 380], [20, 20]], labels=[1, 0, 0], obj_id=3),
    "mask": Prompt(mask=disk((FULL_HEIGHT, FULL_WIDTH)), obj_id=4),
}


@pytest.fixture(scope="module")
def full_tracks(full: Scene) -> Tracks:
    """All four at once: objects do not notice each other."""
    return track(full.frames, Prompts.build(list(FULL_PROMPTS.values())), full.pair.model)


def sides(logits: Any) -> np.ndarray:
    """Which pixels a prompt's mask covers. Where rounding puts one on the other side, memory differs visibly."""
    size = 4 * logits.shape[-1]
    return np.asarray(resize_logits(jnp.asarray(logits), (size, size)) > 0)


@pytest.mark.parametrize(("row", "last"), [(0, None), (1, 2), (2, 2), (3, 2)], ids=FULL_PROMPTS)
def test_full_size(full: Scene, full_tracks: Tracks, row: int, last: int | None) -> None:
    """Each beside a run of the original with one object: all frames, so that the memories wrap, or three."""
    end = len(full.frames) - 1
    last = end if last is None else last
    prompt = list(FULL_PROMPTS.values())[row]
    want = original(full, [prompt], [Pass(0)], last=last)
    got = jax.tree.map(lambda x: x[: last + 1, row : row + 1], full_tracks._replace(obj_ids=None, state=None))
    print(np.round([found.score[0] for found in want.values()], 2), compare(got, want, range(last + 1)))
    assert full_tracks.state is not None
    ring = jax.tree.map(lambda x: np.asarray(x)[row], full_tracks.state.banks.pointers)
    kept = [(i, want[int(t)].pointer[0]) for i, t in enumerate(ring.frames) if ring.valid[i] and int(t) in want]
    if kept or last == end:  # after a long clip the first pointers are gone
        places, pointers = zip(*kept, strict=True)
        assert_close("pointers", ring.values[list(places)], np.stack(pointers), atol=POINTER_ATOL)
    flipped = sides(got.logits[0]) != sides(want[0].logits)
    assert flipped.sum() <= 3
    if last == end and not flipped.any():
        state = full_tracks.state._replace(banks=jax.tree.map(lambda x: x[row : row + 1], full_tracks.state.banks))
        print(compare_memory(got._replace(state=state), want))
