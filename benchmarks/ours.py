"""The backend of this package."""

import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import flops
from benchmarks.backend import PreparedTask, gemm_task
from benchmarks.systems import System, Task
from benchmarks.weights import OURS
from edgetam_jax import (
    ImagePrompts,
    Prompt,
    Prompts,
    encode_image,
    init_state,
    load,
    open_video,
    segment,
    track,
    track_step,
    tune,
)
from edgetam_jax.tracking import memory

PRECISION = {"float32": "highest", "tensorfloat32": "tensorfloat32", "bfloat16": "default"}
VIDEO_SIZE = 480, 854  # height, width
VIDEO_FRAMES = 8  # number of different frames of the video


class JaxBackend:
    def __init__(self, system: System, folder: Path, size: int, threads: int, device: str) -> None:
        if system.tuned:
            tune()
        jax.config.update("jax_default_matmul_precision", PRECISION[system.dtype])
        dtype = "bfloat16" if system.dtype == "bfloat16" else "float32"
        self.size, self.device = size, jax.devices()[0]
        if (device == "cpu") != (self.device.platform == "cpu"):
            raise RuntimeError(f"the benchmark is for {device}, but jax uses {self.device.platform}")
        self.model = load(folder / OURS, image_size=size).astype(dtype)
        self.about = {"platform": self.device.platform, "device": self.device.device_kind}
        self.frame = jax.device_put(np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8))

    def device_peak(self) -> int | None:
        return (self.device.memory_stats() or {}).get("peak_bytes_in_use")

    def build(self, task: Task) -> PreparedTask:
        match task.kind:
            case "encode":
                return self.encode(self.frame)
            case "images":
                return self.encode(jnp.stack([self.frame] * task.count))
            case "segment":
                return self.segment()
            case "track":
                return self.track(task.count)
            case "clip":
                return self.clip(task.count)
            case "videos":
                return self.videos(task.count)
            case "video":
                return self.video()
            case "gemm":
                product = jax.jit(jnp.matmul)
                return gemm_task(jnp.ones, lambda x, y: jax.block_until_ready(product(x, y)))
            case _:
                raise ValueError(f"unknown task: {task}")

    def encode(self, images: Any) -> PreparedTask:
        return PreparedTask(lambda: discard(jax.block_until_ready(encode_image(self.model, images))))

    def segment(self) -> PreparedTask:
        features, center = encode_image(self.model, self.frame), self.size // 2
        click = ImagePrompts.build([Prompt(points=[[center, center]], labels=[1])], (self.size, self.size))
        return PreparedTask(lambda: discard(jax.block_until_ready(segment(self.model, features, click))))

    def track(self, objects: int) -> PreparedTask:
        state = self.full_state(objects, self.frame)

        def work() -> None:
            nonlocal state
            state, tracks = track_step(self.model, state, self.frame)
            jax.block_until_ready((state, tracks))

        return PreparedTask(work, {"gflop": step_gigaflops(self.model, objects)})

    def clip(self, frames: int) -> PreparedTask:
        """Tracks one object through a number of frames in one call, which includes the image encoder."""
        video = jnp.stack([self.frame] * frames)
        prompts = box_prompts(1, self.frame)
        return PreparedTask(lambda: discard(jax.block_until_ready(track(video, prompts, self.model))))

    def videos(self, count: int) -> PreparedTask:
        """Tracks one frame of each video, with one object."""
        state, frames = jax.tree.map(lambda x: jnp.stack([x] * count), (self.full_state(1, self.frame), self.frame))
        step = jax.jit(jax.vmap(track_step, (None, 0, 0)))

        def work() -> None:
            nonlocal state
            state, tracks = step(self.model, state, frames)
            jax.block_until_ready((state, tracks))

        return PreparedTask(work)

    def full_state(self, objects: int, frame: Any) -> Any:
        """A state as after frame 16, with the memory of frame 0 in every slot."""
        last = self.model.config.pointers
        state, _ = track_step(self.model, init_state(self.model, objects, 1), frame, box_prompts(objects, frame))

        @jax.jit
        def filled(state: Any) -> Any:
            entry = memory.MemoryEntry(state.banks.recent.values[:, 0], state.banks.pointers.values[:, 0])
            write = jax.vmap(memory.write_recent, (0, None, 0))
            banks = jax.lax.fori_loop(1, last + 1, lambda frame, banks: write(banks, frame, entry), state.banks)
            return state._replace(banks=banks, frame=state.frame + last)

        return filled(state)

    def video(self) -> PreparedTask:
        """Processes one frame from a video file to a video file, with the time of each stage."""
        from edgetam_jax.media.video_writer import FrameTiming, Mp4Writer
        from edgetam_jax.media.visualize import overlay

        folder = tempfile.TemporaryDirectory()
        frames = repeat_frames(draw_video(Path(folder.name, "clip.mp4")))
        state = self.full_state(1, next(frames))
        writer = Mp4Writer(Path(folder.name, "out.mp4"), VIDEO_SIZE, FrameTiming(24))

        def work() -> Mapping[str, float]:
            nonlocal state
            moments = [time.perf_counter()]
            frame = next(frames)
            moments.append(time.perf_counter())
            state, tracks = track_step(self.model, state, frame)
            jax.block_until_ready((state, tracks))
            moments.append(time.perf_counter())
            masks = np.asarray(tracks.masks(VIDEO_SIZE)[0])
            moments.append(time.perf_counter())
            picture = overlay(frame, masks)
            moments.append(time.perf_counter())
            writer.add(picture)
            moments.append(time.perf_counter())
            stages = ("decode", "track", "masks", "draw", "encode")
            return {name: end - begin for name, (begin, end) in zip(stages, itertools.pairwise(moments), strict=True)}

        work.__dict__["folder"] = folder  # keeps the temporary folder until the task is deleted
        return PreparedTask(work)


def discard(_: Any) -> None:
    """Drops a result, which is not a measurement."""


def box_prompts(objects: int, frame: Any) -> Prompts:
    """A box for each object."""
    height, width = frame.shape[:2]
    return Prompts.build([Prompt(box=[n + 1, 1, n + width // 3, height // 2]) for n in range(objects)])


def draw_video(path: Path) -> Path:
    from edgetam_jax.data.synthetic import ClipConfig, make_clip
    from edgetam_jax.media.video_writer import FrameTiming, Mp4Writer

    clip = make_clip(jax.random.key(0), ClipConfig(VIDEO_FRAMES, *VIDEO_SIZE, exposures=1))
    writer = Mp4Writer(path, VIDEO_SIZE, FrameTiming(24))
    for frame in np.asarray(clip.frames):
        writer.add(frame)
    writer.finish()
    return path


def repeat_frames(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video in an endless loop, each decoded when it is requested."""
    while True:
        with open_video(path, read_ahead=0) as video:
            yield from video.frames()


def step_gigaflops(model: Any, objects: int) -> float:
    """Operations of tracking one frame."""
    frame = jax.ShapeDtypeStruct((model.config.image_size, model.config.image_size, 3), jnp.uint8)
    state = jax.eval_shape(lambda: init_state(model, objects, 1))
    return 1e-9 * flops.count(track_step, model, state, frame)
