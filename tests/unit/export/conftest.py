from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetam_jax import Model
from edgetam_jax.export.api import export
from edgetam_jax.export.programs import ExportOptions
from tests.parity.pairs import minimal_model
from tests.support.exported import Result, requests, track_live
from tests.support.scene import MINIMAL, clip

OBJECTS = 3
OPTIONS = ExportOptions()


@pytest.fixture(scope="session")
def model() -> Model:
    """Random in every tensor; objects are found on most frames and lost on some."""
    return minimal_model(score_bias=2.45)


@pytest.fixture(scope="session")
def frames() -> np.ndarray:
    """Ten frames of the model's size: both rings wrap."""
    side = MINIMAL.image_size
    small = np.concatenate([clip(0), clip(0)[1:3]])
    return np.stack([np.asarray(Image.fromarray(frame).resize((side, side))) for frame in small])


@pytest.fixture(scope="session")
def live(model: Model, frames: np.ndarray) -> Result:
    return track_live(model, frames, requests(MINIMAL.image_size), OBJECTS, OPTIONS)


@pytest.fixture(scope="session")
def onnx_folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export in float32."""
    path = tmp_path_factory.mktemp("export") / "tracker"
    export(model, path, points=OPTIONS.points, slots=OPTIONS.slots, weights="float32")
    return path
