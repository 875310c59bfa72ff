"""The compared systems at a small size: each runs, and its memory is as full as in this package."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import compare, targets
from benchmarks.results import config_of
from benchmarks.systems import SYSTEMS
from edgetam_jax.tracking import memory
from tests.support.pages import ROOT

SIZE = 256
OBJECTS = 2
CHOSEN = ("ours", "original", "hugging-face")
# The inputs of memory attention, in another process, without the patches that the tests apply to the original.
MEMORY_SHAPES = """
import json, sys
from pathlib import Path
from benchmarks.hugging_face import HuggingFaceBackend
from benchmarks.original import OriginalBackend
from benchmarks.systems import SYSTEMS, Task

folder, size, objects = Path(sys.argv[1]), *map(int, sys.argv[2:])
attended = {}
for make_backend, name in ((OriginalBackend, "original"), (HuggingFaceBackend, "hugging-face")):
    backend = make_backend(SYSTEMS[name], folder, size, 1, "cpu")
    work = backend.build(Task("track", objects)).work
    shapes = attended[name] = []
    append_shape = lambda module, args, kwargs: shapes.append(tuple(kwargs["memory"].shape))
    backend.model.memory_attention.register_forward_pre_hook(append_shape, with_kwargs=True)
    work()
    work()
print(json.dumps(attended))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    compare.make_weights(folder, SIZE)
    return folder


@pytest.mark.slow
def test_all_of_them_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    arguments = argparse.Namespace(
        size=SIZE, objects=[1], against=[1], batches=[], rounds=2, budget=600, threads=1, device="cpu"
    )
    rows, about = compare.compare([SYSTEMS[name] for name in CHOSEN], arguments, folder)
    assert about["platform"] == "cpu"
    assert not [row for row in rows if "note" in row]
    done = {name: {(row["task"], row["count"]) for row in rows if row["system"] == name} for name in CHOSEN}
    assert done["hugging-face"] == {("track", 1), ("encode", 1)}
    assert done["original"] == done["ours"] == {("track", 1), ("encode", 1), ("segment", 1), ("gemm", 1)}
    assert all(row["min_ms"] > 0.1 and row["peak_bytes"] > 1e8 for row in rows)
    ratios = {measurement.name: measurement.value for measurement in targets.measurements(rows, "cpu", amd=False)}
    assert ratios["a frame, 1 object: times as fast as original, eager"] > 0


@pytest.mark.slow
def test_all_systems_attend_to_a_memory_of_the_same_size(folder: Path) -> None:
    config = config_of(SIZE)
    full = jax.eval_shape(lambda: memory.read(memory.init(config, prompt_slots=1), jnp.int32(20), 1, config))
    frames, length, width = full.frames.shape
    tokens = frames * length + full.pointers.size // width
    line = [sys.executable, "-c", MEMORY_SHAPES, str(folder), str(SIZE), str(OBJECTS)]
    attended = json.loads(subprocess.check_output(line, cwd=ROOT, text=True).splitlines()[-1])
    # The original runs memory attention for all objects at once, the port for one after the other.
    assert attended == {"original": 2 * [[tokens, OBJECTS, width]], "hugging-face": 2 * OBJECTS * [[tokens, 1, width]]}
