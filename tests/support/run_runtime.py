"""Tracks with a copy of the runtime in a process without JAX.

Arguments: the folder of the copy, the export, a .npz file with frames [T, H, W, 3] and a mask, and the file to write.
"""

import sys
from typing import Any

import numpy as np

sys.path.insert(0, sys.argv[1])
import runtime  # type: ignore[import-not-found]


def main(folder: str, inputs: str, out: str) -> None:
    given = np.load(inputs)
    tracker = runtime.Tracker(folder, threads=1)
    prompts: dict[int, dict[int, Any]] = {
        0: {
            3: runtime.Prompt(points=[[12, 14]], labels=[1]),
            8: runtime.Prompt(box=[22, 12, 40, 28]),
            9: runtime.Prompt(mask=given["mask"]),
        },
        2: {3: runtime.Prompt(points=[[20, 14], [40, 3]], labels=[1, 0])},
    }
    found = []
    for t, frame in enumerate(given["frames"]):
        results = tracker.step(frame, prompts.get(t, {}))
        found.append([[results[obj_id].logits for obj_id in (3, 8, 9)], [results[obj_id].mask for obj_id in (3, 8, 9)]])
    strangers = sorted({name.partition(".")[0] for name in sys.modules} & {"jax", "flax", "edgetam_jax", "onnx"})
    assert not strangers, strangers
    np.savez(out, logits=np.array([each[0] for each in found]), masks=np.array([each[1] for each in found]))


main(*sys.argv[2:])
