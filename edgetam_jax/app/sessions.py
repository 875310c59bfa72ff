"""Who uses the app: each visitor has work and a folder of their own, and both go when they leave."""

import contextlib
import dataclasses
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from edgetam_jax.app.clips import ClipWork
from edgetam_jax.app.images import ImageWork
from edgetam_jax.errors import EdgeTAMError

MOST = 32  # visitors at once
IDLE = 3600.0  # seconds without a sign of life, after which a visitor makes room for another
ENDED = "this visit has ended; load the page again."


@dataclasses.dataclass
class AppSession:
    folder: Path
    clip: ClipWork | None = None
    image: ImageWork | None = None
    masks: Path | None = None  # the folder of the image's
    change: threading.Condition = dataclasses.field(default_factory=threading.Condition)  # of what follows
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)  # asks tracking to end
    at_work: int = 0  # actions that are going on: one, and while a clip is tracked, looks at it
    tracking: bool = False
    gone: bool = False
    seen: float = dataclasses.field(default_factory=time.monotonic)

    @contextlib.contextmanager
    def turn(self, looking: bool = False) -> Iterator[None]:
        """One action at a time. While a clip is tracked, one can look at its frames, and nothing else."""
        with self.change:
            self.change.wait_for(lambda: self.tracking or not self.at_work)
            self.check_here()
            if self.tracking and not looking:
                raise EdgeTAMError("the clip is being tracked; wait, or press Stop.")
            self.at_work += 1
        try:
            yield
        finally:
            with self.change:
                self.at_work -= 1
                self.change.notify_all()

    @contextlib.contextmanager
    def tracking_turn(self) -> Iterator[None]:
        with self.turn():
            with self.change:
                self.check_here()  # who leaves after this is heard, for `stop` is not cleared again
                self.stop.clear()
                self.tracking = True
                self.change.notify_all()
            try:
                yield
            finally:
                self.tracking = False

    def check_here(self) -> None:
        if self.gone:
            raise EdgeTAMError(ENDED)

    def new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def new_masks(self) -> Path:
        """A folder in place of the one of before: browsers keep files by their addresses."""
        if self.masks is not None:
            shutil.rmtree(self.masks)
        self.masks = self.new_folder()
        return self.masks

    def the_clip(self) -> ClipWork:
        if self.clip is None:
            raise EdgeTAMError("there is no clip yet; upload one, or take the example.")
        return self.clip

    def the_image(self) -> ImageWork:
        if self.image is None:
            raise EdgeTAMError("there is no image yet; upload one, or take the example.")
        return self.image

    def put_clip(self, clip: ClipWork | None) -> None:
        """In place of the one of before, which goes."""
        if self.clip is not None:
            self.clip.close()
        self.clip = clip


class Sessions:
    """All visitors by their keys."""

    def __init__(self, root: Path) -> None:
        self._root, self._known, self._lock = root, dict[str, AppSession](), threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def enter(self, key: str) -> None:
        if len(self) >= MOST:
            self._drop_idle()
        with self._lock:
            if key in self._known:
                return
            if len(self._known) >= MOST:
                raise EdgeTAMError(f"{MOST} visitors are here already; come back when one has left.")
            self._known[key] = AppSession(Path(tempfile.mkdtemp(prefix="visitor-", dir=self._root)))

    def _drop_idle(self) -> None:
        """Who closes the page before it has told of itself is not heard when they leave."""
        for key, visitor in list(self._known.items()):
            if not visitor.at_work and time.monotonic() - visitor.seen > IDLE:
                self.leave(key)

    def find(self, key: str) -> AppSession:
        visitor = self._known.get(key)
        if visitor is None:
            raise EdgeTAMError(ENDED)
        visitor.seen = time.monotonic()
        return visitor

    def leave(self, key: str) -> None:
        """Ends what is going on, and removes all that the visitor brought and made. A second time it does nothing."""
        with self._lock:
            visitor = self._known.pop(key, None)
        if visitor is None:
            return
        with visitor.change:
            visitor.gone = True
            visitor.stop.set()
            visitor.change.wait_for(lambda: not visitor.at_work)
        visitor.put_clip(None)
        visitor.image = None
        shutil.rmtree(visitor.folder, ignore_errors=True)

    def close(self) -> None:
        for key in list(self._known):
            self.leave(key)
