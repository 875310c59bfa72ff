"""`edgetam-jax vos DATASET OUT --model MODEL`: semi-supervised segmentation of a dataset, see `evaluation.vos`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from edgetam_jax.checkpoints.api import load
from edgetam_jax.cli.processes import add_process_options, join_processes
from edgetam_jax.data.datasets import open_dataset
from edgetam_jax.evaluation import vos
from edgetam_jax.evaluation.provenance import claim_output_dir, model_provenance


def main(argv: Sequence[str] | None = None) -> int:
    """Segments the dataset; returns 0 if all videos were segmented, 1 if some failed."""
    arguments = _parser().parse_args(argv)
    processes = join_processes(arguments)
    dataset = open_dataset(arguments.dataset, arguments.split)
    model = load(arguments.model)
    predictor = vos.make_predictor(model, dataset)
    provenance = model_provenance(model) | {"dataset": dataset.layout}
    claim_output_dir(arguments.out, dataset.names, provenance, arguments.model)
    failed = vos.run(predictor, dataset, arguments.out, processes)
    return int(failed > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgetam-jax vos",
        description="Track every object of a dataset from its first true mask, and write masks as scorers take them.",
    )
    parser.add_argument("dataset", type=Path, help="a folder as DAVIS, MOSE, YouTube-VOS or SA-V lay it out")
    parser.add_argument("out", type=Path, help="folder for the masks")
    parser.add_argument("--model", required=True, help="a checkpoint of any kind")
    parser.add_argument("--split", help="which part of the dataset; by default the one for validation")
    add_process_options(parser)
    return parser
