"""Shapes of arrays in property tests. Each is a program to compile, so that the default profile tries only a few.

    HYPOTHESIS_PROFILE=nightly pytest tests/unit/nn

tries any shape.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st

T = TypeVar("T")
NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
compiling = settings(max_examples=60 if NIGHTLY else 6, deadline=None)  # where each example is another program


def shapes(few: Sequence[T], every: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """Draws from `every` in the nightly profile, else from `few`."""
    return every if NIGHTLY else st.sampled_from(few)
