"""The systems that are compared, at a small size: each really runs, and remembers as much as ours."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import targets, compare
from benchmarks.results import config_of
from benchmarks.systems import SYSTEMS
from edgetam_jax.tracking import memory
from tests.support.pages import ROOT

SIZE = 256
OBJECTS = 2
CHOSEN = ("ours", "original", "hugging-face")
# What goes into memory attention, in a process of its own: there the original is as published, not as tests mend it.
ATTENDED = """
import json, sys
from pathlib import Path
from benchmarks.hugging_face import HuggingFace
from benchmarks.original import Original
from benchmarks.systems import SYSTEMS, Task

folder, size, objects = Path(sys.argv[1]), *map(int, sys.argv[2:])
seen = {}
for family, name in ((Original, "original"), (HuggingFace, "hugging-face")):
    opened = family(SYSTEMS[name], folder, size, 1, "cpu")
    work = opened.build(Task("track", objects)).work
    shapes = seen[name] = []
    note = lambda module, args, kwargs: shapes.append(tuple(kwargs["memory"].shape))
    opened.model.memory_attention.register_forward_pre_hook(note, with_kwargs=True)
    work()
    work()
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    compare.make_weights(folder, SIZE)
    return folder


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
    ratios = {measure.what: measure.value for measure in targets.measures(rows, "cpu", amd=False)}
    assert ratios["a frame, 1 object: times as fast as original, eager"] > 0


def test_the_others_remember_as_much_as_ours(folder: Path) -> None:
    config = config_of(SIZE)
    full = jax.eval_shape(lambda: memory.read(memory.init(config, prompt_slots=1), jnp.int32(20), 1, config))
    frames, length, width = full.frames.shape
    tokens = frames * length + full.pointers.size // width
    line = [sys.executable, "-c", ATTENDED, str(folder), str(SIZE), str(OBJECTS)]
    seen = json.loads(subprocess.check_output(line, cwd=ROOT, text=True).splitlines()[-1])
    # The original looks back for all objects at once, the port for one after the other.
    assert seen == {"original": 2 * [[tokens, OBJECTS, width]], "hugging-face": 2 * OBJECTS * [[tokens, 1, width]]}
