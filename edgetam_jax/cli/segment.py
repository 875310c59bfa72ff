"""`edgetam-jax segment IMAGE --point X,Y`: masks of objects in an image, from clicks, boxes or masks."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetam_jax.cli import outputs, prompts
from edgetam_jax.cli.options import make_parser, open_model
from edgetam_jax.images.best_mask import predict_best_mask
from edgetam_jax.images.predictor import ImagePredictor
from edgetam_jax.media.outputs import coco_record

EXAMPLES = """\
  edgetam-jax segment photo.jpg --point 500,375
  edgetam-jax segment photo.jpg --point 500,375 --negative 620,300 --out cut.png --out cut.json
  edgetam-jax segment photo.jpg --box 1:100,80,300,240 --point 2:500,375 --out both.jpg
  edgetam-jax segment - --point 500,375 --out - < photo.jpg > masks.json"""


def main(argv: Sequence[str] | None = None) -> None:
    _segment(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("segment", "Segment objects in an image from clicks, boxes or masks.", EXAMPLES)
    parser.add_argument("image", type=Path, help="an image file; - reads standard input")
    prompts.add_prompt_options(parser, frames=False)
    outputs.add_image_out_option(parser, "segment")
    outputs.add_force_option(parser)
    return parser


def _segment(arguments: argparse.Namespace) -> None:
    outs = outputs.image_output_paths(arguments.out, arguments.image, "segment", arguments.force)
    image = outputs.read_input(arguments.image)
    object_prompts = prompts.build_prompts(arguments)
    prompts.check_prompts(object_prompts, (image.shape[0], image.shape[1]), 1)
    predictor = ImagePredictor(open_model(arguments))
    predictor.set_image(image)
    masks, records = [], list[dict[str, Any]]()
    for prompt in object_prompts:
        mask, iou = predict_best_mask(predictor, prompt)
        masks.append(mask)
        records.append({"obj_id": prompt.obj_id, "predicted_iou": round(iou, 4), **coco_record(mask)})
    obj_ids = [record["obj_id"] for record in records]
    outputs.write_image_outputs(outputs.ImageResult(image, obj_ids, np.stack(masks), records), outs, arguments.force)
