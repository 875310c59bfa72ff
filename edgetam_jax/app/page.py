"""The page: components, their events, and nothing else."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Soft

from edgetam_jax.app import actions
from edgetam_jax.app.app_state import AppState
from edgetam_jax.app.canvas import make_stage, mark_of, shown
from edgetam_jax.app.clips import MAX_FRAMES, MAX_OBJECTS
from edgetam_jax.errors import EdgeTAMError
from edgetam_jax.media.palette import object_colors

MAX_UPLOAD = 100  # megabytes
VIDEO_TYPES = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"]
IMAGE_TYPES = [".jpg", ".jpeg", ".png", ".webp", ".bmp"]
CLICKS = [("+ on the object", True), ("− off it", False)]
HEAD = "<h1>EdgeTAM in JAX</h1><p>Point at things. It finds them, and follows them through a video.</p>"
FONTS = ["system-ui", "sans-serif"]  # of the visitor's machine: nothing is fetched
THEME = Soft(
    primary_hue="blue", neutral_hue="zinc", radius_size="md", font=FONTS, font_mono=["ui-monospace", "monospace"]
)
CSS = """
.gradio-container { width: 100% !important; max-width: 1280px !important; margin: auto; }
#head h1 { font-size: 1.5rem; margin: 0; }
#head p { margin: 0; opacity: 0.7; }
.html-container { padding: 0 !important; }
#objects label span::before { content: ''; display: inline-block; width: 0.8em; height: 0.8em; border-radius: 50%;
  border: 1px solid white; margin-right: 0.45em; vertical-align: -0.05em; }
#note, #image-note { min-height: 1.6em; opacity: 0.85; }
"""


def style() -> str:
    """Each object's button has its colour."""
    colors = object_colors(range(MAX_OBJECTS)).tolist()
    dot = "#objects label:nth-of-type({}) span::before {{ background: rgb({}, {}, {}); }}"
    return CSS + "\n".join(dot.format(number, *color) for number, color in enumerate(colors, 1))


def build_page(studio: AppState) -> gr.Blocks:
    with gr.Blocks(title="EdgeTAM in JAX", analytics_enabled=False) as page:
        gr.HTML(HEAD, elem_id="head")
        with gr.Tab("Video"):
            note = _video_tab(studio)
        with gr.Tab("Images"):
            _image_tab(studio)

        def enter(request: gr.Request) -> str:
            studio.visitors.enter(_key(request))
            wait = "" if studio.is_ready else " The network is being compiled; the first answer takes a while."
            return f"Take the example, or upload a clip of up to {MAX_FRAMES} frames and {MAX_UPLOAD} MB.{wait}"

        def leave(request: gr.Request) -> None:
            studio.visitors.leave(_key(request))

        _on(page.load, enter, None, note)
        page.unload(leave)
    return page


def _key(request: gr.Request) -> str:
    """Of a visitor: one for each time that the page is loaded."""
    return str(request.session_hash)


def _on(event: Any, action: Callable[..., Any], inputs: Any, outputs: Any, **options: Any) -> None:
    """What a visitor got wrong, or this machine has no room for, becomes one sentence on the page."""

    @functools.wraps(action)
    def answered(*args: Any) -> Any:
        try:
            return action(*args)
        except EdgeTAMError as error:
            raise gr.Error(_without_folders(str(error)), duration=8, print_exception=False) from None
        except OSError as error:
            reason = f"a file could not be written or read here: {error.strerror or error}. What was tracked is kept."
            raise gr.Error(reason, duration=8, print_exception=False) from error

    event(answered, inputs, outputs, api_visibility="private", **{"show_progress": "hidden", **options})


def _without_folders(message: str) -> str:
    """Where a file lies here says nothing to a visitor."""
    return " ".join(Path(word).name if word.startswith("/") else word for word in message.split(" "))


def _source(what: str, types: list[str], name: str) -> tuple[gr.UploadButton, gr.Button]:
    with gr.Row():
        upload = gr.UploadButton(f"Upload {what}", file_types=types, size="sm", min_width=100, elem_id=f"{name}-upload")
        example = gr.Button("Example", size="sm", min_width=100, elem_id=f"{name}-example")
    return upload, example


def _download(path: Path | None) -> Any:
    return gr.DownloadButton(value=path, interactive=path is not None)


def _with_objects(count: int) -> tuple[int, gr.Radio, gr.Button]:
    """Their number, a button for each, and whether there can be another."""
    objects = gr.Radio([(str(number), number) for number in range(1, count + 1)], value=count)
    return count, objects, gr.Button(interactive=count < MAX_OBJECTS)


def _video_tab(studio: AppState) -> gr.Markdown:
    count = gr.State(1)  # objects
    with gr.Row():
        with gr.Column(scale=3):
            stage = make_stage("frame", "no clip yet")
            number = gr.Slider(0, 1, 0, step=1, label="Frame", elem_id="number", interactive=False)
            note = gr.Markdown(elem_id="note")
        with gr.Column(scale=2, min_width=330):
            upload, example = _source("a clip", VIDEO_TYPES, "video")
            objects = gr.Radio([("1", 1)], value=1, label="Object", elem_id="objects")
            with gr.Row():
                add = gr.Button("Another object", size="sm", min_width=100, elem_id="add")
                forget = gr.Button("Forget this one", size="sm", min_width=100, elem_id="forget")
            positive = gr.Radio(CLICKS, value=True, label="A click is (a drag is a box)", elem_id="positive")
            undo = gr.Button("Take back the latest click", size="sm", elem_id="undo")
            with gr.Row():
                track = gr.Button("Track", variant="primary", elem_id="track", scale=3, min_width=100)
                stop = gr.Button("Stop", elem_id="stop", scale=1, min_width=80)
            result = gr.Video(
                label="Result", format="mp4", interactive=False, autoplay=True, loop=True, elem_id="result", height=260
            )
            with gr.Row():
                film = gr.DownloadButton("Video", size="sm", min_width=100, interactive=False, elem_id="video-file")
                masks = gr.DownloadButton("Masks", size="sm", min_width=100, interactive=False, elem_id="mask-file")

    def open_clip(request: gr.Request, upload: str | None = None) -> Any:
        picture, said, last = actions.open_clip(studio, _key(request), None if upload is None else Path(upload))
        slider = gr.Slider(maximum=max(last, 1), value=0, interactive=last > 0)
        files = None, _download(None), _download(None)
        return shown(picture), said, slider, *_with_objects(1), *files

    def show(request: gr.Request, at: int) -> str:
        return shown(actions.show_frame(studio, _key(request), at))

    def point(request: gr.Request, event: gr.EventData, at: int, obj_id: int, positive: bool) -> Any:
        picture, said = actions.mark_clip(studio, _key(request), at, obj_id, mark_of(event, positive))
        return shown(picture), said

    def another(count: int) -> Any:
        return _with_objects(min(count + 1, MAX_OBJECTS))

    def take_back(request: gr.Request, at: int, obj_id: int) -> Any:
        picture, said = actions.undo_clip(studio, _key(request), at, obj_id)
        return shown(picture), said

    def drop(request: gr.Request, at: int, obj_id: int) -> Any:
        picture, said = actions.forget_object(studio, _key(request), at, obj_id)
        return shown(picture), said

    def run(request: gr.Request, at: int, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
        def report(done: int, total: int) -> None:
            progress((done, total), desc="Tracking", unit="frames")

        picture, said, film, masks = actions.track(studio, _key(request), at, report)
        return shown(picture), said, film, _download(film), _download(masks)

    def halt(request: gr.Request) -> str:
        return actions.stop(studio, _key(request))

    opened = [stage, note, number, count, objects, add, result, film, masks]
    _on(example.click, open_clip, None, opened, show_progress="minimal", show_progress_on=note)
    _on(upload.upload, open_clip, upload, opened, show_progress="minimal", show_progress_on=note)
    _on(number.input, show, number, stage, trigger_mode="always_last")
    _on(stage.select, point, [number, objects, positive], [stage, note])
    _on(add.click, another, count, [count, objects, add])
    _on(undo.click, take_back, [number, objects], [stage, note])
    _on(forget.click, drop, [number, objects], [stage, note])
    _on(track.click, run, number, [stage, note, result, film, masks], show_progress="full", show_progress_on=result)
    _on(stop.click, halt, None, note)
    return note


def _image_tab(studio: AppState) -> None:
    with gr.Row():
        with gr.Column(scale=3):
            stage = make_stage("image", "no image yet")
            note = gr.Markdown("Take the example, or upload an image.", elem_id="image-note")
        with gr.Column(scale=2, min_width=330):
            upload, example = _source("an image", IMAGE_TYPES, "image")
            positive = gr.Radio(CLICKS, value=True, label="A click is (a drag is a box)", elem_id="image-positive")
            undo = gr.Button("Take back the latest click", size="sm", elem_id="image-undo")
            side = gr.Slider(4, 32, 16, step=4, label="Clicks on a side, to find everything", elem_id="side")
            everything = gr.Button("Find everything", variant="primary", elem_id="everything")
            masks = gr.DownloadButton("Masks", size="sm", interactive=False, elem_id="image-file")

    def show(view: actions.ImageView) -> Any:
        return shown(view.picture), view.note, _download(view.masks)

    def open_image(request: gr.Request, upload: str | None = None) -> Any:
        return show(actions.open_image(studio, _key(request), None if upload is None else Path(upload)))

    def point(request: gr.Request, event: gr.EventData, positive: bool) -> Any:
        return show(actions.mark_image(studio, _key(request), mark_of(event, positive)))

    def take_back(request: gr.Request) -> Any:
        return show(actions.undo_image(studio, _key(request)))

    def find(request: gr.Request, points: int) -> Any:
        return show(actions.find_everything(studio, _key(request), points))

    seen = [stage, note, masks]
    _on(example.click, open_image, None, seen, show_progress="minimal", show_progress_on=note)
    _on(upload.upload, open_image, upload, seen, show_progress="minimal", show_progress_on=note)
    _on(stage.select, point, positive, seen)
    _on(undo.click, take_back, None, seen)
    _on(everything.click, find, side, seen, show_progress="full", show_progress_on=note)
