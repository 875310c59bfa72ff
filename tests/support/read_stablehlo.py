"""Tracks with an exported StableHLO folder in a process that has neither this package nor Flax.

Arguments: the folder, a .npz file of inputs (frames [T, S, S, 3]; points, labels and mask [T, O, ...]), and the .npz
file to write.
"""

import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load_file


def main(folder: pathlib.Path, inputs: str, out: str) -> None:
    given = np.load(inputs)
    spec = json.loads((folder / "edgetam.json").read_text())
    weights = load_file(folder / "weights.safetensors")

    def load(name: str) -> Callable[..., Any]:
        data = (folder / spec["programs"][name]["file"]).read_bytes()
        return jax.jit(jax.export.deserialize(bytearray(data)).call)

    encode, track = load("encode"), load("track")
    count = given["labels"].shape[1]
    shapes = {each["name"]: each for each in spec["programs"]["track"]["inputs"]}
    state = {}
    for name in spec["state"]["names"]:
        shape = [count if length == "objects" else length for length in shapes[name]["shape"]]
        state[name] = np.zeros(shape, shapes[name]["dtype"])
    found = []
    for t, frame in enumerate(given["frames"]):
        prompt = {name: given[name][t] for name in ("points", "labels", "mask")}
        output = track(weights, {**encode(weights, {"image": frame}), **state, **prompt})
        state = {name: output[spec["state"]["next"] + name] for name in state}
        found.append({name: np.asarray(output[name]) for name in ("logits", "score", "iou")})
    strangers = sorted(name for name in sys.modules if name.partition(".")[0] in ("flax", "edgetam_jax", "einops"))
    assert not strangers, strangers
    np.savez(out, **{name: np.stack([each[name] for each in found]) for name in found[0]}, **state)


main(pathlib.Path(sys.argv[1]), *sys.argv[2:])
