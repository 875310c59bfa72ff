"""`load`, `save` and `from_pretrained`.

`load` runs top to bottom through the other modules of this package, each called once by `read`:

    readers.read_raw       a file or folder -> named NumPy arrays, their layout and configuration
    mapping.from_layout    the arrays       -> Flax parameters, after all checks
"""

import functools
import logging
import pathlib
from typing import Literal, NamedTuple

import jax

from edgetam_jax.checkpoints.key_table import Layout
from edgetam_jax.checkpoints.mapping import Converted, flatten_params, from_layout
from edgetam_jax.checkpoints.readers import RawCheckpoint, read_raw
from edgetam_jax.checkpoints.writers import write_orbax, write_safetensors
from edgetam_jax.errors import CheckpointError
from edgetam_jax.model import Model, is_statistic

Format = Literal["safetensors", "orbax"]
PathLike = str | pathlib.Path

EMBEDDED = "nano"
EMBEDDED_PATH = pathlib.Path(__file__).parents[1] / "assets" / "nano.safetensors"
NANO_NOTE = (
    "the embedded NANO network is a demonstration: small, and trained on synthetic clips only, on which its J&F is "
    "about 0.7. It is not meant for real video: load the released checkpoint (from_pretrained, or edgetam-jax convert)."
)


class LoadedCheckpoint(NamedTuple):
    """A model and facts about the checkpoint that it was read from."""

    model: Model
    kind: str  # the file format, for messages
    layout: Layout
    tensors: int  # number of tensors in the checkpoint
    parameters: int  # number of trainable scalars, including those of dropped tensors
    statistics: int  # number of scalars that are not trained, such as BatchNorm statistics
    dtypes: tuple[str, ...]
    dropped: dict[str, tuple[str, ...]]  # reason -> names of the tensors that were dropped for it
    image_only: bool  # the parts that only tracking needs are missing


def load(path: PathLike, *, image_size: int | None = None) -> Model:
    """Loads a model from a checkpoint of any supported format.

    Half-precision values are kept exactly: parameters are float32, which represents all of them.

    Args:
        path: A file or folder written by `save` (safetensors or Orbax), a Hugging Face folder or its
            `model.safetensors`, a `.pt` file of the PyTorch original (the only format that needs torch), or `"nano"`
            for the small demonstration network in the package.
        image_size: Height and width of the images that the model takes. Replaces the size stored in the checkpoint,
            since the same weights work at every size; a multiple of 256. Defaults to the stored size, or 1024 if the
            checkpoint stores none.

    Returns:
        The model. It lacks the parts that tracking needs if the checkpoint is for still images only.

    Raises:
        CheckpointError: The checkpoint does not exist, cannot be read, is incomplete, or belongs to another network.
            The message lists all problems.
        ConfigError: The configuration is not valid, for example because of `image_size`.
    """
    if path == EMBEDDED:
        _log_nano_note()
        path = EMBEDDED_PATH
    return read(path, image_size=image_size).model


@functools.cache
def _log_nano_note() -> None:
    """Warns once per process."""
    logging.getLogger("edgetam_jax").warning(NANO_NOTE)


@functools.cache
def load_embedded() -> Model:
    """The NANO model, loaded once per process; also works while a function is being traced."""
    with jax.ensure_compile_time_eval():
        return load(EMBEDDED)


def read(path: PathLike, *, image_size: int | None = None) -> LoadedCheckpoint:
    """Like `load`, and also returns facts about the checkpoint."""
    raw = read_raw(path, image_size)
    converted = from_layout(raw.tensors, raw.layout, raw.config, str(path))
    parameters, statistics = _count_scalars(raw, converted)
    return LoadedCheckpoint(
        model=Model(params=jax.tree.map(jax.numpy.asarray, converted.params), config=raw.config),
        kind=raw.kind,
        layout=raw.layout,
        tensors=len(raw.tensors),
        parameters=parameters,
        statistics=statistics,
        dtypes=tuple(sorted({str(value.dtype) for value in raw.tensors.values()})),
        dropped=converted.dropped,
        image_only=converted.image_only,
    )


def _count_scalars(raw: RawCheckpoint, converted: Converted) -> tuple[int, int]:
    """Numbers of trainable and of other scalars. Dropped tensors count as trainable, unless they are counters."""
    sizes = {path: leaf.size for path, leaf in flatten_params(converted.params).items()}
    statistics = sum(size for path, size in sizes.items() if is_statistic(tuple(path.split("/"))))
    dropped = [raw.tensors[name] for names in converted.dropped.values() for name in names]
    return sum(sizes.values()) - statistics + sum(value.size for value in dropped if value.ndim), statistics


def save(model: Model, path: PathLike, format: Format = "safetensors", *, force: bool = False) -> None:
    """Saves a model in a format that `load` reads.

    The output is replaced in one step: if writing fails, what was there before is unchanged.

    Args:
        model: The model to save.
        path: The file or folder to write. With `format="safetensors"` it is a file if the name ends in
            `.safetensors`, else a folder that holds `model.safetensors`; with `format="orbax"` it is a folder.
        format: `"safetensors"` (default) or `"orbax"`.
        force: Replace an existing output. A folder that holds anything but a checkpoint is never replaced.
            Defaults to False.

    Raises:
        CheckpointError: `format` is unknown, Orbax is not installed, or the model is folded.
        OutputError: The output exists and `force` is False, or it could not be written.
    """
    writers = {"safetensors": write_safetensors, "orbax": write_orbax}
    if format not in writers:
        raise CheckpointError(f"format is {format!r}; expected 'safetensors' or 'orbax'.")
    if model.weights is not None:
        raise CheckpointError(
            "the model is folded for inference and has lost some of its parameters; save the model on which folded() "
            "was called."
        )
    writers[format](model.params, model.config, pathlib.Path(path), force)


def from_pretrained(
    repo_id: str, *, revision: str | None = None, cache_dir: PathLike | None = None, image_size: int | None = None
) -> Model:
    """Loads a model from the Hugging Face hub, or from the local cache if it was downloaded before.

    The environment variables of `huggingface_hub` apply: HF_HOME, HF_TOKEN, and HF_HUB_OFFLINE=1 to use only the cache.

    Args:
        repo_id: The repository, such as `"yonigozlan/EdgeTAM-hf"`, which needs no torch, or `"facebook/EdgeTAM"`,
            which does.
        revision: A branch, tag or commit. Defaults to the main branch.
        cache_dir: The folder of the cache. Defaults to that of `huggingface_hub`.
        image_size: See `load`.

    Returns:
        The model.

    Raises:
        CheckpointError: `huggingface_hub` is not installed, the repository cannot be fetched, or it does not hold
            exactly one checkpoint of EdgeTAM.
        ConfigError: The configuration is not valid, for example because of `image_size`.
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
    return load(_find_checkpoint(pathlib.Path(folder), repo_id), image_size=image_size)


def _find_checkpoint(folder: pathlib.Path, repo_id: str) -> pathlib.Path:
    """The folder itself if it holds safetensors files, else its only `.pt` file."""
    if any(folder.glob("model*.safetensors")):
        return folder
    files = sorted(folder.glob("*.pt"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise CheckpointError(
            f"{repo_id} has no model.safetensors and not exactly one .pt file, but: {names}. "
            "Try yonigozlan/EdgeTAM-hf or facebook/EdgeTAM, or download a file and load(path) it."
        )
    return files[0]
