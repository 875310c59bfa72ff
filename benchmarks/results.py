"""Shared by the benchmarks: models with random weights, and writing results."""

import datetime
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks import machine
from edgetam_jax.config import EDGETAM, Config
from edgetam_jax.media.atomic import replacing
from edgetam_jax.model import Model, init_params

RESULTS = Path(__file__).parent / "results"


class Device(NamedTuple):
    platform: str  # cpu, gpu, tpu
    kind: str


def config_of(size: int) -> Config:
    """The configuration of the released network for another image size."""
    return Config.from_dict({**EDGETAM.to_dict(), "image_size": size})


def random_model(size: int) -> Model:
    config = config_of(size)
    return Model(init_params(config, jax.random.key(0)), config)


def write(name: str, image_size: int, *, device: Device | None = None, **measured: Any) -> None:
    """Writes measurements, the date and facts about the machine to `results/NAME_PLATFORM_SIZE.json`.

    `device` defaults to the device of this process.
    """
    if device is None:
        first = jax.devices()[0]
        device = Device(first.platform, first.device_kind)
    document = {
        "date": datetime.date.today().isoformat(),
        "device": device.kind,
        **machine.description(),
        "image_size": image_size,
        **measured,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}_{device.platform}_{image_size}.json"
    with replacing(path, force=True) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\n{device.kind}, jax {jax.__version__}, image size {image_size}; written to {path.name}")
