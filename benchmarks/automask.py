"""Automatic mask generation, here and in the PyTorch original: `python -m benchmarks.automask [PICTURE] [--size 1024]`.

Both run in turns with the same random weights and the same picture, each in a process of its own; then their records
are compared. With random weights the masks are noise. The thresholds below are chosen so that about as many masks
remain as in photographs, and of similar size.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

from benchmarks import results, weights
from edgetam_jax.media.image import read_image

SETTINGS = {
    "pred_iou_thresh": 0.3,
    "stability_score_thresh": 0.05,
    "mask_threshold": 20.0,
    "box_nms_thresh": 0.95,
    "output_mode": "uncompressed_rle",
}
_generator: Any = None  # in a worker process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", nargs="?", type=Path, help="an image file (a synthetic picture of 1800x1200)")
    parser.add_argument("--size", type=int, default=1024, help="the model's image size (1024)")
    parser.add_argument("--side", type=int, default=32, help="points per side (32)")
    parser.add_argument("--rounds", type=int, default=2, help="timed runs of each (2)")
    arguments = parser.parse_args()
    settings = SETTINGS | {"points_per_side": arguments.side}
    picture = draw_picture() if arguments.picture is None else read_image(arguments.picture)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        with ProcessPoolExecutor(1, context) as writer:  # so that torch is not imported in this process
            writer.submit(weights.write_weights, Path(folder), arguments.size).result()
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "original": []}
        with ProcessPoolExecutor(1, context) as ours, ProcessPoolExecutor(1, context) as original:
            ours.submit(load_ours, folder, arguments.size, settings).result()
            original.submit(load_original, folder, arguments.size, settings).result()
            first = ours.submit(run, picture).result()
            for _ in range(arguments.rounds):
                for name, worker in (("ours", ours), ("original", original)):
                    runs[name].append(worker.submit(run, picture).result())
                    print(f"{name}: {runs[name][-1]['seconds']:.1f} s", file=sys.stderr)
    report(arguments, settings, picture, first["seconds"], runs)


def draw_picture(height: int = 1200, width: int = 1800) -> np.ndarray:
    """Many textured disks on a textured background."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (height // 40, width // 40, 3), np.uint8)
    picture = coarse.repeat(40, 0).repeat(40, 1) // 2
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    for _ in range(60):
        cx, cy, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(20, 150)
        disk = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        picture[disk] = rng.integers(100, 255, 3) - 20 * ((x[disk] + y[disk]) // 8 % 2)[:, None]
    return picture


def load_ours(folder: str, size: int, settings: dict[str, Any]) -> None:
    global _generator
    import jax

    from edgetam_jax.checkpoints.api import load
    from edgetam_jax.images.automask import AutomaticMaskGenerator

    jax.config.update("jax_default_matmul_precision", "highest")
    _generator = AutomaticMaskGenerator(load(Path(folder, weights.OURS), image_size=size), **settings)


def load_original(folder: str, size: int, settings: dict[str, Any]) -> None:
    global _generator
    from tests.support import oracle

    _generator = oracle.build_generator(weights.load_original(Path(folder), size), **settings)


def run(picture: np.ndarray) -> dict[str, Any]:
    """Time, memory and records of one call, in a worker process."""
    start, start_cpu = time.perf_counter(), time.process_time()
    records = _generator.generate(picture)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak, "records": records}


def compare_records(ours: list[dict[str, Any]], original: list[dict[str, Any]]) -> dict[str, Any]:
    """Statistics of how far the two lists of records agree."""
    from edgetam_jax.ops.rle import rle_decode

    def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
        close = abs(a["predicted_iou"] - b["predicted_iou"]) < 1e-4
        return close and (a["point_coords"], a["bbox"]) == (b["point_coords"], b["bbox"])

    matches = [next((i for i, other in enumerate(original) if same(record, other)), None) for record in ours]
    pairs = [(record, original[i]) for record, i in zip(ours, matches, strict=True) if i is not None]
    pixels = [np.count_nonzero(rle_decode(a["segmentation"]) != rle_decode(b["segmentation"])) for a, b in pairs]
    return {
        "records": len(ours),
        "records_original": len(original),
        "same_point_box_and_iou": len(pairs),
        "in_another_place": sum(i is not None and i != index for index, i in enumerate(matches)),
        "equal_run_lengths": sum(count == 0 for count in pixels),
        "pixels_that_differ": int(sum(pixels)),
        "largest_iou_error": max((abs(a["predicted_iou"] - b["predicted_iou"]) for a, b in pairs), default=None),
    }


def report(
    arguments: argparse.Namespace,
    settings: dict[str, Any],
    picture: np.ndarray,
    first: float,
    runs: dict[str, list[dict[str, Any]]],
) -> None:
    seconds = {name: [one["seconds"] for one in each] for name, each in runs.items()}
    cpu = {name: [one["cpu_seconds"] for one in each] for name, each in runs.items()}
    peaks = {name: each[-1]["peak_bytes"] for name, each in runs.items()}
    ratio = statistics.median(seconds["original"]) / statistics.median(seconds["ours"])
    common = compare_records(runs["ours"][-1]["records"], runs["original"][-1]["records"])
    print("| | seconds (median) | min | of all cores (median) | peak memory |\n|---|---|---|---|---|")
    for name, each in seconds.items():
        median, of_cores = statistics.median(each), statistics.median(cpu[name])
        print(f"| {name} | {median:.1f} | {min(each):.1f} | {of_cores:.1f} | {peaks[name] / 1e9:.2f} GB |")
    print(f"\n{ratio:.2f} times as fast; the first call, which compiles, took {first:.1f} s")
    print(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in common.items()))
    results.write(
        "automask",
        arguments.size,
        picture=f"{picture.shape[1]}x{picture.shape[0]}",
        settings=settings,
        seconds=seconds,
        cpu_seconds=cpu,
        first_call_s=first,
        speed_over_original=ratio,
        peak_bytes=peaks,
        records=common,
    )


if __name__ == "__main__":
    main()
