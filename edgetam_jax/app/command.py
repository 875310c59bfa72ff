"""`edgetam-jax app`: serves the app on this machine."""

import argparse
import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgetam_jax.app.app_state import AppState, synthetic_example
from edgetam_jax.cli import options
from edgetam_jax.errors import ConfigError
from edgetam_jax.model import Model

HOST, PORT = "127.0.0.1", 7860
AT_ONCE = 4  # visitors who press the same button; others queue
UPLOADS = "GRADIO_TEMP_DIR"  # where gradio puts uploads, and may serve files from

EXAMPLES = """\
  edgetam-jax app
  edgetam-jax app --model edgetam.safetensors --port 8000"""


class Serving(NamedTuple):
    address: str
    folder: Path


def main(argv: Sequence[str] | None = None) -> int:
    return options.run(_app, _parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = options.make_parser(
        "app",
        f"Click, track and correct in a browser, on {HOST}. Ctrl-C ends it, and removes what was uploaded.",
        EXAMPLES,
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"where to serve ({PORT})")
    return parser


def _app(arguments: argparse.Namespace) -> None:
    check_port(arguments.port)
    import_gradio()
    model = options.open_model(arguments)
    with serving(model, arguments.port) as app:
        print(f"The app is at {app.address} (Ctrl-C ends it).", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


@contextlib.contextmanager
def serving(model: Model, port: int, example: Callable[[], np.ndarray] = synthetic_example) -> Iterator[Serving]:
    """Gives the address, and the folder of all files. At the end all that visitors brought and made is gone."""
    with _uploads() as folder:
        from edgetam_jax.app.page import MAX_UPLOAD, THEME, build_page, style

        studio = AppState(model, folder / "studio", example)
        page = build_page(studio).queue(default_concurrency_limit=AT_ONCE)
        try:
            _, address, _ = page.launch(
                server_name=HOST,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                ssr_mode=False,
                footer_links=[],
                max_file_size=f"{MAX_UPLOAD}mb",
                theme=THEME,
                css=style(),
            )
        except OSError as error:
            raise _port_in_use(port) from error
        studio.start()
        try:
            yield Serving(address, folder)
        finally:
            page.close(verbose=False)
            studio.visitors.close()


@contextlib.contextmanager
def _uploads() -> Iterator[Path]:
    before = os.environ.get(UPLOADS)
    with tempfile.TemporaryDirectory(prefix="edgetam-app-", ignore_cleanup_errors=True) as folder:
        os.environ[UPLOADS] = folder
        try:
            yield Path(folder)
        finally:
            del os.environ[UPLOADS]
            if before is not None:
                os.environ[UPLOADS] = before


def check_port(port: int) -> None:
    """Before a network is loaded in vain."""
    if not 1 <= port <= 65535:
        raise ConfigError(f"--port is {port}; expected 1 to 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError as error:
            raise ConfigError(
                f"port {port} may not be used here; choose one from 1024, such as --port 7860."
            ) from error
        except OSError as error:
            raise _port_in_use(port) from error


def _port_in_use(port: int) -> ConfigError:
    return ConfigError(f"port {port} is in use; choose another, such as --port {port + 1 if port < 65535 else PORT}.")


def import_gradio() -> None:
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"the app needs {error.name}: pip install 'edgetam-jax[app]'.") from error
