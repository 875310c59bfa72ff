"""What the systems in PyTorch have in common."""

import contextlib
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from benchmarks.systems import System


class TorchFamily:
    """Where and in which numbers it computes."""

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
        """Around all work; at its end the work is done."""
        half = self.system.dtype == "bfloat16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            yield
            if self.device.type == "cuda":
                torch.cuda.synchronize()


def compiled(module: Any, device: torch.device) -> None:
    """For the one shape that comes, once memory is full. On a GPU as SAM 2's authors do, with CUDA graphs."""
    if device.type == "cpu":
        module.forward = torch.compile(module.forward, dynamic=False)
        return
    forward = torch.compile(module.forward, mode="max-autotune", dynamic=False)

    def cloned(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        found = forward(*args, **kwargs)
        return tree_map_only(torch.Tensor, torch.clone, found)  # graphs write there again

    module.forward = cloned
