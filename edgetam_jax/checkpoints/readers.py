"""Reading: a checkpoint of any supported format as named NumPy arrays. torch is imported for `.pt` files only."""

import json
import pathlib
import struct
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from edgetam_jax.checkpoints.hf_config import read_hf_config
from edgetam_jax.checkpoints.infer_config import best_config
from edgetam_jax.checkpoints.key_table import Layout
from edgetam_jax.checkpoints.mapping import Tensors, detect_layout, flatten_params, format_problems
from edgetam_jax.config import Config
from edgetam_jax.errors import CheckpointError, ConfigError

# Under this key the configuration is stored as JSON: in the metadata of safetensors files, and beside "model" in .pt.
METADATA_KEY = "edgetam_jax"
ORBAX_CONFIG = "edgetam_jax.json"
ORBAX_PARAMS = "params"


class RawCheckpoint(NamedTuple):
    """The tensors of a checkpoint as they are stored. `mapping.from_layout` checks them."""

    tensors: Tensors
    layout: Layout
    config: Config
    kind: str  # the file format, for messages


class _FileContent(NamedTuple):
    tensors: Tensors
    config_values: dict[str, Any] | None  # what is stored of the configuration besides the shapes
    kind: str


def read_raw(path: str | pathlib.Path, image_size: int | None = None) -> RawCheckpoint:
    """Reads a file or folder of any supported format, and infers its layout and configuration."""
    path = pathlib.Path(path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist. Give a checkpoint file, or a folder that holds one.")
    try:
        tensors, config_values, kind = _read_folder(path) if path.is_dir() else _read_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {error.strerror or error}.") from error
    layout = detect_layout(tensors)
    if layout is None:
        examples = ", ".join(sorted(tensors)[:3]) or "nothing"
        raise CheckpointError(
            f"{path} is no EdgeTAM checkpoint: of its {len(tensors)} tensors none has a name that the network uses "
            f"(it holds {examples}, ...). The released file is edgetam.pt; Hugging Face's is yonigozlan/EdgeTAM-hf."
        )
    shapes = {name: value.shape for name, value in tensors.items()}
    return RawCheckpoint(tensors, layout, best_config(shapes, layout, config_values, image_size), kind)


def _read_file(path: pathlib.Path) -> _FileContent:
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise CheckpointError(f"{path} is empty. Download or export it again.")
    # torch writes zip archives, and formerly wrote bare pickles (protocols 2 to 5).
    if head.startswith(b"PK") or head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return _read_torch(path)
    if len(head) > 8 and head[8:9] == b"{":
        return _read_safetensors([path])
    raise CheckpointError(
        f"{path} is neither a safetensors file nor a PyTorch checkpoint (it begins with {head!r}). "
        "It may be the error page of a failed download, or a Git LFS pointer: open the file to see."
    )


def _read_folder(folder: pathlib.Path) -> _FileContent:
    if (folder / ORBAX_CONFIG).exists():
        return _read_orbax(folder)
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise CheckpointError(
            f"{folder} holds neither model.safetensors nor an Orbax checkpoint of edgetam_jax, but "
            f"{', '.join(sorted(entry.name for entry in folder.iterdir())[:8]) or 'nothing'}. "
            "Give the folder that holds one of them, or a checkpoint file such as edgetam.pt itself."
        )
    content = _read_safetensors(files)
    if content.config_values is not None:
        return content
    config = folder / "config.json"
    if not config.exists():
        raise CheckpointError(
            f"{folder} has no config.json beside its weights. Add it, or give the weights file itself."
        )
    return content._replace(config_values=read_hf_config(_parse_json(config.read_bytes(), config), str(config)))


def _read_safetensors(files: Iterable[pathlib.Path]) -> _FileContent:
    """The content of one or more files. Only this project's files contain the configuration."""
    from safetensors import SafetensorError, safe_open

    tensors: Tensors = {}
    duplicates: list[str] = []
    config_values: dict[str, Any] | None = None
    for path in files:
        duplicates += _duplicate_names(path)
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
            config_values = _parse_config(metadata[METADATA_KEY], path)
    if duplicates:
        raise CheckpointError(format_problems({"duplicate": sorted(set(duplicates))}, ", ".join(map(str, files))))
    kind = "safetensors" if config_values is None else "edgetam_jax safetensors"
    return _FileContent(tensors, config_values, kind)


def _duplicate_names(path: pathlib.Path) -> list[str]:
    """Names that occur more than once in a safetensors header, of which the library would silently keep the last."""
    duplicates: list[str] = []

    def to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        duplicates.extend(name for name in set(names) if names.count(name) > 1)
        return dict(pairs)

    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if length > path.stat().st_size:
            return []  # the library raises a clear error for damaged headers
        try:
            json.loads(file.read(length), object_pairs_hook=to_dict)
        except ValueError:
            return []
    return duplicates


def _read_torch(path: pathlib.Path) -> _FileContent:
    import pickle

    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            f"{path} is a PyTorch file, and torch is not installed: pip install 'edgetam-jax[convert]'. "
            "Or use the safetensors file of yonigozlan/EdgeTAM-hf, which needs no torch."
        ) from error
    try:
        # weights_only: the file can hold tensors and plain containers, but no code to run.
        with warnings.catch_warnings(action="ignore"):  # torch also warns about what it refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} was refused and nothing in it was run: it asks for more than tensors, or its data is broken "
            f"({_first_line(error)}). Use a file from a source that you trust, holding a plain state dict."
        ) from error
    except Exception as error:  # torch's reader raises errors of many types
        raise CheckpointError(
            f"{path} is not a readable PyTorch checkpoint, or is truncated ({_first_line(error)}). "
            "Download or export it again."
        ) from error
    config_values = None
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        if isinstance(content.get(METADATA_KEY), str):
            config_values = _parse_config(content[METADATA_KEY], path)
        content = content["model"]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected {{'model': state dict}}.")
    if others := sorted(str(name) for name, value in content.items() if not _is_dense_tensor(value)):
        raise CheckpointError(format_problems({"not a dense tensor": others}, str(path)))
    return _FileContent({str(name): _to_numpy(value) for name, value in content.items()}, config_values, "PyTorch")


def _is_dense_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_quantized


def _to_numpy(tensor: Any) -> np.ndarray:
    import ml_dtypes
    import torch

    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _read_orbax(folder: pathlib.Path) -> _FileContent:
    try:
        import jax
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise CheckpointError(f"{folder} needs Orbax: pip install 'edgetam-jax[orbax]'.") from error
    config_values = _parse_config((folder / ORBAX_CONFIG).read_bytes(), folder / ORBAX_CONFIG)
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            params = (folder / ORBAX_PARAMS).absolute()
            metadata = checkpointer.metadata(params).item_metadata
            to_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata.tree)
            tree = checkpointer.restore(params, restore_args=to_numpy)
    except Exception as error:  # Orbax's storage raises errors of many types
        raise CheckpointError(
            f"{folder} is a damaged or incomplete Orbax checkpoint ({_first_line(error)}). Export it again."
        ) from error
    return _FileContent(flatten_params(tree), config_values, "edgetam_jax Orbax")


def _parse_config(text: str | bytes, path: pathlib.Path) -> dict[str, Any]:
    try:
        return Config.from_dict(_parse_json(text, path)).to_dict()
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _parse_json(text: str | bytes, path: pathlib.Path) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: the configuration is not JSON ({error}).") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: the configuration is {type(values).__name__}, expected a mapping.")
    return values


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
