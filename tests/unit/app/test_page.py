"""What the page makes of errors: a sentence for the visitor."""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from edgetam_jax.errors import EdgeTAMError, FrameError

gradio = pytest.importorskip("gradio")
pytestmark = pytest.mark.filterwarnings("default")  # other packages warn as they like


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (EdgeTAMError("there is no clip yet; upload one."), "there is no clip yet; upload one."),
        (FrameError("/tmp/visitor-1/a.mp4: the file is empty."), "a.mp4: the file is empty."),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "a file could not be written or read here: No space left"),
    ],
)
def test_errors_become_sentences(error: Exception, sentence: str) -> None:
    from edgetam_jax.app.page import _on

    def action() -> None:
        raise error

    registered: list[Callable[[], Any]] = []
    _on(lambda answer, *_, **__: registered.append(answer), action, None, None)
    with pytest.raises(gradio.Error) as told:
        registered[0]()
    assert told.value.message.startswith(sentence) and not told.value.print_exception
