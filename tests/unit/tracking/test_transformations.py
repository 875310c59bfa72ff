"""`track` under `jit`, `vmap` and `grad`, in other groupings, and over several devices."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.aot import hlo
from edgetam_jax import Model, Prompt, Prompts, Tracks, track
from edgetam_jax.model import param_shapes
from tests.support.scene import MASK, MINIMAL, assert_same, clip, disk, places


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


DEVICES = 8
LARGEST_PROMPT = 2 * DEVICES * 36 * 48  # bytes of the masks of all prompts
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
    split, replicated = (NamedSharding(mesh, spec) for spec in (PartitionSpec("many"), PartitionSpec()))
    model = jax.device_put(
        Model(jax.tree.unflatten(jax.tree.structure(param_shapes(MINIMAL)), leaves), MINIMAL), replicated
    ).folded()
    inputs = sharded_inputs()
    frames, prompts = jax.device_put(inputs["videos"], split)
    videos = jax.jit(jax.vmap(lambda f, p, m: track(f, p, m), (0, 0, None)))(frames, prompts, model)
    frames, prompts = inputs["objects"]
    frames, prompts = jax.device_put(frames, replicated), jax.device_put(prompts, split)
    compiled = jax.jit(lambda f, p, m: track(f, p, m, start=0, vectorize=True)).lower(frames, prompts, model).compile()
    objects = compiled(frames, prompts, model)
    # Prompts are gathered, for each device encodes all of them; nothing that the network computes is.
    collectives = hlo.Program.parse(compiled.as_text() or "").collectives()
    print([(one.op, one.shape, one.op_name) for one in collectives])
    assert collectives and not [one for one in collectives if "EdgeTAM" in one.op_name or one.bytes > LARGEST_PROMPT]
    for found in (videos, objects):
        assert len({shard.device for shard in found.logits.addressable_shards}) == DEVICES
        print(found.logits.sharding, found.logits.addressable_shards[0].data.shape)
    arrays = {f"{kind}_{i}": x for kind, t in zip(KINDS, (videos, objects), strict=True) for i, x in enumerate(t[:3])}
    np.savez(results, **arrays)


@pytest.mark.slow
def test_sharded_over_eight_devices(model: Model, tmp_path: Path) -> None:
    """Over videos and over objects, beside the same one by one on one device."""
    np.savez(tmp_path / "parameters.npz", *jax.tree.leaves(model.params))
    paths = str(tmp_path / "parameters.npz"), str(tmp_path / "results.npz")
    code = (
        "import sys, jax; from tests.unit.tracking import test_transformations as t; "
        "jax.config.update('jax_default_matmul_precision', 'highest'); t.track_on_many_devices(*sys.argv[1:])"
    )
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}"}
    root = Path(__file__).parents[3]
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
