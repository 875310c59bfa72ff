"""What the benchmarks share: a network of random weights, and where the numbers that were measured are written."""

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax

from edgetam_jax.config import EDGETAM, Config
from edgetam_jax.model import Model, init_params

RESULTS = Path(__file__).parent / "results"


def config_of(size: int) -> Config:
    """The full network's, for images of another size."""
    return Config.from_dict({**EDGETAM.to_dict(), "image_size": size})


def random_model(size: int) -> Model:
    config = config_of(size)
    return Model(init_params(config, jax.random.key(0)), config)


def write(name: str, image_size: int, **measured: Any) -> None:
    """Writes what was measured, with when and on what, as `results/NAME_PLATFORM_SIZE.json`."""
    device = jax.devices()[0]
    document = {
        "date": datetime.date.today().isoformat(),
        "device": device.device_kind,
        "machine": f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores",
        "jax": jax.__version__,
        "image_size": image_size,
        **measured,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}_{device.platform}_{image_size}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\n{device.device_kind}, jax {jax.__version__}, image size {image_size}; written to {path.name}")
