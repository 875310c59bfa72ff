"""Exports of the tracker, to run without Python or without this package.

This package can be called: `edgetam_jax.export(model, out)` is `edgetam_jax.export.api.export(model, out)`. So the
function and the modules, such as `edgetam_jax.export.runtime`, share the name that both should have.
"""

import inspect
import sys
import types
from typing import Any

from edgetam_jax.export.api import export as _export


class _CallableModule(types.ModuleType):
    __signature__ = inspect.signature(_export)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _export(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
