"""The tracking step as it is handed to the compilers of GPUs and TPUs: its size, and its fences.

Nothing is compiled or run. What these compilers make of it is measured by `python -m benchmarks.aot`.
"""

import importlib.util
import re
from collections import Counter

import jax
import pytest

from benchmarks.aot import __main__ as aot
from benchmarks.aot import programs

LINES, OPERATIONS, SCATTERS = 5000, 4300, 12


@pytest.fixture(scope="module", params=["cuda", "tpu"])
def text(request: pytest.FixtureRequest) -> str:
    program = programs.build("step, 1 object", "bfloat16")
    traced = jax.jit(program.function, donate_argnums=program.donated).trace(*program.args)
    return traced.lower(lowering_platforms=(request.param,)).as_text()


def test_the_step_is_small(text: str) -> None:
    """Every line is one that XLA has to optimize, most of them for each place where a function is called."""
    operations = Counter(re.findall(r'= "?stablehlo\.(\w+)', text))
    print(text.count("\n"), operations.total(), operations["scatter"])
    assert text.count("\n") < LINES
    assert operations.total() < OPERATIONS
    assert operations["scatter"] < SCATTERS


def test_filters_are_fenced(text: str) -> None:
    """XLA's compiler for GPUs does not finish without the barrier in each block of the memory encoder's fuser."""
    assert text.count("stablehlo.optimization_barrier") >= 2


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu, which the extra aot has")
@pytest.mark.parametrize("program", ["filters", "decoder"])
def test_parts_compile_for_tpu(program: str) -> None:
    """In bounded processor time, which this process's own limits end."""
    row = aot.in_a_process("v5e", program, "bfloat16", limit=240)
    assert "note" not in row, row
    assert row["kernels_on_weights"] < row["kernels"] < 400
