"""Reading of optimized programs, for `benchmarks.aot`."""

import re

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
