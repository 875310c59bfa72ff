"""The page: gradio components and their events. The work behind them is in `actions`."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Soft

from edgetam_jax.app import actions
from edgetam_jax.app.app_state import AppState
from edgetam_jax.app.canvas import make_canvas, read_gesture, to_html
from edgetam_jax.app.clips import MAX_FRAMES, MAX_OBJECTS
from edgetam_jax.errors import EdgeTAMError
from edgetam_jax.media.palette import object_colors

MAX_UPLOAD = 100  # megabytes
VIDEO_TYPES = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"]
IMAGE_TYPES = [".jpg", ".jpeg", ".png", ".webp", ".bmp"]
CLICKS = [("+ on the object", True), ("− off it", False)]
HEAD = "<h1>EdgeTAM in JAX</h1><p>Click an object or draw a box around it, then track it through the video.</p>"
FONTS = ["system-ui", "sans-serif"]  # installed everywhere, so that none is fetched
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
    """The page's CSS, in which the button of each object has the object's colour."""
    colors = object_colors(range(MAX_OBJECTS)).tolist()
    dot = "#objects label:nth-of-type({}) span::before {{ background: rgb({}, {}, {}); }}"
    return CSS + "\n".join(dot.format(number, *color) for number, color in enumerate(colors, 1))


def build_page(state: AppState) -> gr.Blocks:
    with gr.Blocks(title="EdgeTAM in JAX", analytics_enabled=False) as page:
        gr.HTML(HEAD, elem_id="head")
        with gr.Tab("Video"):
            note = _video_tab(state)
        with gr.Tab("Images"):
            _image_tab(state)

        def start_session(request: gr.Request) -> str:
            state.sessions.start(_key(request))
            wait = "" if state.is_ready else " The network is being compiled; the first answer takes a while."
            return f"Take the example, or upload a clip of up to {MAX_FRAMES} frames and {MAX_UPLOAD} MB.{wait}"

        def end_session(request: gr.Request) -> None:
            state.sessions.end(_key(request))

        _on(page.load, start_session, None, note)
        page.unload(end_session)
    return page


def _key(request: gr.Request) -> str:
    """The session's key, a new one for each page load."""
    return str(request.session_hash)


def _on(event: Any, action: Callable[..., Any], inputs: Any, outputs: Any, **options: Any) -> None:
    """Registers an action. Its errors, of the user or of the file system, become messages on the page."""

    @functools.wraps(action)
    def with_messages(*args: Any) -> Any:
        try:
            return action(*args)
        except EdgeTAMError as error:
            raise gr.Error(_without_folders(str(error)), duration=8, print_exception=False) from None
        except OSError as error:
            reason = f"a file could not be written or read here: {error.strerror or error}. What was tracked is kept."
            raise gr.Error(reason, duration=8, print_exception=False) from error

    event(with_messages, inputs, outputs, api_visibility="private", **{"show_progress": "hidden", **options})


def _without_folders(message: str) -> str:
    """A message with file names in place of absolute paths, which mean nothing in a browser."""
    return " ".join(Path(word).name if word.startswith("/") else word for word in message.split(" "))


def _source_buttons(what: str, types: list[str], name: str) -> tuple[gr.UploadButton, gr.Button]:
    with gr.Row():
        upload = gr.UploadButton(f"Upload {what}", file_types=types, size="sm", min_width=100, elem_id=f"{name}-upload")
        example = gr.Button("Example", size="sm", min_width=100, elem_id=f"{name}-example")
    return upload, example


def _download(path: Path | None) -> Any:
    return gr.DownloadButton(value=path, interactive=path is not None)


def _object_updates(count: int) -> tuple[int, gr.Radio, gr.Button]:
    """Updates of the number of objects, their radio buttons, and the button that adds one."""
    objects = gr.Radio([(str(number), number) for number in range(1, count + 1)], value=count)
    return count, objects, gr.Button(interactive=count < MAX_OBJECTS)


def _video_tab(state: AppState) -> gr.Markdown:
    count = gr.State(1)  # objects
    with gr.Row():
        with gr.Column(scale=3):
            canvas = make_canvas("frame", "no clip yet")
            number = gr.Slider(0, 1, 0, step=1, label="Frame", elem_id="number", interactive=False)
            note = gr.Markdown(elem_id="note")
        with gr.Column(scale=2, min_width=330):
            upload, example = _source_buttons("a clip", VIDEO_TYPES, "video")
            objects = gr.Radio([("1", 1)], value=1, label="Object", elem_id="objects")
            with gr.Row():
                add = gr.Button("Another object", size="sm", min_width=100, elem_id="add")
                remove = gr.Button("Remove this object", size="sm", min_width=100, elem_id="forget")
            positive = gr.Radio(CLICKS, value=True, label="A click is (a drag is a box)", elem_id="positive")
            undo = gr.Button("Take back the latest click", size="sm", elem_id="undo")
            with gr.Row():
                track = gr.Button("Track", variant="primary", elem_id="track", scale=3, min_width=100)
                stop = gr.Button("Stop", elem_id="stop", scale=1, min_width=80)
            result = gr.Video(
                label="Result", format="mp4", interactive=False, autoplay=True, loop=True, elem_id="result", height=260
            )
            with gr.Row():
                video = gr.DownloadButton("Video", size="sm", min_width=100, interactive=False, elem_id="video-file")
                masks = gr.DownloadButton("Masks", size="sm", min_width=100, interactive=False, elem_id="mask-file")

    def open_clip(request: gr.Request, upload: str | None = None) -> Any:
        picture, text, last = actions.open_clip(state, _key(request), None if upload is None else Path(upload))
        slider = gr.Slider(maximum=max(last, 1), value=0, interactive=last > 0)
        files = None, _download(None), _download(None)
        return to_html(picture), text, slider, *_object_updates(1), *files

    def show_frame(request: gr.Request, at: int) -> str:
        return to_html(actions.show_frame(state, _key(request), at))

    def add_gesture(request: gr.Request, event: gr.EventData, at: int, obj_id: int, positive: bool) -> Any:
        picture, text = actions.prompt_clip(state, _key(request), at, obj_id, read_gesture(event, positive))
        return to_html(picture), text

    def add_object(count: int) -> Any:
        return _object_updates(min(count + 1, MAX_OBJECTS))

    def undo_last(request: gr.Request, at: int, obj_id: int) -> Any:
        picture, text = actions.undo_clip(state, _key(request), at, obj_id)
        return to_html(picture), text

    def remove_object(request: gr.Request, at: int, obj_id: int) -> Any:
        picture, text = actions.remove_object(state, _key(request), at, obj_id)
        return to_html(picture), text

    def run_tracking(request: gr.Request, at: int, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
        def report_progress(done: int, total: int) -> None:
            progress((done, total), desc="Tracking", unit="frames")

        picture, text, video, masks = actions.track(state, _key(request), at, report_progress)
        return to_html(picture), text, video, _download(video), _download(masks)

    def stop_tracking(request: gr.Request) -> str:
        return actions.stop(state, _key(request))

    all_outputs = [canvas, note, number, count, objects, add, result, video, masks]
    _on(example.click, open_clip, None, all_outputs, show_progress="minimal", show_progress_on=note)
    _on(upload.upload, open_clip, upload, all_outputs, show_progress="minimal", show_progress_on=note)
    _on(number.input, show_frame, number, canvas, trigger_mode="always_last")
    _on(canvas.select, add_gesture, [number, objects, positive], [canvas, note])
    _on(add.click, add_object, count, [count, objects, add])
    _on(undo.click, undo_last, [number, objects], [canvas, note])
    _on(remove.click, remove_object, [number, objects], [canvas, note])
    _on(
        track.click,
        run_tracking,
        number,
        [canvas, note, result, video, masks],
        show_progress="full",
        show_progress_on=result,
    )
    _on(stop.click, stop_tracking, None, note)
    return note


def _image_tab(state: AppState) -> None:
    with gr.Row():
        with gr.Column(scale=3):
            canvas = make_canvas("image", "no image yet")
            note = gr.Markdown("Take the example, or upload an image.", elem_id="image-note")
        with gr.Column(scale=2, min_width=330):
            upload, example = _source_buttons("an image", IMAGE_TYPES, "image")
            positive = gr.Radio(CLICKS, value=True, label="A click is (a drag is a box)", elem_id="image-positive")
            undo = gr.Button("Take back the latest click", size="sm", elem_id="image-undo")
            side = gr.Slider(4, 32, 16, step=4, label="Clicks on a side, to find everything", elem_id="side")
            everything = gr.Button("Find everything", variant="primary", elem_id="everything")
            masks = gr.DownloadButton("Masks", size="sm", interactive=False, elem_id="image-file")

    def image_updates(view: actions.ImageView) -> Any:
        return to_html(view.picture), view.note, _download(view.masks)

    def open_image(request: gr.Request, upload: str | None = None) -> Any:
        return image_updates(actions.open_image(state, _key(request), None if upload is None else Path(upload)))

    def add_gesture(request: gr.Request, event: gr.EventData, positive: bool) -> Any:
        return image_updates(actions.prompt_image(state, _key(request), read_gesture(event, positive)))

    def undo_last(request: gr.Request) -> Any:
        return image_updates(actions.undo_image(state, _key(request)))

    def segment_everything(request: gr.Request, points: int) -> Any:
        return image_updates(actions.segment_everything(state, _key(request), points))

    outputs = [canvas, note, masks]
    _on(example.click, open_image, None, outputs, show_progress="minimal", show_progress_on=note)
    _on(upload.upload, open_image, upload, outputs, show_progress="minimal", show_progress_on=note)
    _on(canvas.select, add_gesture, positive, outputs)
    _on(undo.click, undo_last, None, outputs)
    _on(everything.click, segment_everything, side, outputs, show_progress="full", show_progress_on=note)
