"""The canvas: a picture on the page that takes clicks, and drags that draw boxes."""

import base64
import io
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from edgetam_jax.app.gestures import Gesture

MAX_HEIGHT, MAX_WIDTH = 500, 1280  # pixels: height of the displayed picture, width of the JPEG that is sent

CSS = """
min-height: 300px; display: flex; align-items: center; justify-content: center; border-radius: 10px; overflow: hidden;
background: #18181b; color: #a1a1aa;
img { display: block; cursor: crosshair; user-select: none; touch-action: pinch-zoom; }
.band { position: fixed; border: 2px solid white; box-shadow: 0 0 0 1px black, inset 0 0 0 1px black;
  pointer-events: none; }
"""
JS = """
const MIN_SIDE = 5;  // pixels; a drag with a shorter side is a click
let start = null, band = null;
const locate = event => {
  const picture = element.querySelector("img").getBoundingClientRect();
  const x = Math.min(Math.max(event.clientX, picture.left), picture.right);
  const y = Math.min(Math.max(event.clientY, picture.top), picture.bottom);
  return {x, y, relative: [(x - picture.left) / picture.width, (y - picture.top) / picture.height]};
};
const finish = () => { band?.remove(); start = band = null; };
element.addEventListener("pointerdown", event => {
  if (event.button || event.target.tagName !== "IMG") return;
  event.preventDefault();
  element.setPointerCapture(event.pointerId);
  start = locate(event);
});
element.addEventListener("pointermove", event => {
  if (!start) return;
  const end = locate(event);
  band ??= element.appendChild(Object.assign(document.createElement("div"), {className: "band"}));
  const side = (a, b) => [`${Math.min(a, b)}px`, `${Math.abs(a - b)}px`];
  [band.style.left, band.style.width] = side(start.x, end.x);
  [band.style.top, band.style.height] = side(start.y, end.y);
});
element.addEventListener("pointerup", event => {
  if (!start) return;
  const end = locate(event);
  const isBox = Math.min(Math.abs(end.x - start.x), Math.abs(end.y - start.y)) > MIN_SIDE;
  trigger("select", {start: start.relative, end: isBox ? end.relative : start.relative});
  finish();
});
element.addEventListener("pointercancel", finish);
"""


def make_canvas(name: str, placeholder: str) -> gr.HTML:
    return gr.HTML(f"<p>{placeholder}</p>", css_template=CSS, js_on_load=JS, apply_default_css=False, elem_id=name)


def to_html(picture: np.ndarray) -> str:
    """A picture [H, W, 3] as the value of a canvas."""
    height, width, _ = picture.shape
    image = Image.fromarray(picture)
    image.thumbnail((MAX_WIDTH, height))
    with io.BytesIO() as file:
        image.save(file, "JPEG", quality=90)
        data = base64.b64encode(file.getvalue()).decode()
    size = f"width: min(100%, {round(MAX_HEIGHT * width / height)}px)"
    return f'<img draggable="false" style="{size}" src="data:image/jpeg;base64,{data}">'


def read_gesture(event: Any, positive: bool) -> Gesture:
    """The gesture of a canvas's select event."""
    (x0, y0), (x1, y1) = event.start, event.end
    return Gesture((float(x0), float(y0)), (float(x1), float(y1)), positive)
