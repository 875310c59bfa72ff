"""The difference between this network and the PyTorch original, part by part: `python -m benchmarks.parity`.

Builds the original at full size with random weights, saves its checkpoint, converts it with the code of
`python -m convert`, and runs both networks on the same inputs. The weights are random in every tensor, because the
released ones are not available here. This is also the stricter test: no tensor is close to zero or to an identity.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

from tests.support.tolerances import NO_OBJECT

NOTICE = "The weights are random, not the released ones. Equal outputs mean equal networks, not good masks."
DOCUMENT = pathlib.Path(__file__).parents[1] / "docs" / "parity.md"
START, END = "<!-- table: python -m benchmarks.parity --markdown -->", "<!-- end of table -->"
HEADER = ("part", "range of the reference", "largest error", "tolerance", "result")


class PartResult(NamedTuple):
    part: str
    low: float
    high: float
    error: float
    bar: float
    problem: str  # empty if the comparison passed

    def cells(self) -> tuple[str, ...]:
        span = f"{self.low:.4g} to {self.high:.4g}"
        return self.part, span, f"{self.error:.1e}", f"{self.bar:.1e}", "FAIL" if self.problem else "pass"


def compare_parts(seed: int) -> Iterator[PartResult]:
    import torch

    from convert.__main__ import main as convert
    from edgetam_jax.checkpoints.api import load
    from edgetam_jax.config import EDGETAM
    from tests.parity import cases
    from tests.parity.networks import Ours
    from tests.parity.references import Original
    from tests.support import oracle

    original = oracle.randomize(oracle.build_original(EDGETAM), seed)
    with tempfile.TemporaryDirectory() as folder:
        source, out = pathlib.Path(folder, "edgetam.pt"), pathlib.Path(folder, "edgetam")
        torch.save({"model": original.state_dict()}, source)
        if convert([str(source), str(out)]):
            raise SystemExit("the conversion failed")
        model = load(out)
    scene = cases.make_scene(Ours(model), Original(original, EDGETAM))
    parts = {
        "image encoder": cases.image_features(scene),
        "prompt encoder": cases.prompt_encoding(scene),
        "no prompt": cases.prompts(scene, "no prompt", multimask=True),
        "one click": cases.prompts(scene, "one click", multimask=True),
        "box": cases.prompts(scene, "box", multimask=False),
        "click and mask prompt": cases.prompts(scene, "click and mask", multimask=False),
        "given mask": cases.given_mask(scene),
        "memory of a prompted frame": cases.memory(scene, from_prompt=True),
        "memory of a tracked frame": cases.memory(scene, from_prompt=False),
        "memory attention, 1 frame": cases.remembering(scene, frames=1),
        "memory attention, 7 frames": cases.remembering(scene, frames=7),
        "two frames in a row": cases.two_frames(scene),
    }
    for part, comparisons in parts.items():
        for comparison in comparisons:
            yield compare(part, comparison)


def compare(part: str, comparison: Any) -> PartResult:
    got, want = np.asarray(comparison.got), np.asarray(comparison.want)
    present = want[want != NO_OBJECT]
    try:
        comparison.check()
        problem = ""
    except AssertionError as failure:
        problem = str(failure)
    error = float(np.abs(got - want).max())
    name = f"{part}: {comparison.name}"
    return PartResult(name, float(present.min()), float(present.max()), error, comparison.bar, problem)


def format_markdown(results: Sequence[PartResult]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (HEADER, *(row.cells() for row in results))]
    return "\n".join([lines[0], "|---|---|---:|---:|---|", *lines[1:]])


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 if every part is within its tolerance."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--markdown", action="store_true", help=f"also replace the table of docs/{DOCUMENT.name}")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random weights (0)")
    arguments = parser.parse_args(argv)
    jax.config.update("jax_default_matmul_precision", "highest")
    start, results = time.monotonic(), []
    print(NOTICE, flush=True)
    widths = 46, 20, 13, 8
    for row in compare_parts(arguments.seed):
        if not results:
            print("\n" + "  ".join(text.ljust(width) for text, width in zip(HEADER, (*widths, 0), strict=True)))
        print("  ".join(text.ljust(width) for text, width in zip(row.cells(), (*widths, 0), strict=True)), flush=True)
        results.append(row)
    failed = [row for row in results if row.problem]
    for row in failed:
        print(f"{row.part}: {row.problem}")
    seconds = time.monotonic() - start
    print(f"\n{len(results) - len(failed)} of {len(results)} within their tolerances, {seconds:.0f} s. {NOTICE}")
    if arguments.markdown:
        text = DOCUMENT.read_text()
        before, after = text.index(START) + len(START), text.index(END)
        DOCUMENT.write_text(f"{text[:before]}\n\n{format_markdown(results)}\n\n{text[after:]}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
