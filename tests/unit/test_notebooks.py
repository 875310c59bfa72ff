"""The notebooks run from top to bottom on the embedded weights, show pictures, and are committed without outputs."""

import base64
import io
import pathlib

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from tests.support.pages import ROOT
from tests.support.waiting import HANG_SECONDS

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = {"automatic_masks": 3, "conversion": 0, "finetuning": 2, "images": 6, "video": 6}  # at least so many
LONG = ("finetuning",)  # others run their programs a few times, for which it does not pay to optimize them
FORMATS = ("image/png", "image/gif")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def pictures(notebook: nbformat.NotebookNode) -> list[Image.Image]:
    """All that a notebook shows."""
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    coded = [data[kind] for data in shown for kind in FORMATS if kind in data]
    return [Image.open(io.BytesIO(base64.b64decode(code))) for code in coded]


def test_all_are_known() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(PICTURES)


@each
def test_is_committed_without_outputs(path: pathlib.Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell.source for cell in cells if cell.outputs or cell.execution_count is not None]


@pytest.mark.slow
@each
def test_runs(path: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that fails raises here, with its traceback."""
    if path.stem not in LONG:
        monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the kernel, which starts in an empty folder
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=int(HANG_SECONDS), resources={"metadata": {"path": str(tmp_path)}}).execute()
    seen = pictures(notebook)
    assert len(seen) >= PICTURES[path.stem]
    assert all(min(picture.size) > 100 for picture in seen)
    assert all(np.ptp(np.asarray(picture.convert("RGB")), (0, 1)).max() > 50 for picture in seen)
