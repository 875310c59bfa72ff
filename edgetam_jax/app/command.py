"""`edgetam-jax app`: serves the browser app on this machine."""

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
from edgetam_jax.cli.options import make_parser, open_model
from edgetam_jax.errors import ConfigError
from edgetam_jax.model import Model

HOST, PORT = "127.0.0.1", 7860
CONCURRENCY = 4  # calls of the same button that run at once; others wait in a queue
UPLOADS = "GRADIO_TEMP_DIR"  # names the folder of uploads, from which gradio may serve files

EXAMPLES = """\
  edgetam-jax app
  edgetam-jax app --model edgetam.safetensors --port 8000"""


class Server(NamedTuple):
    address: str
    folder: Path  # of all files of the app


def main(argv: Sequence[str] | None = None) -> None:
    _app(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "app",
        f"Track and segment objects in a browser, at {HOST}. Ctrl-C ends the app and removes all uploads and results.",
        EXAMPLES,
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"port to serve on ({PORT})")
    return parser


def _app(arguments: argparse.Namespace) -> None:
    check_port(arguments.port)
    import_gradio()
    model = open_model(arguments)
    with run_server(model, arguments.port) as server:
        print(f"The app is at {server.address} (Ctrl-C ends it).", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


@contextlib.contextmanager
def run_server(model: Model, port: int, example: Callable[[], np.ndarray] = synthetic_example) -> Iterator[Server]:
    """Serves the app until the end of the context, and removes all uploads and results then.

    Args:
        model: The network.
        port: Port on this machine.
        example: Returns the frames [T, H, W, 3] of the example clip.
    """
    with _uploads_folder() as folder:
        from edgetam_jax.app.page import MAX_UPLOAD, THEME, build_page, style

        state = AppState(model, folder / "sessions", example)
        page = build_page(state).queue(default_concurrency_limit=CONCURRENCY)
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
        state.start()
        try:
            yield Server(address, folder)
        finally:
            page.close(verbose=False)
            state.sessions.close()


@contextlib.contextmanager
def _uploads_folder() -> Iterator[Path]:
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
    """Raises if the port cannot be used. It is checked before the network is loaded, which takes long."""
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
