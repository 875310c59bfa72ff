"""Trains NANO from nothing: the recipes of this folder, one after the other, and the file in the package.

    python recipes/nano/make.py DATA    # from the repository's root; run it again to resume

DATA holds photographs/ (*.jpg), cutouts/ (pictures with alpha), clips/ (a folder of frames each) and cubes/ (videos in
DAVIS's layout). From these come, in runs/nano/data: things cut out of the photographs (cut/, by cut_out.py, which needs
opencv-python-headless), the bank of textures, and the videos with two of them held out for validation.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from edgetam_jax.checkpoints.api import EMBEDDED_PATH, save
from edgetam_jax.data.bank import read_bank
from edgetam_jax.data.packing import Source, pack_bank
from edgetam_jax.data.synthetic.batches import SyntheticBatches
from edgetam_jax.errors import FrameError
from edgetam_jax.media.atomic import replacing
from edgetam_jax.model import Model
from edgetam_jax.tracking.step import encode_frames
from edgetam_jax.training.init import init_memory_from_images
from edgetam_jax.training.recipe import read_recipe
from edgetam_jax.training.trainer import train

HERE, RUNS = Path(__file__).parent, Path("runs/nano")
CURVE, ATTRIBUTION = HERE / "curve.json", "ATTRIBUTION.md"  # the latter beside the network
RECIPES = sorted(path.stem for path in HERE.glob("*.toml"))
FOLDERS = ("photographs", "cutouts", "clips", "cubes")
HELD_OUT = ("cube-02", "cube-03")  # one upright; in the other, the cube is hidden on some frames
POINT = 100  # steps that are averaged to a point of the curve
SHOWN = ("loss", "loss_focal", "loss_dice", "loss_iou", "loss_score", "iou", "absent", "seconds", "data_share")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train NANO from nothing, or resume its training.")
    parser.add_argument("data", type=Path, help="folder of " + ", ".join(FOLDERS))
    prepare(parser.parse_args(argv).data)
    curve: dict[str, Any] = {"bank": read_bank(RUNS / "data" / "bank.safetensors").fingerprint}
    images, memory, *later = RECIPES
    model = run_recipe(images, curve)
    params = init_memory_from_images(model.params, embedding_deviation(images, model))
    save(Model(params, model.config), RUNS / "with-memory.safetensors", force=True)
    for name in (memory, *later):
        model = run_recipe(name, curve)
    half = jax.tree.map(lambda x: x.astype(np.float16), model.params)
    save(Model(half, model.config), EMBEDDED_PATH, force=True)
    with replacing(EMBEDDED_PATH.with_name(ATTRIBUTION), force=True) as partial:
        shutil.copyfile(HERE / ATTRIBUTION, partial)
    with replacing(CURVE, force=True) as partial:
        partial.write_text(json.dumps(curve, indent=1) + "\n")


def prepare(data: Path) -> None:
    """Makes what the recipes read, unless it is there."""
    missing = [name for name in FOLDERS if not (data / name).is_dir()]
    if missing:
        raise FrameError(
            f"{data} has no folder {', '.join(missing)}; expected {', '.join(FOLDERS)} (docs/training.md)."
        )
    out = RUNS / "data"
    out.mkdir(parents=True, exist_ok=True)
    split_videos(data / "cubes", out / "cubes")
    if (out / "bank.safetensors").exists():
        return
    if not (out / "cut" / "annotations").exists():
        subprocess.run([sys.executable, HERE / "cut_out.py", data / "photographs", out / "cut"], check=True)
    sources = [
        Source("photographs", data / "photographs"),
        Source("clips", data / "clips"),
        Source("cutouts", data / "cutouts"),
        Source("cutouts", out / "cut" / "cutouts"),
        Source("annotated", out / "cubes", "train"),
    ]
    pack_bank(sources, out / "bank.safetensors")


def split_videos(videos: Path, out: Path) -> None:
    """The videos with lists of their own, so that HELD_OUT are never trained on."""
    names = sorted(path.name for path in (videos / "JPEGImages" / "480p").iterdir())
    lists = out / "ImageSets" / "2017"
    lists.mkdir(parents=True, exist_ok=True)
    for name in ("JPEGImages", "Annotations"):
        if not (out / name).exists():
            (out / name).symlink_to((videos / name).resolve())
    for split, chosen in (("train", [name for name in names if name not in HELD_OUT]), ("val", HELD_OUT)):
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in chosen))


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
