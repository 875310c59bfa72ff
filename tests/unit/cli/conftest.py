from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from edgetam_jax import open_video, save
from tests.parity.pairs import make_pair, with_score_bias
from tests.support import oracle
from tests.support.scene import FRAMES, MINIMAL, clip

SIZE = 35, 47  # height and width of all images here, so that programs are compiled once; both odd
RATE = 12.5


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands must not change the compilation cache of the tests, and each test runs in a folder of its own."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random in every tensor, and biased so that all objects are present."""
    original = oracle.randomize(oracle.build_original(MINIMAL), seed=0)
    model = with_score_bias(make_pair(original, MINIMAL).model, lambda bias: bias + 3.0)
    path = tmp_path_factory.mktemp("network") / "model.safetensors"
    save(model, path)
    return path


@pytest.fixture(scope="session")
def frames() -> np.ndarray:
    return clip(0)[:, : SIZE[0], : SIZE[1]]


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory, frames: Any) -> Path:
    """An MP4 file with odd sides, which H.264 allows only without chroma subsampling."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", Fraction(RATE), {"crf": "10"})
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv444p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    with open_video(path) as made:
        assert (made.height, made.width, len(made)) == (*SIZE, FRAMES)
    return path
