"""A picture on the page that visitors point at: a click is a click, and a drag is a box."""

import base64
import io
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from edgetam_jax.app.pointing import Mark

HEIGHT, WIDTH = 500, 1280  # how high a picture is shown, and how wide it is sent, at most; in pixels

CSS = """
min-height: 300px; display: flex; align-items: center; justify-content: center; border-radius: 10px; overflow: hidden;
background: #18181b; color: #a1a1aa;
img { display: block; cursor: crosshair; user-select: none; touch-action: pinch-zoom; }
.band { position: fixed; border: 2px solid white; box-shadow: 0 0 0 1px black, inset 0 0 0 1px black;
  pointer-events: none; }
"""
JS = """
const NEAR = 5;  // pixels; what is shorter on one side is no box
let start = null, band = null;
const place = event => {
  const picture = element.querySelector("img").getBoundingClientRect();
  const x = Math.min(Math.max(event.clientX, picture.left), picture.right);
  const y = Math.min(Math.max(event.clientY, picture.top), picture.bottom);
  return {x, y, share: [(x - picture.left) / picture.width, (y - picture.top) / picture.height]};
};
const finish = () => { band?.remove(); start = band = null; };
element.addEventListener("pointerdown", event => {
  if (event.button || event.target.tagName !== "IMG") return;
  event.preventDefault();
  element.setPointerCapture(event.pointerId);
  start = place(event);
});
element.addEventListener("pointermove", event => {
  if (!start) return;
  const end = place(event);
  band ??= element.appendChild(Object.assign(document.createElement("div"), {className: "band"}));
  const side = (a, b) => [`${Math.min(a, b)}px`, `${Math.abs(a - b)}px`];
  [band.style.left, band.style.width] = side(start.x, end.x);
  [band.style.top, band.style.height] = side(start.y, end.y);
});
element.addEventListener("pointerup", event => {
  if (!start) return;
  const end = place(event);
  const isBox = Math.min(Math.abs(end.x - start.x), Math.abs(end.y - start.y)) > NEAR;
  trigger("select", {start: start.share, end: isBox ? end.share : start.share});
  finish();
});
element.addEventListener("pointercancel", finish);
"""


def make_stage(name: str, invitation: str) -> gr.HTML:
    return gr.HTML(f"<p>{invitation}</p>", css_template=CSS, js_on_load=JS, apply_default_css=False, elem_id=name)


def shown(picture: np.ndarray) -> str:
    """A picture [H, W, 3] as the stage's value."""
    height, width, _ = picture.shape
    image = Image.fromarray(picture)
    image.thumbnail((WIDTH, height))
    with io.BytesIO() as file:
        image.save(file, "JPEG", quality=90)
        data = base64.b64encode(file.getvalue()).decode()
    size = f"width: min(100%, {round(HEIGHT * width / height)}px)"
    return f'<img draggable="false" style="{size}" src="data:image/jpeg;base64,{data}">'


def mark_of(event: Any, positive: bool) -> Mark:
    """What the stage's script says."""
    (x0, y0), (x1, y1) = event.start, event.end
    return Mark((float(x0), float(y0)), (float(x1), float(y1)), positive)
