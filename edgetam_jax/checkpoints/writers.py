"""Writing: a model as safetensors or Orbax of this project, as a `.pt` file of the original, or for Hugging Face."""

import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgetam_jax.checkpoints.hf_config import write_hf_config
from edgetam_jax.checkpoints.infer_config import infer_config
from edgetam_jax.checkpoints.key_table import Layout
from edgetam_jax.checkpoints.mapping import Tensors, to_layout
from edgetam_jax.checkpoints.readers import METADATA_KEY, ORBAX_CONFIG, ORBAX_PARAMS
from edgetam_jax.config import Config
from edgetam_jax.errors import CheckpointError
from edgetam_jax.media.atomic import replacing

WEIGHTS = "model.safetensors"
HF_MEMORY_DIM = 64  # a constant in the library
# A folder that holds nothing but these files may be replaced.
_REPLACEABLE = frozenset({WEIGHTS, "config.json", ORBAX_CONFIG, ORBAX_PARAMS})

Params = Mapping[str, Any]


def write_safetensors(params: Params, config: Config, path: pathlib.Path, force: bool) -> None:
    """Writes a file if the name ends in .safetensors, else a folder that holds model.safetensors."""
    metadata = {METADATA_KEY: json.dumps(config.to_dict()), "format": "flax"}
    data = _safetensors(to_layout(params, Layout.FLAX), metadata)
    with replacing(path, force, _REPLACEABLE) as temporary:
        if path.suffix == ".safetensors":
            temporary.write_bytes(data)
        else:
            temporary.mkdir()
            (temporary / WEIGHTS).write_bytes(data)


def write_orbax(params: Params, config: Config, path: pathlib.Path, force: bool) -> None:
    """Writes a folder with the parameters in Orbax's format and the configuration as JSON."""
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise CheckpointError("format='orbax' needs Orbax: pip install 'edgetam-jax[orbax]'.") from error
    with replacing(path, force, _REPLACEABLE) as temporary:
        temporary.mkdir()
        (temporary / ORBAX_CONFIG).write_text(json.dumps(config.to_dict(), indent=1))
        try:
            with ocp.PyTreeCheckpointer() as checkpointer:
                checkpointer.save((temporary / ORBAX_PARAMS).absolute(), params)
        except Exception as error:  # Orbax's storage raises errors of many types
            raise OSError(str(error)) from error


def write_torch(params: Params, config: Config, path: pathlib.Path, force: bool) -> None:
    """Writes `{"model": state_dict}`, which the original loads with strict=True."""
    try:
        import torch
    except ImportError as error:
        raise CheckpointError("writing a PyTorch file needs torch: pip install 'edgetam-jax[convert]'.") from error
    tensors = _contiguous(to_layout(params, Layout.ORIGINAL))
    content: dict[str, Any] = {"model": {name: torch.from_numpy(value) for name, value in tensors.items()}}
    # Store the configuration if it cannot be inferred from the shapes. For the released network it can.
    if infer_config({name: value.shape for name, value in tensors.items()}, Layout.ORIGINAL) != config:
        content[METADATA_KEY] = json.dumps(config.to_dict())
    data = io.BytesIO()
    torch.save(content, data)
    with replacing(path, force) as temporary:
        temporary.write_bytes(data.getbuffer())


def write_hf(params: Params, config: Config, path: pathlib.Path, force: bool, image_only: bool) -> None:
    """Writes a folder for `EdgeTamVideoModel.from_pretrained`, or for `EdgeTamModel`'s if `image_only`."""
    if config.memory_dim != HF_MEMORY_DIM:
        raise CheckpointError(
            f"Hugging Face's library builds this network with a memory_dim of {HF_MEMORY_DIM} only; "
            f"this model has {config.memory_dim}. Write it as 'flax' or 'torch'."
        )
    data = _safetensors(to_layout(params, Layout.HUGGING_FACE), {"format": "pt"})
    with replacing(path, force, _REPLACEABLE) as temporary:
        temporary.mkdir()
        (temporary / "config.json").write_text(json.dumps(write_hf_config(config, image_only), indent=2) + "\n")
        (temporary / WEIGHTS).write_bytes(data)


def _safetensors(tensors: Tensors, metadata: dict[str, str]) -> bytes:
    from safetensors.numpy import save

    return save(_contiguous(tensors), metadata)


def _contiguous(tensors: Tensors) -> Tensors:
    """Copies in row-major order, as safetensors needs them, and writable, as torch needs them."""
    return {name: np.array(value, order="C") for name, value in tensors.items()}
