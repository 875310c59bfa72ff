"""The throughput of the data pipeline, and its share of a training step: `python -m benchmarks.data [--size 256]`.

Synthetic clips are written as a dataset in the layout of DAVIS, 854x480. Threads read examples of 8 frames from it,
augment them as for fine-tuning, and make batches. The files are cached in memory when they are timed, so this measures
the processor's work; the processor time is reported too, which other load on the machine does not change. Then NANO is
trained on the dataset, and on clips that are generated during training, by `benchmarks/data.toml`.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from benchmarks.results import write
from edgetam_jax.data import PLAIN, Augment, DataConfig, batches
from edgetam_jax.data.synthetic import ClipConfig, make_clip
from edgetam_jax.media.palette import mask_to_palette
from edgetam_jax.training.metrics_writer import METRICS
from edgetam_jax.training.recipe import read_recipe
from edgetam_jax.training.trainer import train

HEIGHT, WIDTH = 480, 854
BATCH = 4
RECIPE = Path(__file__).with_suffix(".toml")
STEPS, WARM = 25, 5  # training steps, and how many of the first are not counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="the model's image size (256)")
    parser.add_argument("--frames", type=int, default=8, help="frames of an example (8)")
    parser.add_argument("--batches", type=int, default=10, help="timed batches of 4 of each kind (10)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_videos(Path(folder), count=4, frames=16)
        rows = [
            measure(DataConfig(folder, frames=arguments.frames, augment=augment), what, threads, arguments)
            for what, augment in (("as it is", PLAIN), ("augmented", Augment()))
            for threads in (1, 2, 4)
        ]
        data = DataConfig(str(folder), frames=arguments.frames, objects=3)
        learning = {
            name: time_training(some, arguments, Path(folder, name))
            for name, some in (("drawn", ()), ("read", (data,)))
        }
    report(arguments, rows, learning)


def write_videos(root: Path, count: int, frames: int) -> None:
    config = ClipConfig(frames=frames, height=HEIGHT, width=WIDTH)
    names = [f"clip{number}" for number in range(count)]
    for number, name in enumerate(names):
        clip = make_clip(jax.random.key(number), config)
        images, masks = root / "JPEGImages" / "480p" / name, root / "Annotations" / "480p" / name
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for frame in range(frames):
            Image.fromarray(np.asarray(clip.frames[frame])).save(images / f"{frame:05d}.jpg", quality=90)
            mask_to_palette(clip.masks[frame]).save(masks / f"{frame:05d}.png")
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "train.txt").write_text("".join(f"{name}\n" for name in names))


def measure(config: DataConfig, what: str, threads: int, arguments: argparse.Namespace) -> dict[str, Any]:
    data = batches(config, arguments.size, BATCH, seed=0, threads=threads)
    for _ in range(3):  # fill the queue, so that the next batches are timed at the rate at which they are made
        next(data)
    start, start_processor = time.perf_counter(), time.process_time()
    for _ in range(arguments.batches):
        next(data)
    seconds, processor = time.perf_counter() - start, time.process_time() - start_processor
    data.close()
    examples = arguments.batches * BATCH
    return {
        "what": what,
        "threads": threads,
        "examples_per_s": examples / seconds,
        "ms_a_frame": 1e3 * seconds / examples / config.frames,
        "processor_ms_a_frame": 1e3 * processor / examples / config.frames,
    }


def time_training(data: tuple[DataConfig, ...], arguments: argparse.Namespace, out: Path) -> dict[str, float]:
    """Medians of the seconds of a step, and of the share of them spent waiting for data."""
    recipe = dataclasses.replace(read_recipe(RECIPE), start="nano", batch=BATCH, steps=STEPS, save_every=STEPS)
    synthetic = dataclasses.replace(recipe.synthetic, frames=arguments.frames)
    train(dataclasses.replace(recipe, image_size=arguments.size, data=data, synthetic=synthetic), out)
    steps = [json.loads(line) for line in (out / METRICS).read_text().splitlines()][WARM:]
    return {name: statistics.median(step[name] for step in steps) for name in ("seconds", "data_share")}


def report(arguments: argparse.Namespace, rows: list[dict[str, Any]], learning: dict[str, dict[str, float]]) -> None:
    print(f"| examples | threads | examples a second | ms a frame | of one processor |\n{'|---' * 5}|")
    for row in rows:
        print(
            f"| {row['what']} | {row['threads']} | {row['examples_per_s']:.1f} | {row['ms_a_frame']:.2f} | "
            f"{row['processor_ms_a_frame']:.2f} |"
        )
    for name, step in learning.items():
        print(
            f"{name}: {step['seconds']:.2f} s a step of {BATCH} clips, {step['data_share']:.1%} of it waiting for data"
        )
    write("data", arguments.size, frames=arguments.frames, video=[HEIGHT, WIDTH], rows=rows, learning=learning)


if __name__ == "__main__":
    main()
