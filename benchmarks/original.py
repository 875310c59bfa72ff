"""The backend of the PyTorch original: eager, or with its five large parts compiled."""

import inspect
import textwrap
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.backend import PreparedTask, gemm_task
from benchmarks.systems import System, Task
from benchmarks.torch_tools import TorchBackend, compile_module
from benchmarks.weights import load_original

COMPILED = ("image_encoder", "memory_attention", "sam_mask_decoder", "memory_encoder", "spatial_perceiver")
FRAMES = 10_000  # more than a benchmark tracks


class OriginalBackend(TorchBackend):
    def __init__(self, system: System, folder: Path, size: int, threads: int, device: str) -> None:
        super().__init__(system, threads, device)
        self.size, self.model = size, load_original(folder, size).to(self.device)
        undo_test_patches()
        self.image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(self.device)
        self.parts: set[str] = set()

    def build(self, task: Task) -> PreparedTask:
        if task.kind == "track":
            return self.track(task.count)
        if task.kind == "gemm":
            return self.products()
        return self.segment() if task.kind == "segment" else self.encode(task.count)

    def compile_parts(self, *names: str) -> None:
        if self.system.compiled:
            for name in set(names) - self.parts:
                compile_module(getattr(self.model, name), self.device)
        self.parts |= set(names)

    def encode(self, count: int) -> PreparedTask:
        self.compile_parts("image_encoder")
        images = self.image.repeat(count, 1, 1, 1)

        def work() -> None:
            with self.computing():
                self.model.forward_image(images)

        return PreparedTask(work)

    def segment(self) -> PreparedTask:
        """Three masks for one click, on an image that is already encoded."""
        model = self.model
        with self.computing():
            stride4, stride8, embedding = model.forward_image(self.image)["backbone_fpn"]
        self.compile_parts("sam_mask_decoder")
        click = torch.full((1, 1, 2), self.size / 2, device=self.device), torch.ones(1, 1, device=self.device).int()

        def work() -> None:
            with self.computing():
                sparse, dense = model.sam_prompt_encoder(click, None, None)
                model.sam_mask_decoder(
                    image_embeddings=embedding,
                    image_pe=model.sam_prompt_encoder.get_dense_pe(),
                    sparse_prompt_embeddings=sparse,
                    dense_prompt_embeddings=dense,
                    multimask_output=True,
                    repeat_image=False,
                    high_res_features=[stride4, stride8],
                )

        return PreparedTask(work)

    def track(self, objects: int) -> PreparedTask:
        """One step of the original's `propagate_in_video` on preprocessed frames; it resizes masks to their size."""
        frames = self.full_state(objects)
        self.compile_parts(*COMPILED)

        def work() -> None:
            with self.computing():
                next(frames)

        return PreparedTask(work)

    def products(self) -> PreparedTask:
        def product(x: torch.Tensor, y: torch.Tensor) -> None:
            with self.computing():
                torch.matmul(x, y)

        return gemm_task(lambda shape: torch.ones(shape, device=self.device), product)

    def full_state(self, objects: int) -> Any:
        """Iterates over tracked frames, from a state as after frame 16 with the memory of frame 0 in every slot."""
        model, video = self.model, self.image.expand(FRAMES, -1, -1, -1)
        with (
            self.computing(),
            mock.patch("sam2.sam2_video_predictor.load_video_frames", return_value=(video, self.size, self.size)),
        ):
            state = model.init_state("")
            for n in range(objects):
                model.add_new_points_or_box(state, 0, n, box=[n + 1, 1, n + self.size // 3, self.size // 2])
            model.propagate_in_video_preflight(state)
            outputs, last = state["output_dict"], model.max_obj_ptrs_in_encoder
            outputs["non_cond_frame_outputs"] = dict.fromkeys(range(1, last + 1), outputs["cond_frame_outputs"][0])
        with mock.patch("sam2.sam2_video_predictor.tqdm", lambda order, **_: order):
            frames = model.propagate_in_video(state, start_frame_idx=last + 1, max_frame_num_to_track=FRAMES)
            with self.computing():
                next(frames)
        return frames


def undo_test_patches() -> None:
    """Undoes the tests' patches of the original, which make its arithmetic comparable at the cost of speed.

    One fix is kept: with more than one object its `.view` fails, and is replaced by `.reshape`.
    """
    import sam2.modeling.perceiver as perceiver_module
    import sam2.sam2_video_predictor as video_module

    video_module.torch = torch
    resampler = perceiver_module.PerceiverResampler
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(resampler.forward_2d)))
    patched = source.replace(".view(-1, 1, C)", ".reshape(-1, 1, C)")
    if patched == source:
        raise RuntimeError("the original has changed: the line that fails with several objects was not found")
    names: dict[str, Any] = {}
    exec(patched, {**vars(perceiver_module)}, names)
    resampler.forward_2d = names["forward_2d"]
