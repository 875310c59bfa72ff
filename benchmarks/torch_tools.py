"""Shared by the backends in PyTorch."""

import contextlib
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from benchmarks.systems import System


class TorchBackend:
    """Sets the device, the number of threads and the precision."""

    def __init__(self, system: System, threads: int, device: str) -> None:
        torch.set_num_threads(threads)
        exact = system.dtype != "tensorfloat32"
        torch.set_float32_matmul_precision("highest" if exact else "high")
        torch.backends.cudnn.allow_tf32 = not exact
        self.system, self.device = system, torch.device("cuda" if device == "gpu" else "cpu")
        kind = "cpu" if device == "cpu" else torch.cuda.get_device_name()
        self.about = {"platform": device, "device": kind}

    def device_peak(self) -> int | None:
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else None

    @contextlib.contextmanager
    def computing(self) -> Any:
        """Context of all computations; waits for the device at the end."""
        half = self.system.dtype == "bfloat16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            yield
            if self.device.type == "cuda":
                torch.cuda.synchronize()


def compile_module(module: Any, device: torch.device) -> None:
    """Compiles for one shape, that of a full memory. On a GPU with CUDA graphs, as in SAM 2's code."""
    if device.type == "cpu":
        module.forward = torch.compile(module.forward, dynamic=False)
        return
    forward = torch.compile(module.forward, mode="max-autotune", dynamic=False)

    def cloned(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        outputs = forward(*args, **kwargs)
        return tree_map_only(torch.Tensor, torch.clone, outputs)  # CUDA graphs reuse the memory of outputs

    module.forward = cloned
