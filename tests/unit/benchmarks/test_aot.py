"""Reading of optimized programs, for `benchmarks.aot`."""

import re

import pytest

from benchmarks.aot import __main__ as aot
from benchmarks.aot.hlo import Program
from benchmarks.aot.programs import WEIGHTS
from benchmarks.aot.targets import TARGETS

HLO = """HloModule jit_step, is_scheduled=true

FileNames
1 "edgetam_jax/nn/layers.py"

FileLocations
1 {file_name_id=1 function_name_id=1 line=50 end_line=50 column=15 end_column=76}

StackFrames
1 {file_location_id=1 parent_frame_id=1}

%body (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %inner = f32[8]{0} fusion(%p), kind=kLoop, calls=%fused
}

ENTRY %main (w: f32[4], x: f32[8]) -> f32[8] {
  %w = f32[4]{0} parameter(0), metadata={op_name="model.params[\'bias\']"}
  %x = bf16[8]{0} parameter(1), metadata={op_name="frame"}
  %folded = f32[4]{0} fusion(%w), kind=kLoop, calls=%fused, metadata={op_name="fold" stack_frame_id=1}
  %sum = f32[8]{0} fusion(%x, %folded), kind=kLoop, calls=%fused
  %loop = f32[8]{0} while(%sum), condition=%condition, body=%body
  ROOT %all = f32[8]{0} all-reduce(%loop), to_apply=%add
}
"""


def test_kernels_of_a_program() -> None:
    program = Program.parse(HLO)
    kernels = {kernel.instruction.name: kernel for kernel in program.kernels(re.compile(WEIGHTS))}
    assert set(kernels) == {"folded", "sum", "all", "inner"}
    assert [name for name, kernel in kernels.items() if kernel.on_weights] == ["folded"]
    assert kernels["folded"].bytes == 16 + 16 and kernels["sum"].bytes == 32 + 16 + 16
    assert kernels["folded"].instruction.source == "edgetam_jax/nn/layers.py:50"
    assert [one.name for one in program.collectives()] == ["all"]
    assert not program.collectives("body")


def test_targets_have_what_the_bounds_need() -> None:
    for target in TARGETS.values():
        assert target.bandwidth > 5e11 and set(target.flops) == {"bfloat16", "float32"}
        assert (target.config is None) == (target.platform == "tpu")
        assert (target.launch_seconds > 0) == (target.platform == "cuda")


def test_missing_compilers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, str | None] = {"jax": "0.10.2", "jax-cuda12-plugin": "0.10.2"}
    monkeypatch.setattr(aot, "find_version", found.get)
    with pytest.raises(SystemExit, match="cuda without a device, jax-cuda12-pjrt and nvidia-cuda-nvcc-cu12 must be"):
        aot.require("cuda")
    with pytest.raises(SystemExit, match="libtpu must be installed: make aot"):
        aot.require("tpu")
    found |= {"jax-cuda12-pjrt": "0.10.1", "nvidia-cuda-nvcc-cu12": "12.9.86", "libtpu": "0.0.42"}
    with pytest.raises(SystemExit, match="jax-cuda12-pjrt must have the version of jax, 0.10.2"):
        aot.require("cuda")
    aot.require("tpu")


def test_the_parser_sees_what_it_looks_for() -> None:
    """Parameters of a folded model are weights too."""
    assert re.search(WEIGHTS, "model.weights['stem']") and not re.search(WEIGHTS, "state.banks")
