"""64 clicks in one batch compared with 64 calls: `python -m benchmarks.prompts [--size 1024]`.

Times `segment` on an encoded image, `ImagePredictor.predict`, which also resizes masks to the image's size, and
`encode_image` together with `segment`. The weights are random.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import results
from edgetam_jax import ImagePredictor, ImagePrompts, Model, Prompt, encode_image, segment
from edgetam_jax.cli.bench import Task, Timing, measure

POINTS = 64
HEIGHT, WIDTH = 540, 960


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="the model's image size (1024)")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is timed (5)")
    arguments = parser.parse_args()
    comparisons = make_comparisons(results.random_model(arguments.size))
    tasks = [
        Task(f"{what}, {how}", work)
        for what, pair in comparisons.items()
        for how, work in zip(("batch", "calls"), pair, strict=True)
    ]
    report(arguments.size, list(comparisons), measure(tasks, arguments.rounds, warmup=1))


def make_comparisons(model: Model) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """For each function: a call with all points in one batch, and calls with one point each."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    points = rng.uniform(0, HEIGHT, (POINTS, 1, 2)).astype(np.float32)
    labels = np.ones((POINTS, 1), np.int32)
    features = encode_image(model, image)
    predictor = ImagePredictor(model)
    predictor.set_image(image)
    batch = ImagePrompts.build([Prompt(points=p, labels=[1]) for p in points], (HEIGHT, WIDTH))
    each = [ImagePrompts.build([Prompt(points=p, labels=[1])], (HEIGHT, WIDTH)) for p in points]

    def from_features(prompts: ImagePrompts) -> None:
        jax.block_until_ready(segment(model, features, prompts))

    def from_pixels(prompts: ImagePrompts) -> None:
        jax.block_until_ready(segment(model, encode_image(model, image), prompts))

    return {
        "segment": (lambda: from_features(batch), lambda: [from_features(one) for one in each]),
        "predict": (
            lambda: predictor.predict(points, labels),
            lambda: [predictor.predict(p, one) for p, one in zip(points, labels, strict=True)],
        ),
        "encode and segment": (lambda: from_pixels(batch), lambda: [from_pixels(one) for one in each]),
    }


def report(size: int, comparisons: list[str], timings: dict[str, Timing]) -> None:
    rows = []
    print(f"| {POINTS} points, ms (median) | one batch | {POINTS} calls | batch over calls |\n{'|---' * 4}|")
    for what in comparisons:
        batch, calls = (timings[f"{what}, {how}"].median for how in ("batch", "calls"))
        rows.append({"what": what, "batch_ms": 1e3 * batch, "calls_ms": 1e3 * calls, "batch_over_calls": batch / calls})
        print(f"| {what} | {1e3 * batch:.0f} | {1e3 * calls:.0f} | {batch / calls:.0%} |")
    results.write("prompts", size, points=POINTS, image=[HEIGHT, WIDTH], rows=rows)


if __name__ == "__main__":
    main()
