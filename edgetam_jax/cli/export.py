"""`edgetam-jax export MODEL OUT --to onnx`: the tracker for other runtimes."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from edgetam_jax.cli.options import load_network, make_parser
from edgetam_jax.cli.outputs import add_force_option
from edgetam_jax.export.api import FORMATS, export
from edgetam_jax.export.programs import ExportOptions
from edgetam_jax.export.verify import report, verify

EXAMPLES = """\
  edgetam-jax export nano tracker/                       (ONNX with weights in float16)
  edgetam-jax export edgetam.safetensors tracker/ --size 512 --weights float32 --verify
  edgetam-jax export nano tracker/ --to stablehlo"""


def main(argv: Sequence[str] | None = None) -> int:
    """Exports a network; returns 1 if `--verify` found it outside its bounds, else 0."""
    arguments = _parser().parse_args(argv)
    model = load_network(arguments.model, arguments.size, "cpu")
    spec = export(
        model,
        arguments.out,
        arguments.to,
        points=arguments.points,
        slots=arguments.slots,
        weights=arguments.weights,
        force=arguments.force,
    )
    print(f"written: {arguments.out}: {', '.join(spec['files'])}, edgetam.json ({spec['weights']} weights)")
    if "track" not in spec["programs"]:
        print("this network is for still images: encode and decode were exported, there is no tracker")
    if not arguments.verify:
        return 0
    print("tracking a clip with the export and with JAX, whose program is compiled first", flush=True)
    found = verify(model, arguments.out)
    print(report(found))
    return int(bool(found.failures))


def _parser() -> argparse.ArgumentParser:
    options = ExportOptions()
    parser = make_parser(
        "export",
        "Write a network as programs for other runtimes: encode (once a frame), track (once an object and frame, with "
        "all of its memory), decode (for still images), and edgetam.json, which describes them. See docs/export.md.",
        EXAMPLES,
        network=False,
    )
    parser.add_argument("model", help="nano, a checkpoint of any kind, or OWNER/NAME from the Hugging Face hub")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--to", choices=tuple(FORMATS), default="onnx", help="the format (onnx)")
    parser.add_argument("--size", type=int, help="input size in pixels, such as 512, 768 or 1024 (the checkpoint's)")
    parser.add_argument(
        "--points", type=int, default=options.points, help="places for points; a prompt has one less (4)"
    )
    parser.add_argument(
        "--slots", type=int, default=options.slots, help="conditioning frames that are kept of an object (2)"
    )
    parser.add_argument(
        "--weights",
        choices=("float32", "float16", "int8"),
        help="how weights are stored; programs compute in float32 (float16 for onnx, else float32)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="track a synthetic clip with the export and with JAX, and print errors, IoU, time and sizes; "
        "exit code 1 if they are outside their bounds",
    )
    add_force_option(parser)
    return parser
