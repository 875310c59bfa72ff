"""The backend of the Hugging Face port."""

from pathlib import Path
from typing import Any

import torch

from benchmarks import results
from benchmarks.backend import PreparedTask
from benchmarks.systems import System, Task
from benchmarks.torch_tools import TorchBackend
from benchmarks.weights import HUGGING_FACE


class HuggingFaceBackend(TorchBackend):
    def __init__(self, system: System, folder: Path, size: int, threads: int, device: str) -> None:
        super().__init__(system, threads, device)
        from safetensors.torch import load_file

        from tests.support import oracle

        config = results.config_of(size)
        self.size, self.last = size, config.pointers
        self.model = oracle.build_hf(config)
        self.model.load_state_dict(load_file(folder / HUGGING_FACE / "model.safetensors"))
        self.model.to(self.device)
        self.image = torch.randn(3, size, size, generator=torch.Generator().manual_seed(0)).to(self.device)

    def build(self, task: Task) -> PreparedTask:
        return self.track(task.count) if task.kind == "track" else self.encode()

    def encode(self) -> PreparedTask:
        def work() -> None:
            with self.computing():
                self.model.get_image_features(self.image[None], return_dict=True)

        return PreparedTask(work)

    def track(self, objects: int) -> PreparedTask:
        """Tracks one frame, which is already preprocessed. Masks are not resized to a video's size."""
        session, frame = self.full_session(objects), self.last

        def work() -> None:
            nonlocal frame
            frame += 1
            session.processed_frames[frame] = self.image
            with self.computing():
                self.model(session, frame_idx=frame)

        return PreparedTask(work)

    def full_session(self, objects: int) -> Any:
        """A session as after frame 16, with the memory of frame 0 in every slot."""
        from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoInferenceSession

        session = EdgeTamVideoInferenceSession(
            self.image[None], self.size, self.size, self.device, self.device, self.device, torch.float32
        )
        for n in range(objects):
            index, box = session.obj_id_to_idx(n), [[n + 1, 1], [n + self.size // 3, self.size // 2]]
            points, labels = torch.tensor([[box]], dtype=torch.float32), torch.tensor([[[2, 3]]], dtype=torch.int32)
            session.add_point_inputs(index, 0, {"point_coords": points, "point_labels": labels})
            session.obj_with_new_inputs.append(n)
        with self.computing():
            self.model(session, frame_idx=0)
        for outputs in session.output_dict_per_obj.values():
            outputs["non_cond_frame_outputs"] = dict.fromkeys(range(1, self.last + 1), outputs["cond_frame_outputs"][0])
        # The number of pointers that it uses is limited by the number of processed frames.
        tracked = dict.fromkeys(range(1, self.last + 1), self.image)
        session.processed_frames = {**(session.processed_frames or {}), **tracked}
        return session
