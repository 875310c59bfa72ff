"""What the compiled step of the full network may cost, on any machine."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import flops
from benchmarks.ours import step_gigaflops
from edgetam_jax import EDGETAM, Model, init_state, track_step
from edgetam_jax.model import init_params
from edgetam_jax.prompts import Prompts
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.state import State
from edgetam_jax.tracking.step import TrackOptions
from edgetam_jax.tracking.stream import _track_step, no_prompts
from tests.support.pages import ROOT

FRAME = jax.ShapeDtypeStruct((540, 960, 3), jnp.uint8)
# 3.5 of these GFLOP are zeros in the wide filters of the stem, which take less time than filters without them.
GIGAFLOPS, TEMPORARY, STATE = 126, 300e6, 1.2e6
LINES = 10_000  # of the program that XLA gets: 8,900 take it some 10 s
FIRST, CACHED = 30, 2  # seconds of CPU that compiling may take, 15 on two cores, and a program kept from an earlier run


@pytest.fixture(autouse=True, scope="module")
def compiled_fast() -> None:
    """What users run is what is guarded."""


@functools.cache
def shapes(objects: int, dtype: str = "float32") -> tuple[Model, State, jax.ShapeDtypeStruct, Prompts]:
    """What the step takes, without any numbers."""
    model = jax.eval_shape(lambda: Model(init_params(EDGETAM, jax.random.key(0)), EDGETAM).astype(dtype))
    return model, jax.eval_shape(lambda: init_state(model, objects)), FRAME, no_prompts(objects)


def lowered(objects: int) -> Any:
    return _track_step.lower(*shapes(objects), TrackOptions())


@pytest.fixture(scope="module")
def compiled() -> Any:
    """With room for eight objects."""
    return lowered(8).compile()


def test_few_operations() -> None:
    """A frame of one object that is followed: no more than exact rewrites leave of the original's 143 GFLOP.

    Also with a place for a second prompted frame, which is what a state has by default.
    """
    model, state, *_ = shapes(1)
    frame = jax.ShapeDtypeStruct((EDGETAM.image_size, EDGETAM.image_size, 3), jnp.uint8)  # none is resized
    roomy = 1e-9 * flops.count(track_step, model, state, frame)
    assert 100 < step_gigaflops(model, 1) < roomy < GIGAFLOPS


def test_operations_are_counted() -> None:
    def work(x: jax.Array, kernel: jax.Array) -> jax.Array:
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        rows = jax.lax.map(lambda row: row @ jnp.ones((5, 7)), y[0])
        return jax.lax.cond(x.sum() > 0, lambda: rows @ jnp.ones((7, 2)), lambda: rows[..., :2])

    one = flops.count(jax.jit(work), jnp.ones((1, 4, 6, 3)), jnp.ones((3, 3, 3, 5)))
    assert one == 2 * (4 * 6 * 5 * 27 + 4 * 6 * 7 * 5 + 4 * 6 * 2 * 7)


@pytest.mark.slow
def test_no_grouped_convolution(compiled: Any) -> None:
    """XLA's are fifty times slower on CPU than sums of shifted copies."""
    assert convolutions(compiled)
    assert not [line for line in convolutions(compiled) if "group_count" in line]


def test_grouped_convolutions_would_be_seen() -> None:
    def depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=8)

    program = jax.jit(depthwise).lower(jnp.ones((1, 9, 9, 8)), jnp.ones((3, 3, 1, 8))).compile()
    assert ["group_count" in line for line in convolutions(program)] == [True]


def convolutions(program: Any) -> list[str]:
    return re.findall(r"= \S+ convolution\(.*", program.as_text())


@pytest.mark.slow
@pytest.mark.parametrize("part", ["self_attend", "condition_on_memory"])
def test_products_of_bfloat16_stay_in_bfloat16(part: str) -> None:
    """XLA on CPU makes factors float32 where it has to turn one, and takes twice as long.

    Products by a vector are means and biases, which are float32 on purpose.
    """
    model, state, *_ = shapes(1, "bfloat16")
    size, dim = EDGETAM.embedding_size, EDGETAM.hidden_dim
    embedding = jax.ShapeDtypeStruct((size, size, dim), jnp.bfloat16)
    arguments: Any = (embedding,)
    if part == "condition_on_memory":
        queries = jax.eval_shape(lambda model, x: model.self_attend(x), model, embedding)
        bank = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), state.banks)
        arguments = queries, jax.eval_shape(lambda bank: memory.read(bank, jnp.int32(1), 1, EDGETAM), bank)
    found = factors(jax.jit(lambda model, *given: getattr(model, part)(*given)).lower(model, *arguments).compile())
    assert ((size**2, size**2), "bf16", "bf16") in found
    assert not [product for product in found if min(product[0]) > 1 and product[1:] != ("bf16", "bf16")]


def test_products_of_float32_would_be_seen() -> None:
    """The form that is avoided still is what it was."""
    program = jax.jit(lambda x, y: jnp.matmul(x, y.mT, preferred_element_type=jnp.float32))
    x = jax.ShapeDtypeStruct((64, 64), jnp.bfloat16)
    assert factors(program.lower(x, x).compile()) == [((64, 64), "f32", "f32")]


def factors(program: Any) -> list[tuple[tuple[int, ...], str, str]]:
    """Of each matrix product its shape and the types of both factors."""
    found = []
    for computation in program.as_text().split("\n\n"):
        types = dict(re.findall(r"%(\S+) = (\w+)\[", computation))
        for shape, x, y in re.findall(r"= \w+\[([\d,]+)\]\S* dot\(%([^,]+), %([^)]+)\)", computation):
            found.append((tuple(map(int, shape.split(","))), types[x], types[y]))
    return found


def test_small_program() -> None:
    """Compiling takes the longer the more lines there are, on every machine."""
    assert 1000 < len(lowered(1).as_text().splitlines()) < LINES


@pytest.mark.slow
def test_temporary_memory(compiled: Any) -> None:
    assert 0 < compiled.memory_analysis().temp_size_in_bytes < TEMPORARY


def test_state_of_an_object() -> None:
    sizes = [sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes(n)[1])) for n in (1, 2)]
    assert 0 < sizes[1] - sizes[0] < STATE


@pytest.mark.slow
def test_compiled_programs_are_kept(tmp_path: Path) -> None:
    """In processes of their own: later ones find the first one's program. It takes up to 300 MB, too.

    Each is far quicker than the first; how quick, the quickest of three says, for other tests run beside this one.
    """
    script = (
        "import time, tests.unit.benchmarks.test_guards as guards; lowered = guards.lowered(1); "
        "begin = time.process_time(); "
        "memory = lowered.compile().memory_analysis(); "
        "print(time.process_time() - begin, memory.temp_size_in_bytes)"
    )
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    line = [sys.executable, "-c", script]
    (first, temporary), *later = (
        map(float, subprocess.check_output(line, cwd=ROOT, env=environment, text=True).split()) for _ in range(4)
    )
    seconds = [time for time, _ in later]
    assert max(seconds) < first / 3
    assert min(seconds) < CACHED < first < FIRST
    assert 0 < temporary < TEMPORARY


@pytest.mark.parametrize(("platform", "dtype"), [("cuda", "bfloat16"), ("tpu", "float32")])
def test_lowers_for_other_devices(platform: str, dtype: str) -> None:
    """To the forms for that platform, all objects at once, in the usual dtype; it is not compiled."""
    program = jax.jit(functools.partial(_track_step.__wrapped__, options=TrackOptions(vectorize=True)))
    exported = jax.export.export(program, platforms=[platform])(*shapes(2, dtype))
    text = exported.mlir_module()
    assert exported.platforms == (platform,)
    assert "stablehlo.convolution" in text
    assert text.count("stablehlo.optimization_barrier") == EDGETAM.memory_encoder.fuser_layers
    assert "stablehlo.while" not in text
