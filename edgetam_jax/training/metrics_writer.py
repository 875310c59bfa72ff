"""What a run writes about itself: a line of JSON a step, curves for TensorBoard, and a line on the terminal."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetam_jax.media.atomic import replacing

METRICS = "metrics.jsonl"


class MetricsWriter:
    """Goes on where a run goes on: lines about steps that are done again are dropped first."""

    def __init__(self, folder: Path, step: int, steps: int) -> None:
        self._path, self._steps, self._shown = folder / METRICS, steps, 0.0
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        kept = [line for line in lines if _is_whole(line) and json.loads(line)["step"] < step]
        if kept != lines:
            with replacing(self._path, force=True) as partial:
                partial.write_text("".join(line + "\n" for line in kept))
        self._board = _tensorboard(folder, step)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(name, value, step)
        self._show(step, values)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
        if sys.stderr.isatty():
            print(file=sys.stderr)

    def _show(self, step: int, values: Mapping[str, Any]) -> None:
        """On a terminal one line that changes, elsewhere one from time to time."""
        now, moving = time.monotonic(), sys.stderr.isatty()
        if now - self._shown < (0.2 if moving else 30) and step + 1 < self._steps:
            return
        self._shown = now
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, float))
        print(f"{step + 1}/{self._steps}  {shown}", end="\r" if moving else "\n", file=sys.stderr, flush=True)


def _is_whole(line: str) -> bool:
    """A run that was killed may have left half a line."""
    try:
        return "step" in json.loads(line)
    except ValueError:
        return False


def _tensorboard(folder: Path, step: int) -> Any:
    """A writer, if tensorboardX is there. TensorBoard drops what it had from `step` on."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step)
