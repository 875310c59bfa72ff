"""This package in the comparison."""

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
from benchmarks.systems import System, Task
from benchmarks.weights import OURS
from benchmarks.worker import Prepared, products
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
VIDEO = 480, 854  # height, width
DRAWN = 8  # different frames of the video


class Ours:
    def __init__(self, system: System, folder: Path, size: int, threads: int, device: str) -> None:
        if system.tuned:
            tune()
        jax.config.update("jax_default_matmul_precision", PRECISION[system.dtype])
        dtype = "bfloat16" if system.dtype == "bfloat16" else "float32"
        self.size, self.device = size, jax.devices()[0]
        if (device == "cpu") != (self.device.platform == "cpu"):
            raise RuntimeError(f"this is to run on {device}, and jax finds {self.device.platform}")
        self.model = load(folder / OURS, image_size=size).astype(dtype)
        self.about = {"platform": self.device.platform, "device": self.device.device_kind}
        self.frame = jax.device_put(np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8))

    def device_peak(self) -> int | None:
        return (self.device.memory_stats() or {}).get("peak_bytes_in_use")

    def build(self, task: Task) -> Prepared:
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
                return products(jnp.ones, lambda x, y: jax.block_until_ready(product(x, y)))
            case _:
                raise ValueError(f"no such task: {task}")

    def encode(self, images: Any) -> Prepared:
        return Prepared(lambda: ignore(jax.block_until_ready(encode_image(self.model, images))))

    def segment(self) -> Prepared:
        features, middle = encode_image(self.model, self.frame), self.size // 2
        click = ImagePrompts.build([Prompt(points=[[middle, middle]], labels=[1])], (self.size, self.size))
        return Prepared(lambda: ignore(jax.block_until_ready(segment(self.model, features, click))))

    def track(self, objects: int) -> Prepared:
        state = self.full_state(objects, self.frame)

        def work() -> None:
            nonlocal state
            state, tracks = track_step(self.model, state, self.frame)
            jax.block_until_ready((state, tracks))

        return Prepared(work, {"gflop": gigaflops_of_a_step(self.model, objects)})

    def clip(self, frames: int) -> Prepared:
        """One object through so many frames in one call, the encoding of all of them in it."""
        video = jnp.stack([self.frame] * frames)
        prompts = boxes(1, self.frame)
        return Prepared(lambda: ignore(jax.block_until_ready(track(video, prompts, self.model))))

    def videos(self, count: int) -> Prepared:
        """A frame each, with one object."""
        state, frames = jax.tree.map(lambda x: jnp.stack([x] * count), (self.full_state(1, self.frame), self.frame))
        step = jax.jit(jax.vmap(track_step, (None, 0, 0)))

        def work() -> None:
            nonlocal state
            state, tracks = step(self.model, state, frames)
            jax.block_until_ready((state, tracks))

        return Prepared(work)

    def full_state(self, objects: int, frame: Any) -> Any:
        """As after frame 16: what was remembered of frame 0 is put into every place."""
        last = self.model.config.pointers
        state, _ = track_step(self.model, init_state(self.model, objects, 1), frame, boxes(objects, frame))

        @jax.jit
        def filled(state: Any) -> Any:
            entry = memory.MemoryEntry(state.banks.recent.values[:, 0], state.banks.pointers.values[:, 0])
            write = jax.vmap(memory.write_recent, (0, None, 0))
            banks = jax.lax.fori_loop(1, last + 1, lambda frame, banks: write(banks, frame, entry), state.banks)
            return state._replace(banks=banks, frame=state.frame + last)

        return filled(state)

    def video(self) -> Prepared:
        """A frame from a video file to a video file, its stages timed apart."""
        from edgetam_jax.media.video_writer import FrameTiming, Mp4Writer
        from edgetam_jax.media.visualize import overlay

        folder = tempfile.TemporaryDirectory()
        frames = decoded(draw_video(Path(folder.name, "clip.mp4")))
        state = self.full_state(1, next(frames))
        writer = Mp4Writer(Path(folder.name, "out.mp4"), VIDEO, FrameTiming(24))

        def work() -> Mapping[str, float]:
            nonlocal state
            moments = [time.perf_counter()]
            frame = next(frames)
            moments.append(time.perf_counter())
            state, tracks = track_step(self.model, state, frame)
            jax.block_until_ready((state, tracks))
            moments.append(time.perf_counter())
            masks = np.asarray(tracks.masks(VIDEO)[0])
            moments.append(time.perf_counter())
            picture = overlay(frame, masks)
            moments.append(time.perf_counter())
            writer.add(picture)
            moments.append(time.perf_counter())
            stages = ("decode", "track", "masks", "draw", "encode")
            return {name: end - begin for name, (begin, end) in zip(stages, itertools.pairwise(moments), strict=True)}

        work.folder = folder  # it is removed with the work
        return Prepared(work)


def ignore(_: Any) -> None:
    """Results are not facts about the time."""


def boxes(objects: int, frame: Any) -> Prompts:
    """One for each object."""
    height, width = frame.shape[:2]
    return Prompts.build([Prompt(box=[n + 1, 1, n + width // 3, height // 2]) for n in range(objects)])


def draw_video(path: Path) -> Path:
    from edgetam_jax.data.synthetic import ClipConfig, make_clip
    from edgetam_jax.media.video_writer import FrameTiming, Mp4Writer

    clip = make_clip(jax.random.key(0), ClipConfig(DRAWN, *VIDEO, exposures=1))
    writer = Mp4Writer(path, VIDEO, FrameTiming(24))
    for frame in np.asarray(clip.frames):
        writer.add(frame)
    writer.finish()
    return path


def decoded(path: Path) -> Iterator[np.ndarray]:
    """Its frames, over and over, each decoded when it is asked for."""
    while True:
        with open_video(path, read_ahead=0) as video:
            yield from video.frames()


def gigaflops_of_a_step(model: Any, objects: int) -> float:
    """Of a frame on which all of them are followed."""
    frame = jax.ShapeDtypeStruct((model.config.image_size, model.config.image_size, 3), jnp.uint8)
    state = jax.eval_shape(lambda: init_state(model, objects, 1))
    return 1e-9 * flops.count(track_step, model, state, frame)
