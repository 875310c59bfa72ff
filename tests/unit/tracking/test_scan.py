"""`track` and `track_step` in every way of calling them: the same numbers."""

import dataclasses
import gc
import os
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgetam_jax import Model, Prompt, Prompts, Tracks, init_state, track, track_step
from edgetam_jax.errors import PromptError
from edgetam_jax.ops.tree import repeat
from edgetam_jax.tracking.prompt_entries import encode_prompts, entries_at, prompts_at, write_all_conditioning
from edgetam_jax.tracking.state import make_tracks
from edgetam_jax.tracking.step import FrameInputs, TrackOptions, encode_frames, encode_points, step
from edgetam_jax.tracking.stream import _track_step
from edgetam_jax.types import NO_OBJECT, Label
from tests.support.scene import (
    BOX,
    CLICK,
    FRAMES,
    MASK,
    RTOL,
    SLOTS,
    assert_same,
    disk,
    first_prompts,
    joined,
    places,
    stream,
)


def test_the_tracks_are_telling(tracks: Tracks) -> None:
    """The other tests compare with these: they differ from frame to frame, and both objects come and go."""
    scores, logits = np.asarray(tracks.scores), np.asarray(tracks.logits)
    assert scores.shape == (FRAMES, 2) and logits.shape == (FRAMES, 2, 16, 16)
    print(np.round(scores.T, 2))
    assert ((scores > 0).mean(0) > 0.3).all() and ((scores < 0).any(0)).all()
    present = logits[scores > 0]
    assert (present > 0).any() and (present < 0).any()
    assert np.unique(scores[:, 0]).size == FRAMES


def test_pieces_continue_bit_by_bit(frames: jax.Array, first: Prompts, model: Model) -> None:
    whole = track(frames, first, model)
    halves = []
    state = init_state(model, 2, SLOTS)
    for half in (frames[: FRAMES // 2], frames[FRAMES // 2 :]):
        halves.append(track(half, first, model, state=state))
        state = halves[-1].state
        assert state is not None
    assert int(state.frame) == FRAMES
    assert_same(joined(halves), whole)
    once_more = track(frames[FRAMES // 2 :], first, model, state=halves[0].state)
    assert_same(once_more, halves[1], rtol=0)


def test_streaming_equals_offline(frames: jax.Array, first: Prompts, model: Model, tmp_path: Path) -> None:
    """And a state that was written to a file in between goes on bit by bit."""
    state, before = stream(model, init_state(model, 2, SLOTS), frames[:5], {0: first_prompts(first)})
    leaves, shape = jax.tree.flatten(state)
    np.savez(tmp_path / "state.npz", *map(np.asarray, leaves))
    with np.load(tmp_path / "state.npz") as file:
        restored = jax.tree.unflatten(shape, [jnp.asarray(file[name]) for name in file.files])
    end, after = stream(model, state, frames[5:], {})
    other_end, again = stream(model, restored, frames[5:], {})
    assert_same(joined(again), joined(after), rtol=0)
    for x, y in zip(jax.tree.leaves(end), jax.tree.leaves(other_end), strict=True):
        np.testing.assert_array_equal(x, y)
    assert_same(joined([*before, *after]), track(frames, first, model))
    assert np.asarray(after[-1].obj_ids).tolist() == [3, 8]


def test_a_loop_over_the_step_equals_track(frames: jax.Array, prompts: Prompts, model: Model, tracks: Tracks) -> None:
    """`step` with prompts answered beforehand, past and future ones, is all that `track` does."""
    encode = jax.jit(partial(encode_frames, model))
    given, outputs = jax.jit(encode_prompts, static_argnums=4)(model, frames, 0, prompts, "video")
    banks = write_all_conditioning(init_state(model, 2, SLOTS).banks, given, outputs)
    compiled = jax.jit(step)
    found = []
    for t, frame in enumerate(frames):
        inputs = entries_at(given, outputs, jnp.asarray(t))
        banks, output = compiled(model, banks, encode(frame), t, inputs)
        found.append(make_tracks(repeat(output.mask, 1), prompts.obj_ids, None))
    assert_same(joined(found), tracks)


@pytest.mark.parametrize("vectorize", [False, True])
def test_what_is_asked_for_equals_what_is_given(frames: jax.Array, model: Model, vectorize: bool) -> None:
    """A click and a mask for unknown objects, a frame without prompts, then both again the other way round."""
    click, mask = dataclasses.replace(CLICK, obj_id=8, frame=2), dataclasses.replace(MASK, obj_id=3, frame=2)
    prompts = places([CLICK, MASK, mask, click])
    compiled = jax.jit(partial(step, options=TrackOptions(vectorize=vectorize)))
    given, outputs = jax.jit(encode_prompts, static_argnums=4)(model, frames[:3], 0, prompts, "video")
    one = other = init_state(model, 2, SLOTS).banks
    for t in range(3):
        features, number = jax.jit(partial(encode_frames, model))(frames[t]), jnp.asarray(t)
        asked = prompts_at(model, prompts, number, frames[t])
        assert np.asarray(asked.valid).tolist() == 2 * [t != 1]
        one, want = compiled(model, one, features, number, entries_at(given, outputs, number))
        other, got = compiled(model, other, features, number, FrameInputs(prompts=asked))
        for x, y in zip(jax.tree.leaves((other, got)), jax.tree.leaves((one, want)), strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=RTOL * max(1, np.abs(np.asarray(y, float)).max()))


def test_prompts_need_no_places_for_points(frames: jax.Array, model: Model) -> None:
    """Those by masks alone may have none; their objects are followed as any others."""
    by_mask = jax.tree.map(lambda x: x[1:], places([CLICK, MASK]))
    without = by_mask._replace(points=by_mask.points[..., :0, :], labels=by_mask.labels[..., :0])
    (_, want), (_, got) = (
        stream(model, init_state(model, 1, SLOTS), frames[:3], dict.fromkeys(range(3), prompts))
        for prompts in (by_mask, without)
    )
    assert (joined(want).scores > 0).any()
    assert_same(joined(got), joined(want))


def test_streaming_compiles_once(frames: jax.Array, model: Model) -> None:
    """For any number of objects within the slots, whenever they come, and however long the video is."""
    rows = (3, 8)
    prompts = {
        2: Prompts.build([BOX], obj_ids=rows),
        5: Prompts.build([Prompt(points=[[4, 4]], labels=[1], obj_id=i) for i in rows], obj_ids=rows),
    }
    prompts = {t: p._replace(frames=jnp.full_like(p.frames, t)) for t, p in prompts.items()}
    state, begun = stream(model, init_state(model, 2, SLOTS), frames[:1], {0: Prompts.build([CLICK], num_objects=2)})
    compiled = _track_step._cache_size()
    state, found = stream(model, state, [*frames[1:], *frames], prompts)
    assert _track_step._cache_size() == compiled
    assert int(state.frame) == 2 * FRAMES
    scores = np.asarray(joined([*begun, *found]).scores)
    assert (scores[:2, 1] == -10).all() and (scores[2:, 1] != -10).all() and (scores[:, 0] != -10).all()
    assert np.asarray(found[-1].obj_ids).tolist() == list(rows)


def test_objects_are_absent_before_anything_is_known(frames: jax.Array, model: Model, first: Prompts) -> None:
    """An object that comes later is followed as if the video began there, and the others do not notice."""
    late = Prompts.build([dataclasses.replace(BOX, frame=3)], obj_ids=(3, 8))
    early = jax.tree.map(lambda x: x.at[1].set(False) if x.dtype == bool else x, first_prompts(first))
    _, found = stream(model, init_state(model, 2, SLOTS), frames, {0: early, 3: late})
    got = joined(found)
    assert (got.logits[:3, 1] == NO_OBJECT).all() and (got.scores[:3, 1] < 0).all()
    rolled = track(jnp.roll(frames, -3, 0), first, model)
    alone = track(frames, first, model)

    def column(tracks: Tracks, o: int, frames: slice) -> Tracks:
        return Tracks(*(x[frames, o] for x in tracks[:3]), tracks.obj_ids, None)

    assert_same(column(got, 1, slice(3, None)), column(rolled, 1, slice(0, FRAMES - 3)))
    assert_same(column(got, 0, slice(None)), column(alone, 0, slice(None)))


def test_masks_that_are_fed_back_are_clamped(frames: jax.Array, model: Model) -> None:
    features = jax.jit(partial(encode_frames, model))(frames[0])
    points, labels = jnp.array([[12.0, 14.0], [0.0, 0.0]]), jnp.array([Label.POSITIVE, Label.NOT_A_POINT])
    logits = 100 * jax.random.normal(jax.random.key(0), 2 * (model.config.mask_size,))
    score_of = jax.jit(lambda x: encode_points(model, features, points, labels, (x, jnp.array(True))).mask.score)
    large, clamped, small = score_of(logits), score_of(jnp.clip(logits, -32, 32)), score_of(jnp.clip(logits, -30, 30))
    np.testing.assert_array_equal(large, clamped)
    assert abs(large - small) > 1e-4


def test_prompts_in_the_future_are_attended(frames: jax.Array, model: Model, first: Prompts) -> None:
    with_later = places([CLICK, Prompt(mask=disk(20, 20, 6), frame=6, obj_id=3), BOX])
    got, plain = track(frames, with_later, model), track(frames, first, model)
    np.testing.assert_array_equal(got.logits[0], plain.logits[0])  # prompted itself
    assert np.abs(got.scores[1:6, 0] - plain.scores[1:6, 0]).max() > 1e-3
    assert_same(
        Tracks(*(x[:, 1] for x in got[:3]), got.obj_ids, None), Tracks(*(x[:, 1] for x in plain[:3]), got.obj_ids, None)
    )


@pytest.mark.parametrize(
    ("direction", "visited"), [("forward", range(2, FRAMES)), ("backward", range(6)), ("both", range(FRAMES))]
)
def test_which_frames_get_a_mask(frames: jax.Array, model: Model, direction: Any, visited: range) -> None:
    prompts = places([Prompt(mask=MASK.mask, frame=2, obj_id=1), Prompt(mask=MASK.mask, frame=5, obj_id=2)])
    found = track(frames, prompts, model, direction=direction)
    # Whoever is absent on a visited frame has a score of its own.
    np.testing.assert_array_equal(np.flatnonzero((np.asarray(found.scores) != -10).any(1)), visited)
    other = np.delete(np.arange(FRAMES), visited)
    assert (np.asarray(found.logits)[other] == NO_OBJECT).all()


def test_one_frame(frames: jax.Array, model: Model, first: Prompts, tracks: Tracks) -> None:
    for video in (frames[:1], frames[0], [frames[0]]):
        found = track(video, first, model)
        assert found.logits.shape == (1, 2, 16, 16)
        np.testing.assert_allclose(found.logits[0, 0], tracks.logits[0, 0], atol=1e-4)  # the other's prompt differs


def test_grayscale_and_alpha(frames: jax.Array, model: Model, first: Prompts) -> None:
    gray = frames[:1, ..., :1]
    want = track(jnp.repeat(gray, 3, -1), first, model)
    opaque = jnp.concatenate([jnp.repeat(gray, 3, -1), jnp.full_like(gray, 7)], -1)
    for video in (gray, opaque):
        assert_same(track(video, first, model), want, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"direction": "sideways"}, 'expected "forward"'),
        ({"start": FRAMES}, "start is 8"),
        ({"start": np.int64(-1)}, "start is .*-1"),
        ({"start": 2.5}, "start is 2.5"),
        ({"attend_prompts": 0}, "attend_prompts is 0"),
        ({"chunk": 2.5}, "chunk is 2.5"),
        ({"prompts": [CLICK]}, "prompts are a list"),
        ({"prompts": None}, "prompts are a NoneType"),
    ],
)
def test_wrong_options(
    frames: jax.Array, model: Model, first: Prompts, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        track(**{"frames": frames, "prompts": first, "model": model, **arguments})


def test_a_state_has_its_rows_and_its_direction(frames: jax.Array, model: Model, first: Prompts) -> None:
    for wrong in ({"num_objects": -1}, {"num_objects": 2, "prompt_slots": 0}):
        with pytest.raises(PromptError, match="expected an integer from 1"):
            init_state(model, **wrong)
    state = init_state(model, 4)
    with pytest.raises(PromptError, match="room for 4 objects"):
        track_step(model, state, frames[0], first_prompts(first))
    with pytest.raises(PromptError, match="room for 4 objects"):
        track(frames, first, model, state=state)
    with pytest.raises(PromptError, match="continues a video forward"):
        track(frames, first, model, state=init_state(model, 2), direction="both")
    small = Prompts.build([Prompt(mask=np.ones((3, 3)))], num_objects=4)
    with pytest.raises(PromptError, match=r"the mask is \(3, 3\)"):
        track_step(model, state, frames[0], small)
    with pytest.raises(PromptError, match=r"the mask is \(3, 3\)"):
        track(frames, small, model, state=state)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_rows_belong_to_their_objects(frames: jax.Array, model: Model, first: Prompts) -> None:
    """Prompts in another order, about others, or about another frame are refused, and the state stays as it is."""
    state, _ = stream(model, init_state(model, 2, SLOTS), frames[:1], {0: first_prompts(first)})
    now = {"points": [[12, 14]], "labels": [1], "frame": 1}
    swapped = Prompts.build([Prompt(**now, obj_id=8)], num_objects=2)
    other = Prompts.build([Prompt(**now, obj_id=5)], obj_ids=(5, 8))
    for prompts in (swapped, other):
        with pytest.raises(PromptError, match=r"rows are \[3, 8\]"):
            track_step(model, state, frames[1], prompts)
        with pytest.raises(PromptError, match=r"rows are \[3, 8\]"):
            track(frames[1:], prompts, model, state=state)
    for frame, calls in ((0, 2), (2, 1)):
        late = Prompts.build([Prompt(**{**now, "frame": frame}, obj_id=9)], obj_ids=(9, 8))
        fresh = init_state(model, 2, SLOTS)._replace(frame=jnp.asarray(1, jnp.int32))
        with pytest.raises(PromptError, match=f"on frame {frame}, the state is at frame 1"):
            track_step(model, fresh, frames[1], late)
        if calls == 2:
            with pytest.raises(PromptError, match="on frame 0, the state is at frame 1"):
                track(frames[1:], late, model, state=fresh)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_later_prompts_displace_none(frames: jax.Array, model: Model, first: Prompts) -> None:
    """A state without free slots grows, and goes on as one that had enough."""
    later = Prompts.build([Prompt(points=[[20, 14]], labels=[1], frame=6, obj_id=3)], obj_ids=(3, 8))
    roomy, _ = stream(model, init_state(model, 2, SLOTS), frames[:3], {0: first_prompts(first)})
    banks = roomy.banks._replace(
        conditioning=jax.tree.map(lambda x: x[:, :1], roomy.banks.conditioning),
        conditioning_pointers=roomy.banks.conditioning_pointers[:, :1],
    )
    roomy, tight = (track(frames[3:], later, model, state=s) for s in (roomy, roomy._replace(banks=banks)))
    assert_same(tight, roomy)
    assert tight.state is not None
    np.testing.assert_array_equal(tight.state.banks.conditioning.frames[0], [0, 6])


def test_memory_stays_constant(frames: jax.Array, first: Prompts, model: Model) -> None:
    """2,000 frames: what lives on the device, and the process as a whole."""
    others = jax.live_arrays()  # held: what other tests leave behind shall not go meanwhile
    state = init_state(model, 2, SLOTS)
    sizes, resident = [], []
    for t in range(2000):
        state, _ = track_step(model, state, np.asarray(frames[t % FRAMES]), None if t else first_prompts(first))
        if t in (199, 1999):
            gc.collect()
            sizes.append(sum(x.nbytes for x in jax.live_arrays()))
            resident.append(_resident())
    assert int(state.frame) == 2000
    assert sizes[1] == sizes[0] > sum(x.nbytes for x in others)
    assert resident[1] - resident[0] < 32 << 20


def _resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else 0
