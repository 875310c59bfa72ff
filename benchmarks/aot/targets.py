"""The devices that programs are compiled for: their description for the compiler, and their peak rates."""

import os
from typing import Any, NamedTuple

LAUNCH_SECONDS = 2.5e-6  # between the starts of two kernels on a GPU; 2 to 4 microseconds are usual

# A GpuTargetConfigProto in text form. Limits that all three cards share are written once.
CUDA_CONFIG = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: {shared} shared_memory_per_block_optin: {shared_optin}
  threads_per_core_limit: {threads} core_count: {cores}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth} l2_cache_size: {cache} clock_rate_ghz: {clock} device_memory_size: {memory}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 12 minor: 8 }}
device_description_str: "{name}"
"""


class Target(NamedTuple):
    name: str
    platform: str  # as JAX lowers for it: cuda or tpu
    topology: str  # for TPU its name; for CUDA the shape that stands for one device
    bandwidth: float  # bytes a second
    flops: dict[
        str, float
    ]  # peak of matrix products by dtype, a second; float32 products may round to TF32 or bfloat16
    config: str | None = None  # CUDA only

    @property
    def launch_seconds(self) -> float:
        return LAUNCH_SECONDS if self.platform == "cuda" else 0.0

    def devices(self, topology: str | None = None) -> list[Any]:
        """Stand-ins for devices, one unless another `topology` is named: programs compile for them, but never run."""
        from jax.experimental import topologies

        name = topology or self.topology
        if self.platform == "tpu":
            return topologies.get_topology_desc(platform="tpu", topology_name=name).devices
        return topologies.get_topology_desc("gpu", platform="cuda", target_config=self.config, topology=name).devices


def _cuda(name: str, capability: str, flops: dict[str, float], **limits: Any) -> Target:
    major, minor = capability.split(".")
    config = CUDA_CONFIG.format(name=name, major=major, minor=minor, **limits)
    return Target(name, "cuda", "1x1x1", limits["bandwidth"], flops, config)


TARGETS = {
    "h200": _cuda(
        "NVIDIA H200",
        "9.0",
        {"bfloat16": 989e12, "float32": 494e12},
        cores=132,
        threads=2048,
        shared=233_472,
        shared_optin=232_448,
        bandwidth=4_800_000_000_000,
        cache=52_428_800,
        clock=1.98,
        memory=151_397_597_184,
    ),
    "a100": _cuda(
        "NVIDIA A100 80GB",
        "8.0",
        {"bfloat16": 312e12, "float32": 156e12},
        cores=108,
        threads=2048,
        shared=167_936,
        shared_optin=166_912,
        bandwidth=2_039_000_000_000,
        cache=41_943_040,
        clock=1.41,
        memory=85_094_825_984,
    ),
    "rtx4090": _cuda(
        "NVIDIA GeForce RTX 4090",
        "8.9",
        {"bfloat16": 165e12, "float32": 82.6e12},
        cores=128,
        threads=1536,
        shared=102_400,
        shared_optin=101_376,
        bandwidth=1_008_000_000_000,
        cache=75_497_472,
        clock=2.52,
        memory=25_393_692_672,
    ),
    # The smallest topology of each kind has four chips; a program for one device uses the first.
    "v5e": Target("TPU v5e", "tpu", "v5e:2x2", 819e9, {"bfloat16": 197e12, "float32": 197e12}),
    "v6e": Target("TPU v6e", "tpu", "v6e:2x2", 1640e9, {"bfloat16": 918e12, "float32": 918e12}),
}


def prepare_process() -> None:
    """Settings that let both compilers load without their device. Call it before jax is imported."""
    settings = {
        "JAX_PLATFORMS": "cpu",
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TPU_SKIP_MDS_QUERY": "1",  # no metadata server to ask
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # and no lock to wait for
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
