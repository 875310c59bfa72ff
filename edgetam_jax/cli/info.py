"""`edgetam-jax info [MODEL]`: what a bug report should contain: versions, devices and the network's configuration."""

import argparse
import importlib.metadata
import platform
from collections.abc import Iterator, Sequence

import jax

from edgetam_jax.checkpoints import api
from edgetam_jax.checkpoints.api import EMBEDDED, read
from edgetam_jax.cli.options import find_checkpoint, keep_compiled, make_parser

PACKAGES = ("edgetam-jax", "jax", "jaxlib", "flax", "numpy", "pillow", "safetensors")
OPTIONAL = ("av", "huggingface_hub", "orbax-checkpoint", "torch", "optax", "grain")

EXAMPLES = """\
  edgetam-jax info
  edgetam-jax info edgetam.safetensors"""


def main(argv: Sequence[str] | None = None) -> None:
    _info(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("info", "Show versions, devices and the contents of a checkpoint.", EXAMPLES, network=False)
    parser.add_argument("model", nargs="?", help=f"a checkpoint of any kind, or {EMBEDDED}")
    return parser


def _info(arguments: argparse.Namespace) -> None:
    lines = [*_versions(), *_machine()]
    if arguments.model is not None:
        lines += _network(arguments.model)
    width = max(len(name) for name, _ in lines)
    print("\n".join(f"{name:{width}}  {value}" for name, value in lines))


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", f"{platform.python_version()}, {platform.platform()}"
    for name in PACKAGES + OPTIONAL:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, "not installed"


def _machine() -> Iterator[tuple[str, str]]:
    kinds = [device.device_kind for device in jax.devices()]
    devices = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
    yield "devices", f"{devices} ({jax.default_backend()})"
    yield "compiled programs", keep_compiled() or "not kept"
    yield f"network {EMBEDDED}", str(api.EMBEDDED_PATH) if api.EMBEDDED_PATH.exists() else "missing"


def _network(name: str) -> Iterator[tuple[str, str]]:
    loaded = read(find_checkpoint(name))
    yield "file", f"{name} ({loaded.kind}, {', '.join(loaded.dtypes)})"
    yield "parameters", f"{loaded.parameters:,}, besides {loaded.statistics:,} stored statistics and constants"
    yield "made for", "images only" if loaded.image_only else "images and videos"
    for field, value in loaded.model.config.to_dict().items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        yield field, str(shown)
