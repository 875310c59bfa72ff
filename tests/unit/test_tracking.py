"""`track` and `track_step` under every transformation and in every way of calling them: the same numbers."""

import dataclasses
import gc
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from PIL import Image

from edgetam_jax.answers import answer_all, given_on, keep_all
from edgetam_jax.config import (
    Config,
    DecoderConfig,
    MemoryAttentionConfig,
    MemoryEncoderConfig,
    PerceiverConfig,
    TrunkConfig,
)
from edgetam_jax.errors import PromptError
from edgetam_jax.model import Model, param_shapes
from edgetam_jax.nn.edgetam import NO_OBJECT
from edgetam_jax.prompts import Prompt, Prompts
from edgetam_jax.step import encode_frames, step
from edgetam_jax.tracking import (
    State,
    Tracks,
    _track_step,
    init_state,
    track,
    track_step,
)
from tests import oracle
from tests.parity.pairs import make_pair

# As small as it gets: to compile is what takes time here. Both rings wrap after a few frames.
SMALL = Config(
    image_size=64,
    hidden_dim=16,
    memory_dim=8,
    memory_frames=3,
    pointers=4,
    trunk=TrunkConfig(widths=(8, 8, 8, 8), depths=(1, 1, 1, 1)),
    decoder=DecoderConfig(layers=1, heads=2, mlp_dim=16, iou_dim=16),
    memory_attention=MemoryAttentionConfig(layers=1, mlp_dim=16),
    memory_encoder=MemoryEncoderConfig(fuser_layers=1),
    perceiver=PerceiverConfig(layers=1, latents=4, window_grid=2),
)
FRAMES, HEIGHT, WIDTH = 8, 36, 48
SLOTS = 2
RTOL = 1e-5


@pytest.fixture(scope="module")
def model() -> Model:
    """Random in every tensor; objects are found on most frames and lost on some, see `test_the_tracks_are_telling`."""
    original = oracle.randomize(oracle.build_original(SMALL), seed=0)
    original.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.sub_(0.257)
    return jax.tree.map(jnp.asarray, make_pair(original, SMALL).model)


def clip(seed: int) -> np.ndarray:
    """A picture that drifts to the right while its light changes."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (5, 6, 3), np.uint8)
    still = np.asarray(Image.fromarray(coarse).resize((2 * WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(float)
    light = rng.uniform(0.5, 1.5, (FRAMES, 1, 1, 3))
    return np.stack([np.clip(light[t] * still[:, 3 * t : 3 * t + WIDTH], 0, 255) for t in range(FRAMES)]).astype("u1")


@pytest.fixture(scope="module")
def frames() -> jax.Array:
    return jnp.asarray(clip(0))


def disk(cx: float, cy: float, radius: float) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (x - cx) ** 2 + (y - cy) ** 2 < radius**2


CLICK = Prompt(points=[[12, 14]], labels=[1], obj_id=3)
BOX = Prompt(box=[22, 12, 40, 28], obj_id=8)
MASK = Prompt(mask=disk(30, 20, 9), obj_id=8)
LATER = [CLICK, Prompt(points=[[20, 14], [40, 3]], labels=[1, 0], frame=5, obj_id=3), MASK]


def places(prompts: Sequence[Prompt]) -> Prompts:
    """In the shapes of two prompts an object and with masks, so that all tests share compiled programs."""
    spare = [Prompt(mask=MASK.mask, frame=f, obj_id=99) for f in (0, 1)]
    built = Prompts.build([*prompts, *spare])
    return jax.tree.map(lambda x: x[:-1], built)


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return places(LATER)


@pytest.fixture(scope="module")
def first(prompts: Prompts) -> Prompts:
    """On the first frame only, where those who watch frames come know as much as those who have them all."""
    return places([CLICK, BOX])


@pytest.fixture(scope="module")
def tracks(frames: jax.Array, prompts: Prompts, model: Model) -> Tracks:
    return track(frames, prompts, model)


def assert_same(got: Tracks, want: Tracks, rtol: float = RTOL) -> None:
    """Logits, scores and estimates; `rtol` of the largest value, or bit by bit if it is zero."""
    for name in ("logits", "scores", "ious"):
        g, w = np.asarray(getattr(got, name)), np.asarray(getattr(want, name))
        assert g.shape == w.shape
        absent = w == NO_OBJECT
        np.testing.assert_array_equal(g == NO_OBJECT, absent, err_msg=name)
        error, size = np.abs(g - w)[~absent].max(), np.abs(w[~absent]).max()
        assert error <= rtol * size, f"{name}: {error:.3g} of {size:.3g}"


def test_the_tracks_are_telling(tracks: Tracks) -> None:
    """The other tests compare with these: they differ from frame to frame, and both objects come and go."""
    scores, logits = np.asarray(tracks.scores), np.asarray(tracks.logits)
    assert scores.shape == (FRAMES, 2) and logits.shape == (FRAMES, 2, 16, 16)
    print(np.round(scores.T, 2))
    assert ((scores > 0).mean(0) > 0.3).all() and ((scores < 0).any(0)).all()
    present = logits[scores > 0]
    assert (present > 0).any() and (present < 0).any()
    assert np.unique(scores[:, 0]).size == FRAMES


def test_jit_of_everything(frames: jax.Array, prompts: Prompts, model: Model, tracks: Tracks) -> None:
    assert_same(jax.jit(lambda f, p, m: track(f, p, m))(frames, prompts, model), tracks)


def test_vmap_over_videos(prompts: Prompts, model: Model) -> None:
    videos = jnp.stack([jnp.asarray(clip(seed)) for seed in (0, 1)])
    others = places([Prompt(points=[[30, 20]], labels=[1], obj_id=3), Prompt(mask=MASK.mask, frame=4, obj_id=8)])
    both = jax.tree.map(lambda *x: jnp.stack(x), prompts, others)
    together = jax.vmap(lambda f, p: track(f, p, model))(videos, both)
    for i in range(2):
        alone = track(*jax.tree.map(lambda x, i=i: x[i], (videos, both)), model)
        assert_same(jax.tree.map(lambda x, i=i: x[i], together), alone)


def test_options_change_no_number(frames: jax.Array, prompts: Prompts, model: Model, tracks: Tracks) -> None:
    """Chunks that do not divide the video, and objects at once."""
    assert_same(track(frames, prompts, model, chunk=3, vectorize=True), tracks)


def joined(pieces: Sequence[Tracks]) -> Tracks:
    arrays = [jnp.concatenate([getattr(p, name) for p in pieces]) for name in ("logits", "scores", "ious")]
    return Tracks(*arrays, pieces[-1].obj_ids, pieces[-1].state)


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


def stream(model: Model, state: State, frames: Any, prompts: dict[int, Prompts]) -> tuple[State, list[Tracks]]:
    found = []
    for frame in frames:
        state, one = track_step(model, state, frame, prompts.get(int(state.frame)))
        found.append(one)
    return state, found


def at_once(prompts: Prompts) -> Prompts:
    """One prompt an object, as a step takes them, none of them a mask."""
    one = jax.tree.map(lambda x: x[:, :1] if x.ndim > 1 else x, prompts)
    return one._replace(masks=one.masks[:, :, :0, :0])


def test_streaming_equals_offline(frames: jax.Array, first: Prompts, model: Model, tmp_path: Path) -> None:
    """And a state that was written to a file in between goes on bit by bit."""
    state, before = stream(model, init_state(model, 2, SLOTS), frames[:5], {0: at_once(first)})
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
    given, answers = jax.jit(answer_all, static_argnums=4)(model, frames, 0, prompts, "video")
    banks = keep_all(init_state(model, 2, SLOTS).banks, given, answers)
    compiled = jax.jit(step)
    found = []
    for t, frame in enumerate(frames):
        banks, entry = compiled(model, banks, encode(frame), t, given_on(given, answers, jnp.asarray(t)))
        sighting = jax.tree.map(lambda x: x[None], entry.sighting)
        found.append(Tracks(sighting.logits, sighting.score, sighting.iou, prompts.obj_ids, None))
    assert_same(joined(found), tracks)


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
    early = jax.tree.map(lambda x: x.at[1].set(False) if x.dtype == bool else x, at_once(first))
    _, found = stream(model, init_state(model, 2, SLOTS), frames, {0: early, 3: late})
    got = joined(found)
    assert (got.logits[:3, 1] == NO_OBJECT).all() and (got.scores[:3, 1] < 0).all()
    rolled = track(jnp.roll(frames, -3, 0), first, model)
    alone = track(frames, first, model)

    def column(tracks: Tracks, o: int, frames: slice) -> Tracks:
        return Tracks(*(x[frames, o] for x in tracks[:3]), tracks.obj_ids, None)

    assert_same(column(got, 1, slice(3, None)), column(rolled, 1, slice(0, FRAMES - 3)))
    assert_same(column(got, 0, slice(None)), column(alone, 0, slice(None)))


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
        ({"start": -1}, "start is -1"),
        ({"prompt_slots": 0}, "prompt_slots is 0"),
        ({"chunk": 0}, "chunk is 0"),
    ],
)
def test_wrong_options(
    frames: jax.Array, model: Model, first: Prompts, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        track(frames, first, model, **arguments)


def test_a_state_has_its_rows_and_its_direction(frames: jax.Array, model: Model, first: Prompts) -> None:
    state = init_state(model, 4)
    with pytest.raises(PromptError, match="room for 4 objects"):
        track_step(model, state, frames[0], at_once(first))
    with pytest.raises(PromptError, match="room for 4 objects"):
        track(frames, first, model, state=state)
    with pytest.raises(PromptError, match="continues a video forward"):
        track(frames, first, model, state=init_state(model, 2), direction="both")
    wrong = Prompts.build([Prompt(mask=np.ones((3, 3)))], num_objects=4)
    with pytest.raises(PromptError, match=r"the mask is \(3, 3\)"):
        track_step(model, state, frames[0], wrong)
    with pytest.raises(PromptError, match=r"the mask is \(3, 3\)"):
        track(frames, wrong, model, state=state)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_memory_stays_constant(frames: jax.Array, first: Prompts, model: Model) -> None:
    """2,000 frames: what lives on the device, and the process as a whole."""
    state = init_state(model, 2, SLOTS)
    sizes, resident = [], []
    for t in range(2000):
        state, _ = track_step(model, state, np.asarray(frames[t % FRAMES]), None if t else at_once(first))
        if t in (199, 1999):
            gc.collect()
            sizes.append(sum(x.nbytes for x in jax.live_arrays()))
            resident.append(_resident())
    assert int(state.frame) == 2000
    assert sizes[1] == sizes[0]
    assert resident[1] - resident[0] < 32 << 20


def _resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else 0


DEVICES = 8
KINDS = ("videos", "objects")


def sharded_inputs() -> dict[str, tuple[np.ndarray, Prompts]]:
    """Eight videos with two objects each, and one video with eight objects."""
    masks = [Prompt(mask=disk(8 + 4 * i, 18, 6), frame=i % 3, obj_id=i) for i in range(DEVICES)]
    pairs = [places([Prompt(points=[[5 + 5 * i, 9]], labels=[1], obj_id=50), masks[i]]) for i in range(DEVICES)]
    return {
        "videos": (np.stack([clip(i) for i in range(DEVICES)]), jax.tree.map(lambda *x: jnp.stack(x), *pairs)),
        "objects": (clip(0), places(masks)),
    }


def track_on_many_devices(parameters: str, results: str) -> None:
    """What another process does, which has eight devices."""
    assert jax.device_count() == DEVICES
    with np.load(parameters) as file:
        leaves = [jnp.asarray(file[name]) for name in file.files]
    mesh = jax.make_mesh((DEVICES,), ("many",), axis_types=(jax.sharding.AxisType.Auto,))
    split, everywhere = (NamedSharding(mesh, spec) for spec in (PartitionSpec("many"), PartitionSpec()))
    model = jax.device_put(
        Model(jax.tree.unflatten(jax.tree.structure(param_shapes(SMALL)), leaves), SMALL), everywhere
    )
    inputs = sharded_inputs()
    frames, prompts = jax.device_put(inputs["videos"], split)
    videos = jax.jit(jax.vmap(lambda f, p, m: track(f, p, m), (0, 0, None)))(frames, prompts, model)
    frames, prompts = inputs["objects"]
    frames, prompts = jax.device_put(frames, everywhere), jax.device_put(prompts, split)
    objects = track(frames, prompts, model, start=0, vectorize=True)
    for found in (videos, objects):
        assert len({shard.device for shard in found.logits.addressable_shards}) == DEVICES
        print(found.logits.sharding, found.logits.addressable_shards[0].data.shape)
    arrays = {f"{kind}_{i}": x for kind, t in zip(KINDS, (videos, objects), strict=True) for i, x in enumerate(t[:3])}
    np.savez(results, **arrays)


def test_sharded_over_eight_devices(model: Model, tmp_path: Path) -> None:
    """Over videos and over objects, beside the same one by one on one device."""
    np.savez(tmp_path / "parameters.npz", *jax.tree.leaves(model.params))
    paths = str(tmp_path / "parameters.npz"), str(tmp_path / "results.npz")
    code = (
        "import sys, jax; from tests.unit import test_tracking as t; "
        "jax.config.update('jax_default_matmul_precision', 'highest'); t.track_on_many_devices(*sys.argv[1:])"
    )
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}"}
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", code, *paths], cwd=root, env={**os.environ, **flags}, capture_output=True, text=True
    )
    assert not run.returncode, run.stderr
    print(run.stdout)
    with np.load(paths[1]) as file:
        found = {kind: Tracks(*(file[f"{kind}_{i}"] for i in range(3)), jnp.zeros(0), None) for kind in KINDS}
    (videos, pairs), (frames, prompts) = sharded_inputs().values()
    for i in range(DEVICES):
        alone = track(videos[i], jax.tree.map(lambda x, i=i: x[i], pairs), model)
        assert_same(jax.tree.map(lambda x, i=i: x[i], found["videos"]._replace(obj_ids=None)), alone)
    for i in range(0, DEVICES, 2):
        alone = track(frames, jax.tree.map(lambda x, i=i: x[i : i + 2], prompts), model, start=0)
        assert_same(jax.tree.map(lambda x, i=i: x[:, i : i + 2], found["objects"]._replace(obj_ids=None)), alone)
