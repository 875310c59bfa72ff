"""Reading: whatever holds an EdgeTAM, as named NumPy arrays. Only a `.pt` file needs torch, imported when needed."""

import contextlib
import json
import pathlib
import struct
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from edgetam_jax.checkpoints.hf_config import infer_config, read_hf_config
from edgetam_jax.checkpoints.key_table import Layout
from edgetam_jax.checkpoints.mapping import Shapes, Tensors, describe, expected_shapes, flat, layout_of, tree_shapes
from edgetam_jax.config import Config
from edgetam_jax.errors import CheckpointError, ConfigError

METADATA_KEY = (
    "edgetam_jax"  # the configuration as JSON, in the metadata of safetensors files and beside weights in .pt
)
ORBAX_CONFIG = "edgetam_jax.json"
ORBAX_PARAMS = "params"


class Source(NamedTuple):
    tensors: Tensors
    layout: Layout
    config: Config
    kind: str  # for people


class _Read(NamedTuple):
    tensors: Tensors
    known: dict[str, Any]  # of the configuration
    kind: str
    own: bool = False  # written by this project


def read_source(path: str | pathlib.Path, image_size: int | None = None) -> Source:
    """Reads a file or folder of any known kind. The tensors are not checked yet: see `layouts.from_layout`."""
    path = pathlib.Path(path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist. Give a checkpoint file, or a folder that holds one.")
    try:
        read = _read_folder(path) if path.is_dir() else _read_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {error.strerror or error}.") from error
    layout = layout_of(read.tensors)
    if layout is None:
        shown = ", ".join(sorted(read.tensors)[:3]) or "nothing"
        raise CheckpointError(
            f"{path} is no EdgeTAM checkpoint: of its {len(read.tensors)} tensors none has a name of the network's "
            f"(it holds {shown}, ...). The released file is edgetam.pt; Hugging Face's is yonigozlan/EdgeTAM-hf."
        )
    shapes = {name: value.shape for name, value in read.tensors.items()}
    return Source(read.tensors, layout, _config(shapes, layout, read.known, image_size), read.kind)


def _config(shapes: Shapes, layout: Layout, known: dict[str, Any], image_size: int | None) -> Config:
    """The configuration that the tensors' shapes speak for; where some are damaged, the one that most of them fit."""

    def misfits(config: Config) -> int:
        return len(shapes.items() ^ expected_shapes(tree_shapes(config), layout).items())

    try:
        config = infer_config(shapes, layout, known, image_size)
    except ConfigError:
        return infer_config({}, layout, known, image_size)
    if misfits(config):
        with contextlib.suppress(ConfigError):
            return min(config, infer_config({}, layout, known, image_size), key=misfits)
    return config


def _read_file(path: pathlib.Path) -> _Read:
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise CheckpointError(f"{path} is empty. Download or export it again.")
    # A zip archive, or a bare pickle of the protocols 2 to 5: torch's formats, new and old.
    if head.startswith(b"PK") or head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return _read_torch(path)
    if len(head) > 8 and head[8:9] == b"{":
        return _read_safetensors([path])
    raise CheckpointError(
        f"{path} is neither a safetensors file nor a PyTorch checkpoint (it begins with {head!r}). "
        "A download that failed may have left an error page or a Git LFS pointer: look into the file."
    )


def _read_folder(folder: pathlib.Path) -> _Read:
    if (folder / ORBAX_CONFIG).exists():
        return _read_orbax(folder)
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise CheckpointError(
            f"{folder} holds neither model.safetensors nor an Orbax checkpoint of edgetam_jax, but "
            f"{', '.join(sorted(entry.name for entry in folder.iterdir())[:8]) or 'nothing'}. "
            "Give the folder that holds one of them, or a checkpoint file such as edgetam.pt itself."
        )
    read = _read_safetensors(files)
    if read.own:
        return read
    config = folder / "config.json"
    if not config.exists():
        raise CheckpointError(f"{folder} has no config.json beside its weights. Add it, or give the weights' file.")
    return read._replace(known=read_hf_config(_json(config.read_bytes(), config), str(config)))


def _read_safetensors(files: Iterable[pathlib.Path]) -> _Read:
    from safetensors import SafetensorError, safe_open

    tensors: Tensors = {}
    duplicates: list[str] = []
    known: dict[str, Any] | None = None
    for path in files:
        duplicates += _repeated_names(path)
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                names = list(file.keys())
                duplicates += [name for name in names if name in tensors]
                tensors |= {name: file.get_tensor(name) for name in names}
        except (SafetensorError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path} is a damaged or truncated safetensors file ({error}). Download or export it again."
            ) from error
        if METADATA_KEY in metadata:
            known = _own_config(metadata[METADATA_KEY], path)
    if duplicates:
        raise CheckpointError(describe({"duplicate": sorted(set(duplicates))}, ", ".join(map(str, files))))
    if known is not None:
        return _Read(tensors, known, "edgetam_jax safetensors", own=True)
    return _Read(tensors, {}, "safetensors")


def _repeated_names(path: pathlib.Path) -> list[str]:
    """Names that a safetensors header gives twice; the library would keep the last of them."""
    repeated: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        repeated.extend(name for name in set(names) if names.count(name) > 1)
        return dict(pairs)

    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if length > path.stat().st_size:
            return []  # the library says what is wrong
        try:
            json.loads(file.read(length), object_pairs_hook=note)
        except ValueError:
            return []
    return repeated


def _read_torch(path: pathlib.Path) -> _Read:
    import pickle

    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            f"{path} is a PyTorch file, and torch is not installed: pip install 'edgetam-jax[convert]'. "
            "Or use the safetensors file of yonigozlan/EdgeTAM-hf, which needs no torch."
        ) from error
    try:
        # Only tensors and plain containers: nothing that the file asks for is run.
        with warnings.catch_warnings(action="ignore"):  # of what it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} was refused and nothing in it was run: it asks for more than tensors, or its data is broken "
            f"({_first_line(error)}). Use a file from a source that you trust, holding a plain state dict."
        ) from error
    except Exception as error:  # torch raises what its reader happens to run into
        raise CheckpointError(
            f"{path} is not a readable PyTorch checkpoint, or is truncated ({_first_line(error)}). "
            "Download or export it again."
        ) from error
    known = {}
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        if isinstance(content.get(METADATA_KEY), str):
            known = _own_config(content[METADATA_KEY], path)
        content = content["model"]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected {{'model': state dict}}.")
    others = [str(name) for name, value in content.items() if not _is_plain(value)]
    if others:
        raise CheckpointError(describe({"not a dense tensor": sorted(others)}, str(path)))
    return _Read({str(name): _from_torch(value) for name, value in content.items()}, known, "PyTorch")


def _is_plain(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_quantized


def _from_torch(tensor: Any) -> np.ndarray:
    import ml_dtypes
    import torch

    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _read_orbax(folder: pathlib.Path) -> _Read:
    try:
        import jax
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise CheckpointError(f"{folder} needs Orbax: pip install 'edgetam-jax[orbax]'.") from error
    known = _own_config((folder / ORBAX_CONFIG).read_bytes(), folder / ORBAX_CONFIG)
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            place = (folder / ORBAX_PARAMS).absolute()
            metadata = checkpointer.metadata(place).item_metadata
            numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata.tree)
            tree = checkpointer.restore(place, restore_args=numpy)
    except Exception as error:  # Orbax raises what its storage happens to run into
        raise CheckpointError(
            f"{folder} is a damaged or incomplete Orbax checkpoint ({_first_line(error)}). Export it again."
        ) from error
    return _Read(flat(tree), known, "edgetam_jax Orbax")


def _own_config(text: str | bytes, path: pathlib.Path) -> dict[str, Any]:
    try:
        return Config.from_dict(_json(text, path)).to_dict()
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _json(text: str | bytes, path: pathlib.Path) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: the configuration is not JSON ({error}).") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: the configuration is {type(values).__name__}, expected a mapping.")
    return values


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
