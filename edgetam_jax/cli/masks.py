"""`edgetam-jax masks IMAGE`: masks of everything in it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgetam_jax.cli import options, pictures
from edgetam_jax.images.automask import AutomaticMaskGenerator
from edgetam_jax.ops.rle import rle_decode
from edgetam_jax.types import LARGEST_ID

EXAMPLES = """\
  edgetam-jax masks photo.jpg
  edgetam-jax masks photo.jpg --points-per-side 16 --out masks.json
  edgetam-jax masks photo.jpg --crop-layers 1 --out masks.npz   (looks closer: finds small things, takes longer)"""


def main(argv: Sequence[str] | None = None) -> int:
    return options.run(_masks, _parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = options.make_parser("masks", "Masks of everything in an image, from a grid of clicks.", EXAMPLES)
    parser.add_argument("image", type=Path, help="an image file; - reads standard input")
    pictures.add_out_option(parser, "masks")
    options.add_force_option(parser)
    group = parser.add_argument_group("what counts as a mask")
    group.add_argument("--points-per-side", type=int, default=32, help="of the grid of clicks (32)")
    group.add_argument("--min-iou", type=float, default=0.8, help="the network's own estimate must exceed it (0.8)")
    group.add_argument("--min-stability", type=float, default=0.95, help="how much a mask may depend on its cut (0.95)")
    group.add_argument("--min-area", type=int, default=0, help="smaller holes and islands go, pixels of its masks (0)")
    group.add_argument("--crop-layers", type=int, default=0, help="look again into 4, 16, ... parts of the image (0)")
    return parser


def _masks(arguments: argparse.Namespace) -> None:
    outs = pictures.outputs_of(arguments.out, arguments.image, "masks", arguments.force)
    image = pictures.open_image(arguments.image)
    generator = AutomaticMaskGenerator(
        options.open_model(arguments),
        points_per_side=arguments.points_per_side,
        pred_iou_thresh=arguments.min_iou,
        stability_score_thresh=arguments.min_stability,
        min_mask_region_area=arguments.min_area,
        crop_n_layers=arguments.crop_layers,
        output_mode="coco_rle",
        progress=sys.stderr.isatty(),
    )
    # The largest first, so that small ones lie on top.
    records = sorted(generator.generate(image), key=lambda record: -record["area"])
    print(f"{len(records)} masks", file=sys.stderr)
    masks = [rle_decode(record["segmentation"]) for record in records]
    stack = np.stack(masks) if masks else np.zeros((0, *image.shape[:2]), bool)
    result = pictures.Result(image, range(1, len(masks) + 1), stack, records)
    if len(masks) > LARGEST_ID and any(out.suffix.lower() == ".png" for out in outs):
        print(f"note: a PNG holds the {LARGEST_ID} largest of them; .json and .npz hold all.", file=sys.stderr)
    pictures.write(result, outs, arguments.force)
