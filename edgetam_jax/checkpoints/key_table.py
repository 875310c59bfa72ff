"""One table that says what every tensor is called, and how it is laid out, in each of the three worlds.

PyTorch's original is the pivot. Flax paths follow from its keys: a component that is a number joins the name before it
(`layers.0.norm1` is `layers_0/norm1`). Hugging Face's keys stand beside the original's in `TABLE`. The table is read in
both directions, and always driven by the tree of a configuration, so that layers are never counted here.
"""

import enum
import functools
import re
from typing import NamedTuple

import numpy as np

Axes = tuple[int, ...]


class Layout(enum.Enum):
    """Whose names the tensors of a file bear."""

    ORIGINAL = "the PyTorch original"
    HUGGING_FACE = "Hugging Face"
    FLAX = "edgetam_jax"


class Kind(NamedTuple):
    """A sort of module: its leaves in torch, each with its name in Flax and the order of torch's axes there."""

    leaves: dict[str, tuple[str, Axes]]


# () keeps an array as it is. Torch's kernels are OIHW (IOHW when transposed), Flax's HWIO.
BIAS = {"bias": ("bias", ())}
CONV = Kind({"weight": ("kernel", (2, 3, 1, 0)), **BIAS})
UPCONV = Kind({"weight": ("kernel", (2, 3, 0, 1)), **BIAS})
LINEAR = Kind({"weight": ("kernel", (1, 0)), **BIAS})
NORM = Kind({"weight": ("scale", ()), **BIAS})
BATCH_NORM = Kind({"weight": ("scale", ()), **BIAS, "running_mean": ("mean", ()), "running_var": ("var", ())})
EMBEDDING = Kind({"weight": ("", ())})
TENSOR = Kind({"": ("", ())})


class Spread(enum.Enum):
    """How one tensor of the original is spread over Hugging Face's."""

    SAME = "one for one, or the same tensor under several names"
    HALVES = "the halves of its first axis, one under each name"
    ROW = "row {i} of one tensor"


class Row(NamedTuple):
    original: str
    hugging_face: tuple[str, ...]
    kind: Kind
    spread: Spread = Spread.SAME


class Drop(NamedTuple):
    """A tensor that no network needs. Ignored when read; written as zeros, so that strict loaders are content."""

    names: dict[Layout, str]  # last component of its key
    beside: dict[Layout, str]  # last component of the key of the tensor that it stands beside
    shape: tuple[int | None, ...]  # None: as long as the last axis of its neighbour
    dtype: type
    reason: str


DROPPED = (
    Drop(
        {Layout.ORIGINAL: "num_batches_tracked", Layout.HUGGING_FACE: "num_batches_tracked"},
        {Layout.ORIGINAL: "running_var", Layout.HUGGING_FACE: "running_var"},
        (),
        np.int64,
        "it counts training batches; the stored statistics do not depend on it",
    ),
    Drop(
        {Layout.ORIGINAL: "no_mem_pos_enc", Layout.HUGGING_FACE: "no_memory_positional_encoding"},
        {Layout.ORIGINAL: "no_obj_ptr", Layout.HUGGING_FACE: "no_object_pointer"},
        (1, 1, None),
        np.float32,
        "the network never reads it",
    ),
)


def _mlp3(original: str, hugging_face: str) -> tuple[Row, ...]:
    names = ("proj_in", "layers.0", "proj_out")
    return tuple(Row(f"{original}.layers.{i}", (f"{hugging_face}.{name}",), LINEAR) for i, name in enumerate(names))


def _perceiver_attention(original: str, hugging_face: str) -> tuple[Row, ...]:
    return (
        Row(f"{original}.to_q", (f"{hugging_face}.q_proj",), LINEAR),
        Row(f"{original}.to_kv", (f"{hugging_face}.k_proj", f"{hugging_face}.v_proj"), LINEAR, Spread.HALVES),
        Row(f"{original}.to_out", (f"{hugging_face}.o_proj",), LINEAR),
    )


def _perceiver_mlp(original: str, hugging_face: str) -> tuple[Row, ...]:
    return (
        Row(f"{original}.0", (f"{hugging_face}.layer_norm",), NORM),
        Row(f"{original}.1", (f"{hugging_face}.up_proj",), LINEAR),
        Row(f"{original}.3", (f"{hugging_face}.down_proj",), LINEAR),
    )


# Modules; the first that fits counts. {i}, {j}: a number; {qkv}: a letter; {word}: one component; {path}: one or more.
_TRUNK, _HF_TRUNK = "image_encoder.trunk.body.{path}", "vision_encoder.backbone.timm_model.{path}"
_TWO_WAY, _HF_TWO_WAY = "sam_mask_decoder.transformer", "mask_decoder.transformer"
_HEADS, _HF_HEADS = "sam_mask_decoder", "mask_decoder"
_ATTENTION = "memory_attention.layers.{i}"
_DOWN, _HF_DOWN = "memory_encoder.mask_downsampler.encoder", "memory_encoder.mask_downsampler"
_FUSER, _HF_FUSER = "memory_encoder.fuser.layers.{i}", "memory_encoder.memory_fuser.layers.{i}"
_POINTS, _HF_POINTS = "sam_prompt_encoder", "prompt_encoder"
_PERCEIVER = "spatial_perceiver.layers.{i}"

TABLE: tuple[Row, ...] = (
    Row(f"{_TRUNK}.bn", (f"{_HF_TRUNK}.bn",), BATCH_NORM),
    Row(f"{_TRUNK}.c", (f"{_HF_TRUNK}.c",), CONV),
    Row(f"{_TRUNK}.fc{{i}}", (f"{_HF_TRUNK}.fc{{i}}",), CONV),
    Row("image_encoder.neck.convs.{i}.conv", ("vision_encoder.neck.convs.{i}",), CONV),
    Row(
        f"{_POINTS}.pe_layer.positional_encoding_gaussian_matrix",
        (f"{_HF_POINTS}.shared_embedding.positional_embedding", "shared_image_embedding.positional_embedding"),
        TENSOR,
    ),
    Row(f"{_POINTS}.point_embeddings.{{i}}", (f"{_HF_POINTS}.point_embed",), EMBEDDING, Spread.ROW),
    Row(f"{_POINTS}.not_a_point_embed", (f"{_HF_POINTS}.not_a_point_embed",), EMBEDDING),
    Row(f"{_POINTS}.no_mask_embed", (f"{_HF_POINTS}.no_mask_embed",), EMBEDDING),
    Row(f"{_POINTS}.mask_downscaling.0", (f"{_HF_POINTS}.mask_embed.conv1",), CONV),
    Row(f"{_POINTS}.mask_downscaling.1", (f"{_HF_POINTS}.mask_embed.layer_norm1",), NORM),
    Row(f"{_POINTS}.mask_downscaling.3", (f"{_HF_POINTS}.mask_embed.conv2",), CONV),
    Row(f"{_POINTS}.mask_downscaling.4", (f"{_HF_POINTS}.mask_embed.layer_norm2",), NORM),
    Row(f"{_POINTS}.mask_downscaling.6", (f"{_HF_POINTS}.mask_embed.conv3",), CONV),
    Row(f"{_TWO_WAY}.{{path}}.mlp.layers.0", (f"{_HF_TWO_WAY}.{{path}}.mlp.proj_in",), LINEAR),
    Row(f"{_TWO_WAY}.{{path}}.mlp.layers.1", (f"{_HF_TWO_WAY}.{{path}}.mlp.proj_out",), LINEAR),
    Row(f"{_TWO_WAY}.{{path}}.{{qkv}}_proj", (f"{_HF_TWO_WAY}.{{path}}.{{qkv}}_proj",), LINEAR),
    Row(f"{_TWO_WAY}.{{path}}.out_proj", (f"{_HF_TWO_WAY}.{{path}}.o_proj",), LINEAR),
    Row(f"{_TWO_WAY}.{{path}}.norm{{j}}", (f"{_HF_TWO_WAY}.{{path}}.layer_norm{{j}}",), NORM),
    Row(f"{_TWO_WAY}.norm_final_attn", (f"{_HF_TWO_WAY}.layer_norm_final_attn",), NORM),
    Row(f"{_HEADS}.output_upscaling.0", (f"{_HF_HEADS}.upscale_conv1",), UPCONV),
    Row(f"{_HEADS}.output_upscaling.1", (f"{_HF_HEADS}.upscale_layer_norm",), NORM),
    Row(f"{_HEADS}.output_upscaling.3", (f"{_HF_HEADS}.upscale_conv2",), UPCONV),
    Row(f"{_HEADS}.conv_s{{i}}", (f"{_HF_HEADS}.conv_s{{i}}",), CONV),
    *_mlp3(f"{_HEADS}.output_hypernetworks_mlps.{{i}}", f"{_HF_HEADS}.output_hypernetworks_mlps.{{i}}"),
    *_mlp3(f"{_HEADS}.iou_prediction_head", f"{_HF_HEADS}.iou_prediction_head"),
    *_mlp3(f"{_HEADS}.pred_obj_score_head", f"{_HF_HEADS}.pred_obj_score_head"),
    Row(f"{_HEADS}.{{word}}", (f"{_HF_HEADS}.{{word}}",), EMBEDDING),  # iou_token, mask_tokens, obj_score_token
    Row(f"{_ATTENTION}.{{word}}.{{qkv}}_proj", (f"{_ATTENTION}.{{word}}.{{qkv}}_proj",), LINEAR),
    Row(f"{_ATTENTION}.{{word}}.out_proj", (f"{_ATTENTION}.{{word}}.o_proj",), LINEAR),
    Row(f"{_ATTENTION}.linear1", (f"{_ATTENTION}.mlp.up_proj",), LINEAR),
    Row(f"{_ATTENTION}.linear2", (f"{_ATTENTION}.mlp.down_proj",), LINEAR),
    Row(f"{_ATTENTION}.norm{{j}}", (f"{_ATTENTION}.layer_norm{{j}}",), NORM),
    Row("memory_attention.norm", ("memory_attention.layer_norm",), NORM),
    *(Row(f"{_DOWN}.{3 * k}", (f"{_HF_DOWN}.layers.{k}.conv",), CONV) for k in range(4)),
    *(Row(f"{_DOWN}.{3 * k + 1}", (f"{_HF_DOWN}.layers.{k}.layer_norm",), NORM) for k in range(4)),
    Row(f"{_DOWN}.12", (f"{_HF_DOWN}.final_conv",), CONV),
    Row("memory_encoder.pix_feat_proj", ("memory_encoder.feature_projection",), CONV),
    Row(f"{_FUSER}.gamma", (f"{_HF_FUSER}.scale",), TENSOR),
    Row(f"{_FUSER}.dwconv", (f"{_HF_FUSER}.depthwise_conv",), CONV),
    Row(f"{_FUSER}.norm", (f"{_HF_FUSER}.layer_norm",), NORM),
    Row(f"{_FUSER}.pwconv{{j}}", (f"{_HF_FUSER}.pointwise_conv{{j}}",), LINEAR),
    Row("memory_encoder.out_proj", ("memory_encoder.projection",), CONV),
    Row("spatial_perceiver.latents", ("spatial_perceiver.latents_1d",), TENSOR),
    Row("spatial_perceiver.latents_2d", ("spatial_perceiver.latents_2d",), TENSOR),
    Row("spatial_perceiver.norm", ("spatial_perceiver.layer_norm",), NORM),
    Row(f"{_PERCEIVER}.attn.norm_x", (f"{_PERCEIVER}.layer_norm_input",), NORM),
    Row(f"{_PERCEIVER}.attn.norm_latents", (f"{_PERCEIVER}.layer_norm_latents",), NORM),
    Row(f"{_PERCEIVER}.self_attn.norm", (f"{_PERCEIVER}.layer_norm_self",), NORM),
    *_perceiver_attention(f"{_PERCEIVER}.attn", f"{_PERCEIVER}.cross_attention"),
    *_perceiver_attention(f"{_PERCEIVER}.self_attn", f"{_PERCEIVER}.self_attention"),
    *_perceiver_mlp(f"{_PERCEIVER}.ff", f"{_PERCEIVER}.mlp"),
    *_perceiver_mlp(f"{_PERCEIVER}.self_ff", f"{_PERCEIVER}.self_mlp"),
    *_mlp3("obj_ptr_proj", "object_pointer_proj"),
    Row("mask_downsample", ("mask_downsample",), CONV),
    Row("maskmem_tpos_enc", ("memory_temporal_positional_encoding",), TENSOR),
    Row("no_mem_embed", ("no_memory_embedding",), TENSOR),
    Row("no_obj_ptr", ("no_object_pointer",), TENSOR),
)

_FIELDS = {"i": r"\d+", "j": r"\d+", "qkv": "[qkv]", "word": r"\w+", "path": r"[\w.]+"}


@functools.cache
def _regex(pattern: str) -> re.Pattern[str]:
    groups = {name: f"(?P<{name}>{expression})" for name, expression in _FIELDS.items()}
    return re.compile(pattern.replace(".", r"\.").format(**groups))


class Entry(NamedTuple):
    """One tensor of the original: its other names, and the axes that make it Flax's."""

    original: str
    hugging_face: tuple[str, ...]
    spread: Spread
    row: int  # the row, for Spread.ROW
    flax: str  # a path with slashes
    axes: Axes

    def names(self, layout: Layout) -> tuple[str, ...]:
        """Where a file of this layout keeps it."""
        if layout is Layout.HUGGING_FACE:
            return self.hugging_face
        return (self.original if layout is Layout.ORIGINAL else self.flax,)


@functools.cache
def entry(key: str) -> Entry | None:
    """What the table says of a key of the original; None if it says nothing."""
    for row in TABLE:
        for leaf, (flax_leaf, axes) in row.kind.leaves.items():
            suffix = f".{leaf}" if leaf else ""
            if not key.endswith(suffix):
                continue
            module = key.removesuffix(suffix)
            if match := _regex(row.original).fullmatch(module):
                fields = match.groupdict()
                names = tuple(name.format(**fields) + suffix for name in row.hugging_face)
                path = [*_merge(module), flax_leaf] if flax_leaf else _merge(module)
                return Entry(key, names, row.spread, int(fields.get("i") or 0), "/".join(path), axes)
    return None


def _merge(module: str) -> list[str]:
    return re.sub(r"\.(\d+)(?=\.|$)", r"_\1", module).split(".")


def original_key(flax_path: str) -> str:
    """The original's key of a Flax path: the inverse of `entry(key).flax`."""
    # "stages_0" bears its number in the original too.
    path = re.sub(r"(?<!stages)_(\d+)(?=/|$)", r".\1", flax_path).replace("/", ".")
    module = path.rpartition(".")[0]
    leaves = [f"{module}.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")]
    for key in (path, f"{path}.weight", *leaves):
        if (found := entry(key)) and found.flax == flax_path:
            return key
    raise KeyError(f"no row of the table fits the parameter {flax_path!r}")
