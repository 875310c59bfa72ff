"""What all visitors share: the network, its compiled programs, and an example clip, made ready in the background."""

import contextlib
import logging
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgetam_jax.app import clips, images
from edgetam_jax.app.pointing import MIDDLE
from edgetam_jax.app.sessions import Sessions
from edgetam_jax.data.synthetic import ClipConfig
from edgetam_jax.errors import EdgeTAMError
from edgetam_jax.evaluation.held_out import held_out_clip
from edgetam_jax.media.atomic import replacing
from edgetam_jax.media.video_writer import FrameTiming, Mp4Writer
from edgetam_jax.model import Model
from edgetam_jax.tracking.predictor import VideoPredictor

EXAMPLE = ClipConfig(frames=24, height=256, width=256, objects=2, leaving=0.0, pace=0.8)
EXAMPLE_NUMBER = 3
EXAMPLE_FPS = 12.0


def synthetic_example() -> np.ndarray:
    """Frames [T, H, W, 3] that are made here, so that nothing is downloaded."""
    return np.asarray(held_out_clip(EXAMPLE_NUMBER, EXAMPLE).frames)


class AppState:
    """Files of all kinds go below `root`, where no uploads are. Whoever makes the studio removes it at the end."""

    def __init__(self, model: Model, root: Path, example: Callable[[], np.ndarray] = synthetic_example) -> None:
        self.model, self.predictor = model, VideoPredictor(model, non_overlap_masks=True)
        self.visitors = Sessions(root)
        self.root, self._example, self._frames = root, root / "example.mp4", example
        root.mkdir(exist_ok=True)
        self._ready, self._failure = threading.Event(), ""

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set()

    def wait(self) -> None:
        """Before a network's program is called: two threads would compile it twice."""
        self._ready.wait()

    def example(self) -> Path:
        self.wait()
        if not self._example.exists():
            raise EdgeTAMError(f"the example could not be made ({self._failure}); upload a clip of your own.")
        return self._example

    def start(self) -> None:
        threading.Thread(target=self.make_ready, name="edgetam-make-ready", daemon=True).start()

    def make_ready(self) -> None:
        """Draws the example, and compiles what clicks and tracking need."""
        try:
            frames = self._frames()
            write_clip(self._example, frames)
            self._rehearse()
        except Exception as error:  # whatever it is, visitors must not wait for ever
            logging.getLogger("edgetam_jax").exception("the app could not get ready")
            self._failure = str(error)
        finally:
            self._ready.set()

    def _rehearse(self) -> None:
        """A visit in short: a click, two frames tracked, a correction, then an image."""
        folder = Path(tempfile.mkdtemp(dir=self.root))
        with contextlib.closing(clips.open_clip(self.predictor, self._example, folder)) as work:
            clips.mark(work, 1, 1, MIDDLE)
            for done, _ in clips.track(work):
                if done == 2:
                    break
            clips.mark(work, 2, 1, MIDDLE)
            image = images.open_image(self.model, work.video[0], "example")
            for _ in range(2):  # one click can mean several things, two are another program
                images.mark(image, MIDDLE)


def write_clip(path: Path, frames: np.ndarray) -> None:
    with replacing(path, force=True) as partial:
        writer = Mp4Writer(partial, frames.shape[1:3], FrameTiming(EXAMPLE_FPS))
        for frame in frames:
            writer.add(frame)
        writer.finish()
