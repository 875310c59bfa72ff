"""`edgetam-jax masks IMAGE`: masks of everything in an image."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgetam_jax.cli import outputs
from edgetam_jax.cli.options import make_parser, open_model
from edgetam_jax.images.automask import AutomaticMaskGenerator
from edgetam_jax.ops.rle import rle_decode
from edgetam_jax.types import LARGEST_ID

EXAMPLES = """\
  edgetam-jax masks photo.jpg
  edgetam-jax masks photo.jpg --points-per-side 16 --out masks.json
  edgetam-jax masks photo.jpg --crop-layers 1 --out masks.npz   (finds smaller objects, takes longer)"""


def main(argv: Sequence[str] | None = None) -> None:
    _masks(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("masks", "Segment everything in an image from a grid of points.", EXAMPLES)
    parser.add_argument("image", type=Path, help="an image file; - reads standard input")
    outputs.add_image_out_option(parser, "masks")
    outputs.add_force_option(parser)
    group = parser.add_argument_group("which masks are kept")
    group.add_argument("--points-per-side", type=int, default=32, help="points on each side of the grid (32)")
    group.add_argument("--min-iou", type=float, default=0.8, help="lower bound of the IoU that is predicted (0.8)")
    group.add_argument(
        "--min-stability",
        type=float,
        default=0.95,
        help="lower bound of the stability score: the IoU of the masks at a higher and a lower threshold (0.95)",
    )
    group.add_argument(
        "--min-area",
        type=int,
        default=0,
        help="smaller holes and islands are removed; pixels of low-resolution masks (0)",
    )
    group.add_argument("--crop-layers", type=int, default=0, help="repeat on 4, 16, ... crops of the image (0)")
    return parser


def _masks(arguments: argparse.Namespace) -> None:
    outs = outputs.image_output_paths(arguments.out, arguments.image, "masks", arguments.force)
    image = outputs.read_input(arguments.image)
    generator = AutomaticMaskGenerator(
        open_model(arguments),
        points_per_side=arguments.points_per_side,
        pred_iou_thresh=arguments.min_iou,
        stability_score_thresh=arguments.min_stability,
        min_mask_region_area=arguments.min_area,
        crop_n_layers=arguments.crop_layers,
        output_mode="coco_rle",
        progress=sys.stderr.isatty(),
    )
    # Largest first, so that small masks are drawn on top of those that contain them.
    records = sorted(generator.generate(image), key=lambda record: -record["area"])
    print(f"{len(records)} masks", file=sys.stderr)
    masks = [rle_decode(record["segmentation"]) for record in records]
    stack = np.stack(masks) if masks else np.zeros((0, *image.shape[:2]), bool)
    if len(masks) > LARGEST_ID and any(out.suffix.lower() == ".png" for out in outs):
        print(f"note: a PNG holds only the {LARGEST_ID} largest masks; .json and .npz hold all.", file=sys.stderr)
    result = outputs.ImageResult(image, range(1, len(masks) + 1), stack, records)
    outputs.write_image_outputs(result, outs, arguments.force)
