"""A bank of textures: photographs, frames of moving clips and things cut out of their background, in one file.

    bank = read_bank("bank.safetensors")
    clip = make_clip(jax.random.key(0), ClipConfig(real=0.7), bank.textures)

`edgetam-jax bank` makes the file from folders, see `packing`. It is memory-mapped, checked, and copied to the device
once; `synthetic.layers` composes clips from it there.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from edgetam_jax.errors import FrameError

FORMAT = "edgetam-jax bank 1"
BACKGROUND_SIDE, THING_SIDE = 256, 128  # texels; powers of two, as `rendering.sample_colors` needs
BYTES_OF_A_CHUNK = 1 << 24


class TextureBank(NamedTuple):
    """The arrays of a bank. Textures are squeezed to squares; aspects are width / height of what they show."""

    photographs: UInt8[Array, "p s s 3"]
    photograph_aspects: Float[Array, "p"]
    frames: UInt8[Array, "f s s 3"]  # of all clips
    clips: Int[Array, "c 2"]  # each clip's first frame, and how many it has
    clip_aspects: Float[Array, "c"]
    things: UInt8[Array, "n k k 4"]  # with alpha
    thing_sizes: Float[Array, "n 2"]  # half its width and height, where a disk of the thing's area has radius 1
    thing_shares: Float[Array, "n"]  # the sum of the shares up to each thing, 1 for the last


class Bank(NamedTuple):
    textures: TextureBank
    fingerprint: str  # of the content


def bank_fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    """A hash of names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, BYTES_OF_A_CHUNK):
            digest.update(flat[start : start + BYTES_OF_A_CHUNK].data)
    return digest.hexdigest()[:16]


def read_bank(path: str | Path) -> Bank:
    """Reads a bank and copies it to the device.

    Raises:
        FrameError: if the file is not a bank, is broken, or is larger than the memory.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FrameError(f"{path}: there is no such file; expected a bank of textures, which `edgetam-jax bank` makes.")
    size, limit = Path(path).stat().st_size, memory_limit()
    if size > limit:
        raise FrameError(
            f"{path} has {size / 1e9:.1f} GB, and there are {limit / 1e9:.1f} GB of memory; a bank is kept in memory. "
            "Make one from fewer pictures."
        )
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, OSError, ValueError) as error:
        raise FrameError(f"{path} is not a bank that can be read ({error}); make it again.") from error
    if metadata.get("format") != FORMAT or set(arrays) != set(TextureBank._fields):
        raise FrameError(f"{path} is not a bank of textures of this version; make it with `edgetam-jax bank`.")
    fingerprint = bank_fingerprint(arrays)
    if fingerprint != metadata.get("fingerprint"):
        raise FrameError(f"{path} is broken: its content does not have the fingerprint that it states. Make it again.")
    return Bank(TextureBank(**{name: jnp.asarray(array) for name, array in arrays.items()}), fingerprint)


def memory_limit() -> int:
    """Bytes of memory: the device's where it tells, otherwise those of this machine."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
