"""The app in a real browser: load, click, track, correct, download; two visitors at once; what goes wrong."""

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
from edgetam_jax.app.command import UPLOADS, Serving, serving
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
def app() -> Iterator[Serving]:
    before = os.environ.get(UPLOADS)
    with serving(network(), free_port(), example) as app:
        yield app
    assert os.environ.get(UPLOADS) == before


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A visitor's own browser profile, and what people do in it."""

    def __init__(self, browser: Any, address: str) -> None:
        self._context = browser.new_context(viewport={"width": 1280, "height": 860})
        self.page = self._context.new_page()
        self.page.set_default_timeout(1000 * PATIENCE)
        self.strange: list[str] = []  # requests to anywhere else
        self.page.on("request", lambda request: None if address in request.url else self._note(request.url))
        self.page.goto(address)
        self.expect("#note", "Take the example")

    def _note(self, url: str) -> None:
        if not url.startswith(("data:", "blob:")):
            self.strange.append(url)

    def leave(self) -> None:
        self._context.close()

    def expect(self, where: str, text: str) -> None:
        sync_api.expect(self.page.locator(where)).to_contain_text(text, timeout=1000 * PATIENCE)

    def expect_error(self, text: str) -> None:
        self.page.locator(".toast-body").filter(has_text=text).first.wait_for()
        assert "Traceback" not in self.page.content()

    def upload(self, path: Path) -> None:
        self.page.locator("input[type=file]").first.set_input_files(path)

    def picture(self, stage: str = "#frame") -> str:
        return self.page.locator(f"{stage} img").get_attribute("src")

    def point(self, *places: tuple[float, float], stage: str = "#frame") -> None:
        """A click, or a drag, at shares of the picture's sides. Returns when it has changed."""
        box, before = self.page.locator(f"{stage} img").bounding_box(), self.picture(stage)
        (x0, y0), *others = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
        self.page.mouse.move(x0, y0)
        self.page.mouse.down()
        for x, y in others:
            self.page.mouse.move(x, y)
        self.page.mouse.up()
        self._changed(before, stage)

    def go_to(self, frame: int) -> None:
        before = self.picture()
        self.page.locator("#number input[type=number]").fill(str(frame))
        self.page.locator("#number input[type=number]").press("Enter")
        self._changed(before, "#frame")

    def _changed(self, before: str, stage: str) -> None:
        changed = "([stage, before]) => document.querySelector(`${stage} img`).src !== before"
        self.page.wait_for_function(changed, arg=[stage, before])

    def track(self) -> None:
        result = self.page.locator("#result video")
        before = result.get_attribute("src") if result.count() else None
        self.page.click("#track")
        self.page.wait_for_function("before => document.querySelector('#result video')?.src !== before", arg=before)
        self.expect("#note", "Tracked")

    def download(self, button: str, folder: Path) -> Path:
        with self.page.expect_download() as given:
            self.page.click(button)
        path = folder / given.value.suggested_filename
        given.value.save_as(path)
        return path


@pytest.fixture
def visit(app: Serving, browser: Any) -> Iterator[Visit]:
    visit = Visit(browser, app.address)
    yield visit
    visit.leave()
    assert not visit.strange


def masks_in(path: Path) -> np.ndarray:
    """Objects' numbers [T, H, W]."""
    with zipfile.ZipFile(path) as packed:
        return np.stack([np.asarray(Image.open(packed.open(name))) for name in sorted(packed.namelist())])


def test_a_visit(visit: Visit, app: Serving, tmp_path: Path, compilations: list[str]) -> None:
    visit.page.click("#video-example")
    visit.expect("#note", f"{scene.FRAMES} frames of {scene.WIDTH}x{scene.HEIGHT}")
    compilations.clear()
    visit.point((0.25, 0.4))
    visit.point((0.3, 0.45))
    visit.expect("#note", "Object 1 on frame 0")
    visit.page.click("#add")
    visit.page.get_by_label("2", exact=True).wait_for()
    visit.point((0.45, 0.3), (0.7, 0.6), (0.85, 0.8))
    visit.expect("#note", "Object 2 on frame 0")
    visit.track()
    visit.expect("#note", "Tracked 2 objects")
    before = masks_in(visit.download("#mask-file", tmp_path))
    assert before.shape == (scene.FRAMES, scene.HEIGHT, scene.WIDTH) and set(before.ravel()) == {0, 1, 2}

    visit.go_to(5)
    visit.page.get_by_label("off it").check()
    visit.point((0.8, 0.1))
    visit.expect("#note", "Object 2 on frame 5")
    visit.track()
    after = masks_in(visit.download("#mask-file", tmp_path))
    assert (before[5] != after[5]).any()
    np.testing.assert_array_equal(before[0], after[0])
    with open_video(visit.download("#video-file", tmp_path)) as video:
        assert (len(video), video.height, video.width) == (scene.FRAMES, scene.HEIGHT, scene.WIDTH)
    assert not compilations

    (folder,) = app.folder.glob("*/visitor-*")
    visit.leave()
    deadline = time.monotonic() + PATIENCE
    while folder.exists():
        assert time.monotonic() < deadline, "what the visitor made is still there"
        time.sleep(0.1)


def test_two_visitors_at_once(visit: Visit, app: Serving, browser: Any, tmp_path: Path) -> None:
    """Each with a clip of their own, both tracking at the same time."""
    other = Visit(browser, app.address)
    write_clip(tmp_path / "other.mp4", scene.clip(5)[:6])
    visit.page.click("#video-example")
    other.upload(tmp_path / "other.mp4")
    visit.expect("#note", f"{scene.FRAMES} frames")
    other.expect("#note", "6 frames")
    visit.point((0.25, 0.4))
    other.expect("#note", "6 frames")
    other.page.click("#add")
    other.page.get_by_label("2", exact=True).wait_for()
    other.point((0.45, 0.3), (0.85, 0.8))
    for each in (visit, other):
        each.page.click("#track")
    for each, frames, obj_id in ((visit, scene.FRAMES, 1), (other, 6, 2)):
        each.expect("#note", "Tracked 1 object")
        found = masks_in(each.download("#mask-file", tmp_path))
        assert len(found) == frames and set(found.ravel()) == {0, obj_id}
    other.leave()


def test_what_goes_wrong(visit: Visit, app: Serving, tmp_path: Path) -> None:
    visit.page.click("#track")
    visit.expect_error("there is no clip yet")
    broken, large = tmp_path / "broken.mp4", tmp_path / "large.mp4"
    broken.write_bytes(b"no video" * 1000)
    visit.upload(broken)
    visit.expect_error("broken.mp4: not a video")
    with large.open("wb") as file:
        file.truncate(101 * 2**20)
    visit.upload(large)
    visit.expect_error("exceed")
    assert not [*app.folder.rglob("broken.mp4"), *app.folder.rglob("large.mp4")]


def test_images(visit: Visit, tmp_path: Path) -> None:
    visit.page.get_by_role("tab", name="Images").click()
    visit.page.click("#image-example")
    visit.expect("#image-note", f"{scene.WIDTH}x{scene.HEIGHT}")
    visit.point((0.25, 0.4), stage="#image")
    visit.expect("#image-note", "Correct it")
    values = np.asarray(Image.open(visit.download("#image-file", tmp_path)))
    assert values.shape == (scene.HEIGHT, scene.WIDTH) and set(values.ravel()) == {0, 1}


def test_a_port_in_use(app: Serving, capsys: pytest.CaptureFixture) -> None:
    """Said before a network is loaded."""
    port = app.address.rstrip("/").rpartition(":")[2]
    for given, message in ((port, f"port {port} is in use; choose another"), ("0", "--port is 0; expected 1 to 65535")):
        assert cli.main(["app", "--port", given, "--model", "none"]) == 2
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error
