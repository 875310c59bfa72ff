"""The backend of the original's image encoder in ONNX Runtime."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.backend import PreparedTask
from benchmarks.systems import System, Task
from benchmarks.weights import load_original


class OnnxBackend:
    def __init__(self, system: System, folder: Path, size: int, threads: int, device: str) -> None:
        import onnxruntime

        self.about = {"platform": "cpu", "device": "cpu"}
        self.size, self.image = size, np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        with tempfile.TemporaryDirectory() as temporary:
            path = export(load_original(folder, size), size, Path(temporary, "encoder.onnx"))
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def device_peak(self) -> int | None:
        return None

    def build(self, task: Task) -> PreparedTask:
        def work() -> None:
            self.session.run(None, {"image": self.image})

        return PreparedTask(work)


def export(model: Any, size: int, path: Path) -> Path:
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(self.model.forward_image(image)["backbone_fpn"])

    image = torch.zeros(1, 3, size, size)
    torch.onnx.export(Encoder().eval(), (image,), path, input_names=["image"], dynamo=True, verbose=False)
    return path
