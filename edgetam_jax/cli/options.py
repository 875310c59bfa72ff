"""Command-line options that name a network, its device and its number type, for all commands and the app."""

import argparse
import contextlib
import os
import re
from pathlib import Path

import jax

from edgetam_jax.checkpoints import api
from edgetam_jax.checkpoints.api import EMBEDDED, from_pretrained, load
from edgetam_jax.errors import CheckpointError, ConfigError
from edgetam_jax.model import Model

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
MODEL_HELP = f"""\
networks:
  {EMBEDDED:12} comes with the package: a small network for demonstration
  FILE         a checkpoint of any kind: .safetensors, .pt, a folder; see edgetam-jax convert
  OWNER/NAME   from the Hugging Face hub, such as yonigozlan/EdgeTAM-hf

The first run compiles the network, which takes a while. Compiled programs are cached in {{cache}}
and used by later runs; set {CACHE_VARIABLE} to use another folder."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def make_parser(command: str, description: str, examples: str, network: bool = True) -> argparse.ArgumentParser:
    """A parser whose help ends with examples.

    Args:
        command: Name of the command.
        description: One or two sentences.
        examples: Command lines, each indented by two spaces.
        network: Add the options that choose a network; see `open_model`.
    """
    notes = f"examples:\n{examples}" + (f"\n\n{MODEL_HELP.format(cache=cache_folder())}" if network else "")
    parser = argparse.ArgumentParser(
        prog=f"edgetam-jax {command}",
        description=description,
        epilog=notes.replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if network:
        _add_network_options(parser)
    return parser


def _add_network_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network")
    group.add_argument("--model", default=EMBEDDED, help=f"name or file of the network, see below ({EMBEDDED})")
    group.add_argument("--size", type=int, help="input size in pixels, such as 512, 768 or 1024 (the checkpoint's)")
    group.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="number type (float32)")
    group.add_argument("--device", choices=("cpu", "gpu", "tpu"), help="device to run on (the fastest that jax finds)")


def open_model(arguments: argparse.Namespace) -> Model:
    """Loads the network that the options name, and sets the device and the compilation cache.

    It must come before the process's first jax computation, because jax cannot change its device later.
    """
    return load_network(arguments.model, arguments.size, arguments.device).astype(arguments.dtype)


def load_network(name: str, size: int | None, device: str | None = None) -> Model:
    """Loads a network by its name, and sets the device and the compilation cache as `open_model` does."""
    _choose_device(device)
    keep_compiled()
    return _load(name, size)


def _load(name: str, size: int | None) -> Model:
    path = Path(name)
    if name != EMBEDDED and _HUB_ID.fullmatch(name) and not path.exists() and not path.parent.exists():
        return from_pretrained(name, image_size=size)
    find_checkpoint(name)
    return load(name, image_size=size)


def find_checkpoint(name: str) -> Path:
    """The path of a checkpoint on this machine, which is a path itself or the name of the embedded network."""
    if name != EMBEDDED:
        return Path(name)
    if not api.EMBEDDED_PATH.exists():
        raise CheckpointError(
            f"the network {EMBEDDED} is missing from this installation ({api.EMBEDDED_PATH}); "
            "install edgetam-jax again, or name another network with --model."
        )
    return api.EMBEDDED_PATH


def _choose_device(name: str | None) -> None:
    if name is None:
        return
    # "" lets jax choose the fastest platform; naming a missing platform would raise an error of jax's own.
    jax.config.update("jax_platforms", "cpu" if name == "cpu" else "")
    backend = jax.default_backend()
    if backend != name:
        raise ConfigError(
            f"--device is {name}, but jax finds only {backend} here. Install jax for that device "
            "(docs.jax.dev/en/latest/installation.html), or leave the option out."
        )


def keep_compiled() -> str | None:
    """Turns on jax's persistent compilation cache in the user's cache folder, unless one is set in the environment.

    Returns:
        The folder of the cache, or None if it cannot be written.
    """
    if CACHE_VARIABLE in os.environ:
        return os.environ[CACHE_VARIABLE]
    folder = cache_folder()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return str(folder)


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgetam_jax"
