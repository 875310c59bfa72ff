"""How fast training data is read: `python -m benchmarks.data [--size 256]`.

Synthetic clips are written as a dataset in the layout of DAVIS, 854x480, and examples of 8 frames are made of it: read,
augmented as for fine-tuning, and put into batches by threads. The files are in memory by the time they are timed, so it
is the processor's work that is measured; its own time is told too, which other work on the machine does not change.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from benchmarks.results import write
from edgetam_jax.palette import mask_to_palette
from edgetam_jax.training.data import PLAIN, Augment, DataConfig, batches
from edgetam_jax.training.synthetic import ClipConfig, make_clip

HEIGHT, WIDTH = 480, 854
BATCH = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="the model's image size (256)")
    parser.add_argument("--frames", type=int, default=8, help="frames of an example (8)")
    parser.add_argument("--batches", type=int, default=10, help="batches of 4 that are timed of each kind (10)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_videos(Path(folder), count=4, frames=16)
        rows = [
            measure(DataConfig(folder, frames=arguments.frames, augment=augment), what, threads, arguments)
            for what, augment in (("as it is", PLAIN), ("augmented", Augment()))
            for threads in (1, 2, 4)
        ]
    report(arguments, rows)


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
    for _ in range(3):  # fills the queue, so that what follows comes at the pace at which it is made
        next(data)
    begin, begin_work = time.perf_counter(), time.process_time()
    for _ in range(arguments.batches):
        next(data)
    seconds, work = time.perf_counter() - begin, time.process_time() - begin_work
    data.close()
    examples = arguments.batches * BATCH
    return {
        "what": what,
        "threads": threads,
        "examples_per_s": examples / seconds,
        "ms_a_frame": 1e3 * seconds / examples / config.frames,
        "processor_ms_a_frame": 1e3 * work / examples / config.frames,
    }


def report(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    print(f"| examples | threads | examples a second | ms a frame | of one processor |\n{'|---' * 5}|")
    for row in rows:
        print(
            f"| {row['what']} | {row['threads']} | {row['examples_per_s']:.1f} | {row['ms_a_frame']:.2f} | "
            f"{row['processor_ms_a_frame']:.2f} |"
        )
    write("data", arguments.size, frames=arguments.frames, video=[HEIGHT, WIDTH], rows=rows)


if __name__ == "__main__":
    main()
