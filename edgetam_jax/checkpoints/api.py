"""Checkpoints: `load` anything that holds an EdgeTAM, `save` a model, fetch one from the Hugging Face hub."""

import functools
import logging
import pathlib
from typing import Literal, NamedTuple

import jax

from edgetam_jax.checkpoints.mapping import Layout, flat, from_layout, is_image_only
from edgetam_jax.checkpoints.readers import read_source
from edgetam_jax.checkpoints.writers import write_orbax, write_safetensors
from edgetam_jax.errors import CheckpointError
from edgetam_jax.model import Model, is_statistic

Format = Literal["safetensors", "orbax"]
PathLike = str | pathlib.Path

EMBEDDED = "nano"
EMBEDDED_PATH = pathlib.Path(__file__).parents[1] / "assets" / "nano.safetensors"
NOTE = (
    "the embedded NANO network is a demonstration: small, and trained on synthetic clips only, on which its J&F is "
    "about 0.7. It is not meant for real video: load the released checkpoint (from_pretrained, or edgetam-jax convert)."
)


class Loaded(NamedTuple):
    """A model, and what was found on the way."""

    model: Model
    kind: str
    layout: Layout
    tensors: int
    parameters: int  # numbers that training moves, used or not
    statistics: int  # numbers that it does not: BatchNorm's, and the Gaussian of the position encoding
    dtypes: tuple[str, ...]
    dropped: dict[str, tuple[str, ...]]  # why, and which tensors
    image_only: bool


def load(path: PathLike, *, image_size: int | None = None) -> Model:
    """A model from a checkpoint of any kind.

    Takes what `save` wrote (safetensors or Orbax), a Hugging Face folder or its model.safetensors, and the original's
    `.pt` file, the only one that needs torch. Half-precision files keep their values: parameters are float32, which
    holds them exactly. `image_size` replaces the size that the checkpoint names; the same weights serve every size.
    A file for still images gives a model without the parts that tracking needs. "nano" is the small network that comes
    with the package.
    """
    if path == EMBEDDED:
        _say_once()
        path = EMBEDDED_PATH
    return read(path, image_size=image_size).model


@functools.cache
def _say_once() -> None:
    logging.getLogger("edgetam_jax").warning(NOTE)


@functools.cache
def embedded() -> Model:
    """The small network that comes with the package."""
    with jax.ensure_compile_time_eval():  # also where `track` is being traced
        return load(EMBEDDED)


def read(path: PathLike, *, image_size: int | None = None) -> Loaded:
    """`load`, with a report."""
    source = read_source(path, image_size)
    params, dropped = from_layout(source.tensors, source.layout, source.config, str(path))
    sizes = {name: leaf.size for name, leaf in flat(params).items()}
    statistics = sum(size for name, size in sizes.items() if is_statistic(tuple(name.split("/"))))
    unused = sum(source.tensors[name].size for names in dropped.values() for name in names if source.tensors[name].ndim)
    return Loaded(
        model=Model(params=jax.tree.map(jax.numpy.asarray, params), config=source.config),
        kind=source.kind,
        layout=source.layout,
        tensors=len(source.tensors),
        parameters=sum(sizes.values()) - statistics + unused,
        statistics=statistics,
        dtypes=tuple(sorted({str(value.dtype) for value in source.tensors.values()})),
        dropped=dropped,
        image_only=is_image_only(source.tensors, source.layout, source.config),
    )


def save(model: Model, path: PathLike, format: Format = "safetensors", *, force: bool = False) -> None:
    """Writes a model for `load`: one safetensors file (a folder unless `path` ends in .safetensors), or Orbax's folder.

    An existing output is refused without `force`. It is replaced in one step, and stays as it was if writing fails.
    """
    writers = {"safetensors": write_safetensors, "orbax": write_orbax}
    if format not in writers:
        raise CheckpointError(f"format is {format!r}; expected 'safetensors' or 'orbax'.")
    writers[format](model.params, model.config, pathlib.Path(path), force)


def from_pretrained(
    repo_id: str, *, revision: str | None = None, cache_dir: PathLike | None = None, image_size: int | None = None
) -> Model:
    """A model from the Hugging Face hub, or from its cache where it lies there already.

    `yonigozlan/EdgeTAM-hf` needs no torch, `facebook/EdgeTAM` does. The hub's environment variables hold: HF_HOME,
    HF_TOKEN, HF_HUB_OFFLINE=1 to use the cache alone.
    """
    try:
        import huggingface_hub as hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise CheckpointError("from_pretrained needs huggingface_hub: pip install 'edgetam-jax[hub]'.") from error
    try:
        folder = hub.snapshot_download(
            repo_id,
            revision=revision,
            cache_dir=cache_dir,
            allow_patterns=["config.json", "model*.safetensors", "*.pt"],
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{repo_id} could not be fetched from the Hugging Face hub: {str(error).strip().splitlines()[0]} "
            "Check the name and the network; offline (HF_HUB_OFFLINE=1) it must be in the cache. "
            "A checkpoint on disk is read with load(path)."
        ) from error
    return load(_checkpoint_in(pathlib.Path(folder), repo_id), image_size=image_size)


def _checkpoint_in(folder: pathlib.Path, repo_id: str) -> pathlib.Path:
    if any(folder.glob("model*.safetensors")):
        return folder
    files = sorted(folder.glob("*.pt"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise CheckpointError(
            f"{repo_id} holds no model.safetensors, and not one .pt file but: {found}. "
            "Try yonigozlan/EdgeTAM-hf or facebook/EdgeTAM, or download a file and load(path) it."
        )
    return files[0]
