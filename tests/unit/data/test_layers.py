"""Clips with real layers: masks, motion, and what a run that goes on sees."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgetam_jax.data import DataConfig, batches
from edgetam_jax.data.bank import Bank, read_bank
from edgetam_jax.data.example import Example
from edgetam_jax.data.mixing import MixedBatches
from edgetam_jax.data.packing import Source, pack_bank
from edgetam_jax.data.synthetic import ClipConfig, SyntheticClip, make_clip
from edgetam_jax.data.synthetic.batches import SyntheticBatches, SyntheticConfig
from edgetam_jax.data.synthetic.clips import LAYERS, render
from edgetam_jax.data.synthetic.layers import add_layers
from edgetam_jax.data.synthetic.rendering import unbend
from edgetam_jax.data.synthetic.scenes import Scene, sample_scene
from edgetam_jax.errors import CheckpointError, ConfigError
from tests.unit.data.footage import make_videos
from tests.unit.data.textures import GREY, make_folders

CONFIG = ClipConfig(frames=6, height=64, width=64, radius=(0.15, 0.3), exposures=1)
SEEDS = 40


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folders, out = make_folders(tmp_path_factory.mktemp("pictures")), tmp_path_factory.mktemp("bank") / "bank"
    pack_bank([Source(kind, folder) for kind, folder in folders.items()], out)  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="module")
def bank(path: Path) -> Bank:
    return read_bank(path)


@pytest.fixture(scope="module")
def scenes(bank: Bank) -> list[Scene]:
    return [scene_of(seed, bank) for seed in range(SEEDS)]


def scene_of(seed: int, bank: Bank, config: ClipConfig = CONFIG) -> Scene:
    key = jax.random.key(seed)
    return add_layers(jax.random.fold_in(key, LAYERS), sample_scene(key, config), bank.textures, config)


def plain(scene: Scene) -> Scene:
    """Without light, shadows, blur and noise."""
    light = jax.tree.map(jnp.zeros_like, scene.light)
    return scene._replace(light=light._replace(tint=jnp.ones(3), focus=jnp.full((), 1e-3)))


def rendered(scene: Scene) -> SyntheticClip:
    return jax.tree.map(np.asarray, render(scene, CONFIG))


def test_a_key_makes_a_clip(bank: Bank, scenes: list[Scene]) -> None:
    clip = make_clip(jax.random.key(3), CONFIG, bank.textures)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, clip), rendered(scenes[3]))
    np.testing.assert_array_equal(clip.visible, clip.masks.any((2, 3)))


def test_masks_are_the_pixels_of_their_cutouts(scenes: list[Scene]) -> None:
    """Cut-outs are white (darker only by the gain of a thing), and what has no owner is as the background."""
    seen = 0
    for scene in scenes:
        assert scene.layers is not None
        clip = rendered(plain(scene))
        order = np.argsort(np.where(scene.object_indices < 0, 99, scene.object_indices))[:3]
        for o, thing in enumerate(order):
            mask, grey = clip.masks[:, o], clip.frames.astype(int)
            if not scene.layers.is_cutout[thing] or mask.sum() < 50:
                continue
            seen += 1
            values = grey[mask]
            assert np.ptp(values, 0).max() <= 4 and values.min() > 0.45 * 250
    assert seen > 20


def test_a_photograph_is_the_background(scenes: list[Scene]) -> None:
    found = 0
    for scene in scenes:
        assert scene.layers is not None
        clip = rendered(plain(scene))
        corner = clip.frames[:, 0, :].reshape(-1, 3)
        found += bool((corner == GREY).all(-1).mean() > 0.6)
    assert found > SEEDS / 10


def test_a_moving_clip_is_the_background_frame_by_frame(bank: Bank) -> None:
    textures = bank.textures._replace(photographs=bank.textures.photographs[:0], photograph_aspects=jnp.zeros(0))
    steps = []
    for seed in range(12):
        key = jax.random.key(seed)
        scene = add_layers(jax.random.fold_in(key, LAYERS), sample_scene(key, CONFIG), textures, CONFIG)
        assert scene.layers is not None
        starts = np.asarray(scene.layers.background_start)
        if starts[0] > 0 and starts[0] != starts[1]:
            frames = rendered(plain(scene)).frames[..., 0]
            most = np.array([np.bincount(frame.ravel()).argmax() for frame in frames])  # things cover the rest
            steps += np.abs(np.diff(most)).tolist()
    # One or two frames of the clip further, forward and backward in turns.
    assert len(steps) > 20 and np.isin(steps, [0, 10, 20]).mean() > 0.7 and np.isin(steps, [10, 20]).mean() > 0.5


def test_in_some_clips_nothing_moves(scenes: list[Scene]) -> None:
    tempos = np.stack([np.asarray(scene.layers.tempo) for scene in scenes if scene.layers is not None])
    still = [scene for scene, tempo in zip(scenes, tempos, strict=True) if not tempo.any()]
    assert still and (tempos > 0).all(1).mean() > 0.5
    masks = rendered(still[0]).masks
    assert masks.any() and (masks == masks[:1]).all()


def test_a_share_of_clips_is_synthetic(bank: Bank) -> None:
    """`real` is the share of the others; a scene without real layers is the one that it was."""
    config = ClipConfig(frames=2, height=32, width=32, real=0.5, exposures=1)
    real = []
    for seed in range(60):
        scene = scene_of(seed, bank, config)
        assert scene.layers is not None
        real.append(bool(scene.layers.is_cutout.any() | (scene.layers.background_start[0] > 0)))
        if not real[-1]:
            still = scene._replace(layers=scene.layers._replace(tempo=jnp.ones(2)))
            before = make_clip(jax.random.key(seed), config)
            jax.tree.map(np.testing.assert_array_equal, render(still, config).masks, before.masks)
            np.testing.assert_allclose(render(still, config).frames.astype(int), before.frames.astype(int), atol=1)
    assert 0.25 < np.mean(real) < 0.7


def test_bends_have_no_gap_and_leave_the_rest_alone() -> None:
    v, u = jnp.meshgrid(jnp.arange(32.0), jnp.arange(32.0), indexing="ij")
    same = unbend(u, v, jnp.zeros(3), jnp.int32(32))
    jax.tree.map(np.testing.assert_array_equal, same, (u, v))
    bent = unbend(u, v, jnp.array([0.3, -0.2, 0.25]), jnp.int32(32))
    assert abs(bent[0] - u).max() > 2 and abs(bent[1] - v).max() > 2
    (du_y, du_x), (dv_y, dv_x) = (np.gradient(np.asarray(w)) for w in bent)
    assert (du_x * dv_y - du_y * dv_x).min() > 0.2  # it nowhere folds


@pytest.mark.parametrize("kinds", [("photographs",), ("clips",), ("cutouts",)])
def test_a_bank_may_lack_kinds(kinds: tuple[Any, ...], tmp_path: Path) -> None:
    folders = make_folders(tmp_path / "pictures")
    pack_bank([Source(kind, folders[kind]) for kind in kinds], tmp_path / "bank")
    bank = read_bank(tmp_path / "bank").textures
    config = ClipConfig(frames=2, height=32, width=32, exposures=1)
    scenes = [add_layers(jax.random.key(i), sample_scene(jax.random.key(i), config), bank, config) for i in range(8)]
    layers = [scene.layers for scene in scenes if scene.layers is not None]
    assert any(one.is_cutout.any() for one in layers) == (kinds == ("cutouts",))
    assert any(one.background_start[0] > 0 for one in layers) == (kinds != ("cutouts",))
    assert render(scenes[0], config).frames.shape == (2, 32, 32, 3)


def synthetic(path: Path, **changes: Any) -> SyntheticConfig:
    return SyntheticConfig(bank=str(path), frames=2, objects=2, radius=(0.2, 0.4), **changes)


def test_a_run_goes_on_with_the_same_bank_only(path: Path, tmp_path: Path) -> None:
    data = SyntheticBatches(synthetic(path), 32, 4, seed=1)
    first, second = next(data), next(data)
    assert (first.frames != second.frames).mean() > 0.5
    state = data.get_state()
    resumed = SyntheticBatches(synthetic(path), 32, 4, seed=1)
    resumed.set_state({**state, "batches": 1})
    jax.tree.map(np.testing.assert_array_equal, next(resumed), second)
    pack_bank([Source("cutouts", make_folders(tmp_path / "p")["cutouts"])], tmp_path / "bank")
    other = SyntheticBatches(synthetic(tmp_path / "bank"), 32, 4, seed=1)
    with pytest.raises(CheckpointError, match="bank of textures has the fingerprint"):
        other.set_state(state)
    with pytest.raises(CheckpointError, match="that of the run was None"):
        other.set_state({"batches": 1})


def mixed(
    path: Path, videos: Path, share: float = 0.375, seed: int = 2, shard: tuple[int, int] = (0, 1)
) -> MixedBatches:
    config = DataConfig(str(videos), frames=2, objects=2)
    size, hosts = 4, shard[1]
    data = batches(config, 32, hosts, seed, shard, threads=0)
    return MixedBatches(SyntheticBatches(synthetic(path), 32, size, seed, shard), data, size // hosts, share)


def test_batches_are_mixed_by_share(path: Path, tmp_path: Path) -> None:
    """Of four examples 1.5 come from the dataset; a run that goes on sees the same."""
    videos = make_videos(tmp_path / "videos", {"a": 4, "b": 4})
    whole = mixed(path, videos)
    taken: list[Example] = [next(whole) for _ in range(4)]
    assert {one.frames.shape for one in taken} == {(4, 2, 32, 32, 3)}
    reference = SyntheticBatches(synthetic(path), 32, 4, 2)
    for number, (one, count) in enumerate(zip(taken, (1, 2, 1, 2), strict=True)):
        clips = next(reference)
        np.testing.assert_array_equal(one.frames[: 4 - count], clips.frames[: 4 - count])
        assert (np.asarray(one.frames[4 - count :]) != clips.frames[4 - count :]).mean() > 0.5, number
    resumed = mixed(path, videos)
    resumed.set_state(whole.get_state() | {"batches": 2})
    jax.tree.map(np.testing.assert_array_equal, next(resumed), taken[2])
    jax.tree.map(np.testing.assert_array_equal, next(resumed), taken[3])
    assert resumed.get_state() == whole.get_state()
    with pytest.raises(CheckpointError, match="share of examples from datasets is 0.5"):
        mixed(path, videos, share=0.5).set_state(whole.get_state())
    with pytest.raises(CheckpointError, match="the state is of other data"):
        mixed(path, videos, seed=3).set_state(whole.get_state())
    for one in (whole, resumed):
        one.close()


def test_values_that_cannot_be_used() -> None:
    with pytest.raises(ConfigError, match=r"real is 1.5; expected a share"):
        SyntheticConfig(real=1.5)
    with pytest.raises(ConfigError, match=r"weight is -1; expected 0 or more"):
        SyntheticConfig(weight=-1)
    with pytest.raises(ConfigError, match="0 where there are stills"):
        SyntheticConfig(weight=1, frames=1, stills=3)
