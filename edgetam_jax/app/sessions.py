"""Sessions of the app, one for each page load. Each has a clip, an image and a folder; all are removed at its end."""

import contextlib
import dataclasses
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from edgetam_jax.app.clips import OpenClip
from edgetam_jax.app.images import OpenImage
from edgetam_jax.errors import EdgeTAMError

MAX_SESSIONS = 32
IDLE_SECONDS = 3600.0  # after which a session ends if another one needs its place
ENDED = "this session has ended; load the page again."


@dataclasses.dataclass
class AppSession:
    folder: Path
    clip: OpenClip | None = None
    image: OpenImage | None = None
    masks_folder: Path | None = None  # of the image's masks
    # Guards the fields below, and notifies of their changes.
    condition: threading.Condition = dataclasses.field(default_factory=threading.Condition)
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)  # asks tracking to end
    running: int = 0  # actions: at most one, besides read-only ones while a clip is tracked
    tracking: bool = False
    ended: bool = False
    last_used: float = dataclasses.field(default_factory=time.monotonic)

    @contextlib.contextmanager
    def action(self, read_only: bool = False) -> Iterator[None]:
        """Runs one action at a time. While a clip is tracked, only read-only actions run; others raise an error."""
        with self.condition:
            self.condition.wait_for(lambda: self.tracking or not self.running)
            self.check_active()
            if self.tracking and not read_only:
                raise EdgeTAMError("the clip is being tracked; wait, or press Stop.")
            self.running += 1
        try:
            yield
        finally:
            with self.condition:
                self.running -= 1
                self.condition.notify_all()

    @contextlib.contextmanager
    def tracking_action(self) -> Iterator[None]:
        with self.action():
            with self.condition:
                self.check_active()  # a session that ends later sets `stop`, which is not cleared again
                self.stop.clear()
                self.tracking = True
                self.condition.notify_all()
            try:
                yield
            finally:
                self.tracking = False

    def check_active(self) -> None:
        if self.ended:
            raise EdgeTAMError(ENDED)

    def new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def new_masks_folder(self) -> Path:
        """Replaces the folder of the image's masks by a new one, because browsers cache files by their paths."""
        if self.masks_folder is not None:
            shutil.rmtree(self.masks_folder)
        self.masks_folder = self.new_folder()
        return self.masks_folder

    def require_clip(self) -> OpenClip:
        if self.clip is None:
            raise EdgeTAMError("there is no clip yet; upload one, or take the example.")
        return self.clip

    def require_image(self) -> OpenImage:
        if self.image is None:
            raise EdgeTAMError("there is no image yet; upload one, or take the example.")
        return self.image

    def set_clip(self, clip: OpenClip | None) -> None:
        """Replaces the clip, and closes the previous one."""
        if self.clip is not None:
            self.clip.close()
        self.clip = clip


class Sessions:
    """All sessions by their keys."""

    def __init__(self, root: Path) -> None:
        self._root, self._sessions, self._lock = root, dict[str, AppSession](), threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def start(self, key: str) -> None:
        if len(self) >= MAX_SESSIONS:
            self._end_idle()
        with self._lock:
            if key in self._sessions:
                return
            if len(self._sessions) >= MAX_SESSIONS:
                raise EdgeTAMError(f"all {MAX_SESSIONS} sessions are in use; try again when one has ended.")
            self._sessions[key] = AppSession(Path(tempfile.mkdtemp(prefix="session-", dir=self._root)))

    def _end_idle(self) -> None:
        """Ends idle sessions. Gradio does not report that a page was closed if it was closed while loading."""
        for key, session in list(self._sessions.items()):
            if not session.running and time.monotonic() - session.last_used > IDLE_SECONDS:
                self.end(key)

    def get(self, key: str) -> AppSession:
        session = self._sessions.get(key)
        if session is None:
            raise EdgeTAMError(ENDED)
        session.last_used = time.monotonic()
        return session

    def end(self, key: str) -> None:
        """Stops a session's tracking, waits for its actions, and removes its files. Unknown keys are ignored."""
        with self._lock:
            session = self._sessions.pop(key, None)
        if session is None:
            return
        with session.condition:
            session.ended = True
            session.stop.set()
            session.condition.wait_for(lambda: not session.running)
        session.set_clip(None)
        session.image = None
        shutil.rmtree(session.folder, ignore_errors=True)

    def close(self) -> None:
        for key in list(self._sessions):
            self.end(key)
