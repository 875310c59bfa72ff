"""`edgetam-jax segment IMAGE --point X,Y`: masks of what is pointed at."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgetam_jax.cli import options, pictures, prompts
from edgetam_jax.cli.outputs import describe
from edgetam_jax.images.predictor import ImagePredictor
from edgetam_jax.nn.edgetam import MASK_LOGIT
from edgetam_jax.prompts import Prompt

EXAMPLES = """\
  edgetam-jax segment photo.jpg --point 500,375
  edgetam-jax segment photo.jpg --point 500,375 --negative 620,300 --out cut.png --out cut.json
  edgetam-jax segment photo.jpg --box 1:100,80,300,240 --point 2:500,375 --out both.jpg
  edgetam-jax segment - --point 500,375 --out - < photo.jpg > masks.json"""


def main(argv: Sequence[str] | None = None) -> int:
    return options.run(_segment, _parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = options.make_parser("segment", "Masks of what you point at in an image, by clicks and boxes.", EXAMPLES)
    parser.add_argument("image", type=Path, help="an image file; - reads standard input")
    prompts.add_prompt_options(parser, frames=False)
    pictures.add_out_option(parser, "segment")
    options.add_force_option(parser)
    return parser


def _segment(arguments: argparse.Namespace) -> None:
    outs = pictures.outputs_of(arguments.out, arguments.image, "segment", arguments.force)
    image = pictures.open_image(arguments.image)
    said = prompts.gather(arguments)
    prompts.check(said, (image.shape[0], image.shape[1]), 1)
    predictor = ImagePredictor(options.open_model(arguments))
    predictor.set_image(image)
    answers = [ask(predictor, prompt) for prompt in said]
    masks, obj_ids = np.stack([mask for mask, _ in answers]), [prompt.obj_id or 1 for prompt in said]
    records: list[dict[str, Any]] = [
        {"obj_id": obj_id, "predicted_iou": round(iou, 4), **describe(mask)}
        for obj_id, (mask, iou) in zip(obj_ids, answers, strict=True)
    ]
    pictures.write(pictures.Result(image, obj_ids, masks, records), outs, arguments.force)


def ask(predictor: ImagePredictor, prompt: Prompt) -> tuple[np.ndarray, float]:
    """The best mask [H, W] of an object, and the network's estimate of its quality."""
    # One click can mean several things.
    vague = prompt.box is None and prompt.mask is None and len(np.asarray(prompt.labels)) == 1
    masks, ious, _ = predictor.predict(
        prompt.points,
        prompt.labels,
        prompt.box,
        None if prompt.mask is None else _logits(prompt.mask, predictor.model.config.mask_size),
        multimask_output=vague,
    )
    best = int(np.argmax(ious))
    return masks[best] > 0, float(ious[best])


def _logits(mask: Any, side: int) -> np.ndarray:
    """A mask [H, W] as the network takes it to start from: [1, h, w]."""
    share = np.asarray(Image.fromarray(np.asarray(mask)).convert("L").resize((side, side), Image.Resampling.BOX)) / 255
    return ((2 * share - 1) * MASK_LOGIT).astype(np.float32)[None]
