"""Trains NANO from scratch: the recipes of this folder, one after the other, and the file in the package.

python recipes/nano/make.py    # from the repository's root; run it again to resume

The file in the package was trained with these recipes, but not in one go; docs/training.md lists the differences.
"""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from edgetam_jax.checkpoints.api import EMBEDDED_PATH, save
from edgetam_jax.data.synthetic.batches import SyntheticBatches
from edgetam_jax.media.atomic import replacing
from edgetam_jax.model import Model
from edgetam_jax.tracking.step import encode_frames
from edgetam_jax.training.init import init_memory_from_images
from edgetam_jax.training.recipe import read_recipe
from edgetam_jax.training.trainer import train

HERE, RUNS = Path(__file__).parent, Path("runs/nano")
CURVE = HERE / "curve.json"
RECIPES = sorted((path.stem for path in HERE.glob("*.toml")), key=lambda name: int(name.split("-")[0]))
POINT = 100  # steps that are averaged to a point of the curve
SHOWN = ("loss", "loss_focal", "loss_dice", "loss_iou", "loss_score", "iou", "absent", "seconds", "data_share")


def main() -> None:
    curve = {}
    images_128, images_256, memory_128, *later = RECIPES
    run_recipe(images_128, curve)
    model = run_recipe(images_256, curve)
    params = init_memory_from_images(model.params, embedding_deviation(images_256, model))
    save(Model(params, model.config), RUNS / "with-memory.safetensors", force=True)
    run_recipe(memory_128, curve)
    for name in later:
        model = run_recipe(name, curve)
    half = jax.tree.map(lambda x: x.astype(np.float16), model.params)
    save(Model(half, model.config), EMBEDDED_PATH, force=True)
    with replacing(CURVE, force=True) as partial:
        partial.write_text(json.dumps(curve, indent=1) + "\n")


def run_recipe(name: str, curve: dict[str, Any]) -> Model:
    model = train(read_recipe(HERE / f"{name}.toml"), RUNS / name)
    curve[name] = curve_of(RUNS / name / "metrics.jsonl")
    return model


def embedding_deviation(name: str, model: Model) -> float:
    """The standard deviation of the image embedding, on a recipe's frames."""
    recipe = read_recipe(HERE / f"{name}.toml")
    frames = next(SyntheticBatches(recipe.synthetic, recipe.image_size, recipe.batch, recipe.seed)).frames[:, 0]
    return float(jax.jit(encode_frames)(model, frames).image.embedding.std())


def curve_of(metrics: Path) -> list[dict[str, float]]:
    """Metrics averaged over `POINT` steps each, and the evaluations in these steps."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    points = [lines[i : i + POINT] for i in range(0, len(lines), POINT)]
    return [
        {"step": part[-1]["step"] + 1}
        | {name: round(float(np.mean([line[name] for line in part])), 4) for name in SHOWN}
        | {name: round(value, 4) for line in part for name, value in line.items() if name.startswith("held_out")}
        for part in points
    ]


if __name__ == "__main__":
    main()
