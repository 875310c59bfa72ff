"""What the benchmarks share: a network of random weights, and where the numbers that were measured are written."""

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
    """The full network's, for images of another size."""
    return Config.from_dict({**EDGETAM.to_dict(), "image_size": size})


def random_model(size: int) -> Model:
    config = config_of(size)
    return Model(init_params(config, jax.random.key(0)), config)


def write(name: str, image_size: int, *, device: Device | None = None, **measured: Any) -> None:
    """Writes what was measured, with when and on what, as `results/NAME_PLATFORM_SIZE.json`.

    The device is that of this process, unless the work was done in others.
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
    with replacing(path, force=True) as aside:
        aside.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\n{device.kind}, jax {jax.__version__}, image size {image_size}; written to {path.name}")
