"""Shapes and numbers of examples in property tests. Each shape is a program to compile, so the default profile has few.

    HYPOTHESIS_PROFILE=nightly pytest tests/unit/nn

tries any shape, and ten times as many examples.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st

T = TypeVar("T")
NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"


def examples(count: int) -> settings:
    """For tests that try `count` examples in the default profile, and ten times as many in the nightly one."""
    return settings(max_examples=10 * count if NIGHTLY else count, deadline=None)


def shapes(few: Sequence[T], every: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """Draws from `every` in the nightly profile, else from `few`."""
    return every if NIGHTLY else st.sampled_from(few)
