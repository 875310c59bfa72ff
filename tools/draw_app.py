"""Takes a screenshot of the app for the documentation: python tools/draw_app.py [MODEL]

It needs a network that finds objects, and a chromium on this machine.
"""

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from edgetam_jax.app.app_state import EXAMPLE, EXAMPLE_NUMBER
from edgetam_jax.app.command import PORT, run_server
from edgetam_jax.checkpoints.api import EMBEDDED, load
from edgetam_jax.cli.options import keep_compiled
from edgetam_jax.evaluation.held_out import held_out_clip
from edgetam_jax.ops.boxes import boxes_around

OUT = Path(__file__).parents[1] / "docs" / "pictures" / "app.png"
TIMEOUT = 600_000  # milliseconds


def main() -> None:
    keep_compiled()
    model = load(sys.argv[1] if len(sys.argv) > 1 else EMBEDDED)
    with run_server(model, PORT) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 870})
        page.set_default_timeout(TIMEOUT)
        page.goto(server.address)
        use_app(page)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    picture.quantize(256).save(OUT, optimize=True)
    print(f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB")


def use_app(page: Page) -> None:
    """Prompts the first object with a click and the second with a box, then tracks both."""
    masks = held_out_clip(EXAMPLE_NUMBER, EXAMPLE).masks[0]
    boxes = np.asarray(boxes_around(masks), float).reshape(-1, 2, 2) / (EXAMPLE.width, EXAMPLE.height)
    inside = np.argwhere(np.asarray(masks[0]))
    middle = inside[np.abs(inside - np.median(inside, 0)).sum(1).argmin()][::-1] / (EXAMPLE.width, EXAMPLE.height)
    page.click("#video-example")
    page.locator("#frame img").wait_for()
    click_or_drag(page, middle)
    page.click("#add")
    page.get_by_label("2", exact=True).wait_for()
    click_or_drag(page, *boxes[1])
    page.click("#track")
    page.locator("#result video").wait_for()
    page.wait_for_timeout(1500)  # the result is playing then


def click_or_drag(page: Page, *places: Any) -> None:
    """A click, or a drag from one place to another, relative to the picture's width and height."""
    image = page.locator("#frame img")
    box, before = image.bounding_box() or {}, image.get_attribute("src")
    for index, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if not index:
            page.mouse.down()
    page.mouse.up()
    page.wait_for_function("before => document.querySelector('#frame img').src !== before", arg=before)


if __name__ == "__main__":
    main()
