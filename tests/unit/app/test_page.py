"""Errors as messages on the page."""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from edgetam_jax.errors import EdgeTAMError, FrameError

gradio = pytest.importorskip("gradio")
pytestmark = pytest.mark.filterwarnings("default")  # other packages warn as they like


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (EdgeTAMError("there is no clip yet; upload one."), "there is no clip yet; upload one."),
        (FrameError("/tmp/session-1/a.mp4: the file is empty."), "a.mp4: the file is empty."),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "a file could not be written or read here: No space left"),
    ],
)
def test_errors_become_messages(error: Exception, message: str) -> None:
    from edgetam_jax.app.page import _on

    def action() -> None:
        raise error

    registered: list[Callable[[], Any]] = []
    _on(lambda handler, *_, **__: registered.append(handler), action, None, None)
    with pytest.raises(gradio.Error) as raised:
        registered[0]()
    assert raised.value.message.startswith(message) and not raised.value.print_exception
