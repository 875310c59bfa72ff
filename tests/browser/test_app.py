"""The app in a real browser: load, click, track, correct, download; two sessions at once; errors."""

import os
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetam_jax.app.app_state import write_clip
from edgetam_jax.app.command import UPLOADS, Server, run_server
from edgetam_jax.cli import main as cli
from edgetam_jax.media.video import open_video
from tests.support import scene
from tests.support.ports import free_port
from tests.support.visits import PATIENCE, example, network

pytest.importorskip("gradio")
sync_api = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no chromium or chrome on this machine"),
    pytest.mark.filterwarnings("default"),  # other packages' threads warn as they like
]


@pytest.fixture(scope="module")
def app() -> Iterator[Server]:
    before = os.environ.get(UPLOADS)
    with run_server(network(), free_port(), example) as app:
        yield app
    assert os.environ.get(UPLOADS) == before


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


class AppPage:
    """The page of the app in a browser profile of its own, and what users do on it."""

    def __init__(self, browser: Any, address: str) -> None:
        self._context = browser.new_context(viewport={"width": 1280, "height": 860})
        self.page = self._context.new_page()
        self.page.set_default_timeout(1000 * PATIENCE)
        self.foreign_requests: list[str] = []  # to any other address
        self.page.on("request", lambda request: None if address in request.url else self._note(request.url))
        self.page.goto(address)
        self.expect("#note", "Take the example")

    def _note(self, url: str) -> None:
        if not url.startswith(("data:", "blob:")):
            self.foreign_requests.append(url)

    def leave(self) -> None:
        self._context.close()

    def expect(self, where: str, text: str) -> None:
        sync_api.expect(self.page.locator(where)).to_contain_text(text, timeout=1000 * PATIENCE)

    def expect_error(self, text: str) -> None:
        self.page.locator(".toast-body").filter(has_text=text).first.wait_for()
        assert "Traceback" not in self.page.content()

    def upload(self, path: Path) -> None:
        self.page.locator("input[type=file]").first.set_input_files(path)

    def picture(self, canvas: str = "#frame") -> str:
        return self.page.locator(f"{canvas} img").get_attribute("src")

    def click_or_drag(self, *places: tuple[float, float], canvas: str = "#frame") -> None:
        """A click or a drag, relative to the picture's width and height. Returns when the picture has changed."""
        box, before = self.page.locator(f"{canvas} img").bounding_box(), self.picture(canvas)
        (x0, y0), *others = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
        self.page.mouse.move(x0, y0)
        self.page.mouse.down()
        for x, y in others:
            self.page.mouse.move(x, y)
        self.page.mouse.up()
        self._changed(before, canvas)

    def go_to(self, frame: int) -> None:
        before = self.picture()
        self.page.locator("#number input[type=number]").fill(str(frame))
        self.page.locator("#number input[type=number]").press("Enter")
        self._changed(before, "#frame")

    def _changed(self, before: str, canvas: str) -> None:
        changed = "([canvas, before]) => document.querySelector(`${canvas} img`).src !== before"
        self.page.wait_for_function(changed, arg=[canvas, before])

    def track(self) -> None:
        result = self.page.locator("#result video")
        before = result.get_attribute("src") if result.count() else None
        self.page.click("#track")
        self.page.wait_for_function("before => document.querySelector('#result video')?.src !== before", arg=before)
        self.expect("#note", "Tracked")

    def download(self, button: str, folder: Path) -> Path:
        with self.page.expect_download() as download:
            self.page.click(button)
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return path


@pytest.fixture
def app_page(app: Server, browser: Any) -> Iterator[AppPage]:
    page = AppPage(browser, app.address)
    yield page
    page.leave()
    assert not page.foreign_requests


def masks_in(path: Path) -> np.ndarray:
    """Object ids [T, H, W]."""
    with zipfile.ZipFile(path) as packed:
        return np.stack([np.asarray(Image.open(packed.open(name))) for name in sorted(packed.namelist())])


def test_a_session(app_page: AppPage, app: Server, tmp_path: Path, compilations: list[str]) -> None:
    app_page.page.click("#video-example")
    app_page.expect("#note", f"{scene.FRAMES} frames of {scene.WIDTH}x{scene.HEIGHT}")
    compilations.clear()
    app_page.click_or_drag((0.25, 0.4))
    app_page.click_or_drag((0.3, 0.45))
    app_page.expect("#note", "Object 1 on frame 0")
    app_page.page.click("#add")
    app_page.page.get_by_label("2", exact=True).wait_for()
    app_page.click_or_drag((0.45, 0.3), (0.7, 0.6), (0.85, 0.8))
    app_page.expect("#note", "Object 2 on frame 0")
    app_page.track()
    app_page.expect("#note", "Tracked 2 objects")
    before = masks_in(app_page.download("#mask-file", tmp_path))
    assert before.shape == (scene.FRAMES, scene.HEIGHT, scene.WIDTH) and set(before.ravel()) == {0, 1, 2}

    app_page.go_to(5)
    app_page.page.get_by_label("off it").check()
    app_page.click_or_drag((0.8, 0.1))
    app_page.expect("#note", "Object 2 on frame 5")
    app_page.track()
    after = masks_in(app_page.download("#mask-file", tmp_path))
    assert (before[5] != after[5]).any()
    np.testing.assert_array_equal(before[0], after[0])
    with open_video(app_page.download("#video-file", tmp_path)) as video:
        assert (len(video), video.height, video.width) == (scene.FRAMES, scene.HEIGHT, scene.WIDTH)
    assert not compilations

    (folder,) = app.folder.glob("*/session-*")
    app_page.leave()
    deadline = time.monotonic() + PATIENCE
    while folder.exists():
        assert time.monotonic() < deadline, "the session's files are still there"
        time.sleep(0.1)


def test_two_sessions_at_once(app_page: AppPage, app: Server, browser: Any, tmp_path: Path) -> None:
    """Each has a clip of its own, and both track at the same time."""
    other = AppPage(browser, app.address)
    write_clip(tmp_path / "other.mp4", scene.clip(5)[:6])
    app_page.page.click("#video-example")
    other.upload(tmp_path / "other.mp4")
    app_page.expect("#note", f"{scene.FRAMES} frames")
    other.expect("#note", "6 frames")
    app_page.click_or_drag((0.25, 0.4))
    other.expect("#note", "6 frames")
    other.page.click("#add")
    other.page.get_by_label("2", exact=True).wait_for()
    other.click_or_drag((0.45, 0.3), (0.85, 0.8))
    for each in (app_page, other):
        each.page.click("#track")
    for each, frames, obj_id in ((app_page, scene.FRAMES, 1), (other, 6, 2)):
        each.expect("#note", "Tracked 1 object")
        ids = masks_in(each.download("#mask-file", tmp_path))
        assert len(ids) == frames and set(ids.ravel()) == {0, obj_id}
    other.leave()


def test_errors(app_page: AppPage, app: Server, tmp_path: Path) -> None:
    app_page.page.click("#track")
    app_page.expect_error("there is no clip yet")
    broken, large = tmp_path / "broken.mp4", tmp_path / "large.mp4"
    broken.write_bytes(b"no video" * 1000)
    app_page.upload(broken)
    app_page.expect_error("broken.mp4: not a video")
    with large.open("wb") as file:
        file.truncate(101 * 2**20)
    app_page.upload(large)
    app_page.expect_error("exceed")
    assert not [*app.folder.rglob("broken.mp4"), *app.folder.rglob("large.mp4")]


def test_images(app_page: AppPage, tmp_path: Path) -> None:
    app_page.page.get_by_role("tab", name="Images").click()
    app_page.page.click("#image-example")
    app_page.expect("#image-note", f"{scene.WIDTH}x{scene.HEIGHT}")
    app_page.click_or_drag((0.25, 0.4), canvas="#image")
    app_page.expect("#image-note", "Correct it")
    values = np.asarray(Image.open(app_page.download("#image-file", tmp_path)))
    assert values.shape == (scene.HEIGHT, scene.WIDTH) and set(values.ravel()) == {0, 1}


def test_a_port_in_use(app: Server, capsys: pytest.CaptureFixture) -> None:
    """The error comes before a network is loaded."""
    port = app.address.rstrip("/").rpartition(":")[2]
    for value, message in ((port, f"port {port} is in use; choose another"), ("0", "--port is 0; expected 1 to 65535")):
        assert cli.main(["app", "--port", value, "--model", "none"]) == 2
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error
