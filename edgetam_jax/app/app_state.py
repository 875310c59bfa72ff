"""What all sessions share: the network, its compiled programs, and an example clip, prepared in the background."""

import contextlib
import logging
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgetam_jax.app import clips, images
from edgetam_jax.app.gestures import CENTER_CLICK
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
    """Frames [T, H, W, 3] of a synthetic clip, so that nothing is downloaded."""
    return np.asarray(held_out_clip(EXAMPLE_NUMBER, EXAMPLE).frames)


class AppState:
    """The shared state.

    Args:
        model: The network.
        root: Folder for all files of the app except uploads. The caller removes it at the end.
        example: Returns the frames [T, H, W, 3] of the example clip.
    """

    def __init__(self, model: Model, root: Path, example: Callable[[], np.ndarray] = synthetic_example) -> None:
        self.model, self.predictor = model, VideoPredictor(model, non_overlap_masks=True)
        self.sessions = Sessions(root)
        self.root, self._example_path, self._make_example = root, root / "example.mp4", example
        root.mkdir(exist_ok=True)
        self._ready, self._failure = threading.Event(), ""

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set()

    def wait_until_ready(self) -> None:
        """Must come before any call of the network: two threads that call the same program would compile it twice."""
        self._ready.wait()

    def example_path(self) -> Path:
        self.wait_until_ready()
        if not self._example_path.exists():
            raise EdgeTAMError(f"the example could not be made ({self._failure}); upload a clip of your own.")
        return self._example_path

    def start(self) -> None:
        """Runs `prepare` in the background."""
        threading.Thread(target=self.prepare, name="edgetam-app-prepare", daemon=True).start()

    def prepare(self) -> None:
        """Makes the example, and compiles the programs of clicks and tracking."""
        try:
            frames = self._make_example()
            write_clip(self._example_path, frames)
            self._warm_up()
        except Exception as error:  # any error at all, because sessions wait for the end of this
            logging.getLogger("edgetam_jax").exception("the app could not be prepared")
            self._failure = str(error)
        finally:
            self._ready.set()

    def _warm_up(self) -> None:
        """A short session: a click, two tracked frames and a correction on the example, then clicks on an image."""
        folder = Path(tempfile.mkdtemp(dir=self.root))
        with contextlib.closing(clips.open_clip(self.predictor, self._example_path, folder)) as clip:
            clips.add_gesture(clip, 1, 1, CENTER_CLICK)
            for done, _ in clips.track(clip):
                if done == 2:
                    break
            clips.add_gesture(clip, 2, 1, CENTER_CLICK)
            image = images.open_image(self.model, clip.video[0], "example")
            for _ in range(2):  # one click gives several masks and two give one, by different programs
                images.add_gesture(image, CENTER_CLICK)


def write_clip(path: Path, frames: np.ndarray) -> None:
    with replacing(path, force=True) as partial:
        writer = Mp4Writer(partial, frames.shape[1:3], FrameTiming(EXAMPLE_FPS))
        for frame in frames:
            writer.add(frame)
        writer.finish()
