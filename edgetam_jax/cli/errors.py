"""How a command ends: the one place where errors become messages and exit codes."""

import os
import sys
from collections.abc import Callable
from typing import ParamSpec

from edgetam_jax.errors import EdgeTAMError

FAILED, INTERRUPTED = 2, 130  # exit codes; 130 is that of shells after Ctrl-C
P = ParamSpec("P")


def exit_code(command: Callable[P, int | None], *args: P.args, **kwargs: P.kwargs) -> int:
    """Runs a command and reports an error of the user's in one line on standard error, without a traceback.

    Returns:
        What `command` returns, or 0 for None; 2 after an error that the user can act on; 130 after Ctrl-C.
    """
    try:
        return command(*args, **kwargs) or 0
    except EdgeTAMError as error:
        print(f"error: {error}", file=sys.stderr)
    except BrokenPipeError:  # the reader of our output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}.", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nstopped.", file=sys.stderr)
        return INTERRUPTED
    return FAILED
