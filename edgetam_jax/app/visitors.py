"""Who uses the app: each visitor has work and a folder of their own, and both go when they leave."""

import contextlib
import dataclasses
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from edgetam_jax.app.clips import ClipWork
from edgetam_jax.app.images import ImageWork
from edgetam_jax.errors import EdgeTAMError

MOST = 32  # visitors at once
ENDED = "this visit has ended; load the page again."


@dataclasses.dataclass
class Visitor:
    folder: Path
    clip: ClipWork | None = None
    image: ImageWork | None = None
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)  # asks tracking to end
    tracking: bool = False
    gone: bool = False

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """One action at a time; while a clip is tracked, none."""
        if self.tracking:
            raise EdgeTAMError("the clip is being tracked; wait, or press Stop.")
        with self.lock:
            self.check_here()
            yield

    @contextlib.contextmanager
    def tracking_turn(self) -> Iterator[None]:
        with self.turn():
            self.stop.clear()
            self.tracking = True
            try:
                yield
            finally:
                self.tracking = False

    def looking_turn(self) -> contextlib.AbstractContextManager[None]:
        """To look at a frame, which is possible while the clip is tracked."""
        return contextlib.nullcontext() if self.tracking else self.turn()

    def check_here(self) -> None:
        if self.gone:
            raise EdgeTAMError(ENDED)

    def new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

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


class Visitors:
    """All visitors by their keys."""

    def __init__(self, root: Path) -> None:
        self._root, self._known, self._lock = root, dict[str, Visitor](), threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def enter(self, key: str) -> None:
        with self._lock:
            if key in self._known:
                return
            if len(self._known) >= MOST:
                raise EdgeTAMError(f"{MOST} visitors are here already; come back when one has left.")
            folder = self._root / f"visitor-{key}"
            folder.mkdir(parents=True)
            self._known[key] = Visitor(folder)

    def find(self, key: str) -> Visitor:
        visitor = self._known.get(key)
        if visitor is None:
            raise EdgeTAMError(ENDED)
        return visitor

    def leave(self, key: str) -> None:
        """Ends what is going on, and removes all that the visitor brought and made. A second time it does nothing."""
        with self._lock:
            visitor = self._known.pop(key, None)
        if visitor is None:
            return
        visitor.gone = True
        visitor.stop.set()
        with visitor.lock:
            visitor.put_clip(None)
            visitor.image = None
            shutil.rmtree(visitor.folder, ignore_errors=True)

    def close(self) -> None:
        for key in list(self._known):
            self.leave(key)
