"""The systems that are compared: their variants, their tasks, and the environments of their processes."""

import dataclasses
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

AVX512 = ", MKL on AVX-512"  # suffix of labels: MKL is told that this is an Intel processor
INTEL_SOURCE = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"


@dataclasses.dataclass(frozen=True)
class Task:
    kind: str  # encode, images, segment, track, clip, videos, video, gemm
    count: int = 1  # of tracked objects, or the batch size of images, frames or videos

    def __str__(self) -> str:
        return f"{self.kind}:{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Task":
        kind, _, count = text.partition(":")
        return cls(kind, int(count))


class System(NamedTuple):
    name: str
    label: str  # in tables and plots
    family: str  # ours, original, hugging-face, onnx
    dtype: str = "float32"  # or bfloat16, tensorfloat32
    tuned: bool = False  # the memory allocator keeps freed memory
    compiled: bool = False
    avx512: bool = False  # MKL is told that this is an Intel processor


ALL_SYSTEMS = (
    System("ours", "edgetam_jax", "ours"),
    System("ours-tuned", "edgetam_jax, tuned", "ours", tuned=True),
    System("ours-tf32", "edgetam_jax, TF32", "ours", "tensorfloat32", tuned=True),
    System("ours-bf16", "edgetam_jax, bf16", "ours", "bfloat16", tuned=True),
    System("original", "original, eager", "original"),
    System("original-tuned", "original, eager, tuned", "original", tuned=True),
    System("original-bf16", "original, eager, bf16", "original", "bfloat16"),
    System("compiled", "original, torch.compile", "original", compiled=True),
    System("compiled-tuned", "original, torch.compile, tuned", "original", tuned=True, compiled=True),
    System("compiled-bf16", "original, torch.compile, bf16", "original", "bfloat16", compiled=True),
    System("hugging-face", "Hugging Face", "hugging-face"),
    System("hugging-face-tuned", "Hugging Face, tuned", "hugging-face", tuned=True),
    System("hugging-face-bf16", "Hugging Face, bf16", "hugging-face", "bfloat16"),
    System("onnx", "ONNX Runtime", "onnx", tuned=True),
)
SYSTEMS = {system.name: system for system in ALL_SYSTEMS}
DEFAULT_SYSTEMS = {
    "cpu": (
        *("ours", "ours-tuned", "ours-bf16", "original", "original-tuned", "compiled-tuned", "hugging-face-tuned"),
        "onnx",
    ),
    "gpu": (
        *("ours-bf16", "compiled-bf16", "original-bf16", "ours-tf32", "hugging-face-bf16"),
        *("ours", "original", "compiled", "hugging-face"),
    ),
}


def with_avx512(systems: Sequence[System]) -> list[System]:
    """Adds variants of PyTorch's systems for AMD: MKL uses AVX-512 only on what it takes for Intel processors."""
    doubled = []
    for system in systems:
        doubled.append(system)
        if system.family in ("original", "hugging-face"):
            name, label = f"{system.name}+avx512", system.label + AVX512
            doubled.append(system._replace(name=name, label=label, avx512=True))
    return doubled


def tasks_of(system: System, objects: Sequence[int], against: Sequence[int], batches: Sequence[int]) -> list[Task]:
    """The tasks of a system.

    Args:
        system: The system.
        objects: Numbers of objects that the tuned variants of this package track.
        against: Which of them all other systems track.
        batches: Batch sizes of the image encoder, and for the tuned variants of this package of frames and videos.
    """
    exact = system.dtype == "float32"
    if system.family == "onnx":
        return [Task("encode")]
    if system.family == "hugging-face":
        still = [Task("encode")]
    else:
        still = [Task("encode"), Task("segment"), *(Task("images", n) for n in batches if not system.compiled)]
    if system.family != "ours":
        # torch.compile takes minutes for each number of objects.
        counts = [n for n in objects if n in against and (n == 1 or not system.compiled)]
        products = [Task("gemm")] if system.family == "original" and exact and not system.compiled else []
        return [Task("track", n) for n in counts] + still + products
    extra = [Task(kind, n) for kind in ("clip", "videos") for n in batches] if system.tuned else []
    rest = [Task("video")] * system.tuned + [Task("gemm")] if exact else []
    return [Task("track", n) for n in objects if system.tuned or n in against] + still + extra + rest


def environment(system: System, device: str, threads: int, folder: Path) -> dict[str, str]:
    """Environment variables of a system's process. Only on a GPU, where compiling takes too long, the cache is used."""
    count = str(threads)
    variables = {
        **os.environ,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "KMP_BLOCKTIME": "0",  # waiting threads do not occupy the processor
        "JAX_PLATFORMS": "cpu" if device == "cpu" else "",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # the device is shared
        "TORCHINDUCTOR_CACHE_DIR": str(folder / f"inductor-{system.name}"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
    }
    if device == "cpu":
        variables.pop("JAX_COMPILATION_CACHE_DIR", None)
    if system.tuned and system.family != "ours":
        settings = {"arena_max": 1, "mmap_max": 0, "trim_threshold": 2**31 - 1}
        variables["GLIBC_TUNABLES"] = ":".join(f"glibc.malloc.{name}={value}" for name, value in settings.items())
    if system.avx512:
        variables["LD_PRELOAD"] = str(_build_intel_library(folder))
    return variables


def _build_intel_library(folder: Path) -> Path:
    source, library = folder / "intel.c", folder / "libintel.so"
    if not library.exists():
        source.write_text(INTEL_SOURCE)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library
