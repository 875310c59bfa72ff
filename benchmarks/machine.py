"""Facts about this machine, for results."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
PACKAGES = ("edgetam-jax", "jax", "jaxlib", "flax", "torch", "timm", "edgetam-dimos", "transformers", "onnxruntime")
LOAD = os.getloadavg()[0]  # the average number of running processes when the benchmark started


def processor() -> str:
    """The processor's name, and on Linux its family and model, since some generations share one name."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    kind = [f"{key.split()[-1]} {value}" for key in ("cpu family", "model") if (value := _cpuinfo(key))]
    return f"{name} ({', '.join(kind)})" if kind else name


def instructions() -> list[str]:
    """The instruction sets of the processor that matter for matrix products."""
    return [name for name in INSTRUCTIONS if name in (_cpuinfo("flags") or "").split()]


def is_amd() -> bool:
    return _cpuinfo("vendor_id") == "AuthenticAMD"


def versions() -> dict[str, str]:
    """Versions of the installed packages."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def description() -> dict[str, Any]:
    return {
        "machine": f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores",
        "processor": processor(),
        "instructions": instructions(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_before": LOAD,
        "python": platform.python_version(),
        "versions": versions(),
    }


def _cpuinfo(key: str) -> str | None:
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), None)
