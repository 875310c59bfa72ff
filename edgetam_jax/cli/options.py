"""What the commands have in common: which network computes, where, in which type, and how a command ends."""

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from edgetam_jax.checkpoints import api as checkpoint
from edgetam_jax.checkpoints.api import EMBEDDED, from_pretrained, load
from edgetam_jax.errors import CheckpointError, ConfigError, EdgeTAMError
from edgetam_jax.model import Model

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
MODEL_HELP = f"""\
networks:
  {EMBEDDED:12} comes with the package: small, a demonstration
  FILE         a checkpoint of any kind: .safetensors, .pt, a folder; see edgetam-jax convert
  OWNER/NAME   from the Hugging Face hub, such as yonigozlan/EdgeTAM-hf

The first run compiles the network, which takes a while. What is compiled is kept in {{cache}}
and used again; set {CACHE_VARIABLE} to keep it elsewhere."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def make_parser(command: str, description: str, examples: str, network: bool = True) -> argparse.ArgumentParser:
    """A parser with examples below its options, and with the options of the network."""
    notes = f"examples:\n{examples}" + (f"\n\n{MODEL_HELP.format(cache=cache_folder())}" if network else "")
    parser = argparse.ArgumentParser(
        prog=f"edgetam-jax {command}",
        description=description,
        epilog=notes.replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if network:
        add_network_options(parser)
    return parser


def add_network_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network")
    group.add_argument("--model", default=EMBEDDED, help=f"which network, see below ({EMBEDDED})")
    group.add_argument("--size", type=int, help="side of its input in pixels, such as 512, 768 or 1024 (its own)")
    group.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of its numbers (float32)")
    group.add_argument("--device", choices=("cpu", "gpu", "tpu"), help="where it computes (the fastest that jax sees)")


def add_force_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace what is there under the same name")


def run(action: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> int:
    """Exit codes: 0, or 2 and one sentence where something that the user gave cannot be used."""
    try:
        action(arguments)
    except EdgeTAMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except OSError as error:
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}.", file=sys.stderr)
        return 2
    return 0


def open_model(arguments: argparse.Namespace) -> Model:
    """The network that the options name, on its device. Nothing may have been computed before."""
    choose_device(arguments.device)
    keep_compiled()
    return _load(arguments.model, arguments.size).astype(arguments.dtype)


def _load(name: str, size: int | None) -> Model:
    path = Path(name)
    if name != EMBEDDED and _HUB_ID.fullmatch(name) and not path.exists() and not path.parent.exists():
        return from_pretrained(name, image_size=size)
    find(name)
    return load(name, image_size=size)


def find(name: str) -> Path:
    """The file of a network that is here."""
    if name != EMBEDDED:
        return Path(name)
    if not checkpoint.EMBEDDED_PATH.exists():
        raise CheckpointError(
            f"the network {EMBEDDED} is missing from this installation ({checkpoint.EMBEDDED_PATH}); "
            "install edgetam-jax again, or name another with --model."
        )
    return checkpoint.EMBEDDED_PATH


def choose_device(name: str | None) -> None:
    if name is None:
        return
    # Of the others, jax takes by itself what is there.
    jax.config.update("jax_platforms", "cpu" if name == "cpu" else "")
    found = jax.default_backend()
    if found != name:
        raise ConfigError(
            f"--device is {name}, but jax finds only {found} here. Install jax for that device "
            "(docs.jax.dev/en/latest/installation.html), or leave the option out."
        )


def keep_compiled() -> str | None:
    """Compiled programs go to a folder of the user's, and serve the next run. The folder, unless none can be written.

    Where jax was told of another folder, that one is used.
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


def check_outputs(outs: Sequence[Path], suffixes: dict[str, str]) -> None:
    """Each once, and of a kind that can be written: `suffixes` says what each kind holds."""
    for out in outs:
        if out.suffix.lower() not in suffixes:
            known = ", ".join(suffix or "no suffix" for suffix in suffixes)
            raise ConfigError(f"{out} cannot be written: {out.suffix or 'no suffix'} is not known; use {known}.")
    if len({os.path.abspath(out) for out in outs}) < len(outs):
        raise ConfigError("the same output is named twice; give each another name.")
