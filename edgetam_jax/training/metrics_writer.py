"""The metrics of a run: a line of JSON a step, curves for TensorBoard, and progress on the terminal."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from edgetam_jax.media.atomic import replacing

METRICS = "metrics.jsonl"
LOG_INTERVAL = 30  # seconds between two lines where standard error is not a terminal


class MetricsWriter:
    """Appends to the files of a run that is resumed.

    Metrics of `step` and later ones, which are computed again, are dropped first.
    """

    def __init__(self, folder: Path, step: int, steps: int) -> None:
        self._path, self._steps, self._logged = folder / METRICS, steps, 0.0
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        kept = [line for line in lines if _is_complete(line) and json.loads(line)["step"] < step]
        if kept != lines:
            with replacing(self._path, force=True) as partial:
                partial.write_text("".join(line + "\n" for line in kept))
        self._tensorboard = _open_tensorboard(folder, step)
        self._bar = tqdm(initial=step, total=steps, unit="step", dynamic_ncols=True, disable=None)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes the metrics of a step; floats go to TensorBoard and to the terminal as well."""
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        floats = {name: value for name, value in values.items() if isinstance(value, float)}
        if self._tensorboard is not None:
            for name, value in floats.items():
                self._tensorboard.add_scalar(name, value, step)
        text = "  ".join(f"{name} {value:.4g}" for name, value in floats.items())
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update()
        if self._bar.disable:
            self._log(step + 1, text)

    def close(self) -> None:
        self._bar.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def _log(self, done: int, text: str) -> None:
        """Prints a line from time to time, and after the last step."""
        now = time.monotonic()
        if now - self._logged >= LOG_INTERVAL or done == self._steps:
            self._logged = now
            print(f"{done}/{self._steps}  {text}", file=sys.stderr, flush=True)


def _is_complete(line: str) -> bool:
    """A run that was killed may have left a part of a line."""
    try:
        return "step" in json.loads(line)
    except ValueError:
        return False


def _open_tensorboard(folder: Path, step: int) -> Any:
    """A writer if tensorboardX is installed. TensorBoard ignores earlier values from `step` on."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step)
