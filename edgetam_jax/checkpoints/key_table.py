"""The key and the axes of every tensor in each of the three layouts, as one ordered table that is read both ways.

The keys of the PyTorch original identify tensors. Flax paths follow from them: a component that is a number joins the
name before it (`layers.0.norm1` becomes `layers_0/norm1`). Hugging Face's keys are listed beside them in `KEY_TABLE`.
Callers start from the parameter tree of a configuration, so that the table does not need to know numbers of layers.
"""

import enum
import functools
import re
from typing import NamedTuple

import numpy as np

Axes = tuple[int, ...]


class Layout(enum.Enum):
    """The naming of a checkpoint's tensors. The values are used in messages."""

    ORIGINAL = "the PyTorch original"
    HUGGING_FACE = "Hugging Face"
    FLAX = "edgetam_jax"


class ModuleKind(NamedTuple):
    """A type of module: torch's name of each of its tensors -> the name and the transposition of axes in Flax."""

    leaves: dict[str, tuple[str, Axes]]


# () means no transposition. Kernels are OIHW in torch (IOHW in transposed convolutions) and HWIO in Flax.
BIAS = {"bias": ("bias", ())}
CONV = ModuleKind({"weight": ("kernel", (2, 3, 1, 0)), **BIAS})
UPCONV = ModuleKind({"weight": ("kernel", (2, 3, 0, 1)), **BIAS})
LINEAR = ModuleKind({"weight": ("kernel", (1, 0)), **BIAS})
NORM = ModuleKind({"weight": ("scale", ()), **BIAS})
BATCH_NORM = ModuleKind({"weight": ("scale", ()), **BIAS, "running_mean": ("mean", ()), "running_var": ("var", ())})
EMBEDDING = ModuleKind({"weight": ("", ())})
TENSOR = ModuleKind({"": ("", ())})


class HFSplit(enum.Enum):
    """How a tensor of the original corresponds to tensors of Hugging Face's."""

    SAME = "the same tensor, possibly stored under several keys"
    HALVES = "two tensors, the halves along the first axis"
    ROW = "row {i} of one tensor"


class ModuleRule(NamedTuple):
    """One row of the table: the keys of a module in the original and in Hugging Face's layout."""

    original: str
    hugging_face: tuple[str, ...]
    kind: ModuleKind
    split: HFSplit = HFSplit.SAME


class DroppedTensor(NamedTuple):
    """A tensor that the network does not use: ignored when read, and written as zeros, since strict loaders need it."""

    names: dict[Layout, str]  # last component of its key
    neighbors: dict[Layout, str]  # last component of the key of a tensor of the same module
    shape: tuple[int | None, ...]  # None: the length of the last axis of its neighbor
    dtype: type
    reason: str


DROPPED_TENSORS = (
    DroppedTensor(
        {Layout.ORIGINAL: "num_batches_tracked", Layout.HUGGING_FACE: "num_batches_tracked"},
        {Layout.ORIGINAL: "running_var", Layout.HUGGING_FACE: "running_var"},
        (),
        np.int64,
        "it counts training batches; the stored statistics do not depend on it",
    ),
    DroppedTensor(
        {Layout.ORIGINAL: "no_mem_pos_enc", Layout.HUGGING_FACE: "no_memory_positional_encoding"},
        {Layout.ORIGINAL: "no_obj_ptr", Layout.HUGGING_FACE: "no_object_pointer"},
        (1, 1, None),
        np.float32,
        "the network never reads it",
    ),
)


def _mlp3(original: str, hugging_face: str) -> tuple[ModuleRule, ...]:
    names = ("proj_in", "layers.0", "proj_out")
    return tuple(
        ModuleRule(f"{original}.layers.{i}", (f"{hugging_face}.{name}",), LINEAR) for i, name in enumerate(names)
    )


def _perceiver_attention(original: str, hugging_face: str) -> tuple[ModuleRule, ...]:
    return (
        ModuleRule(f"{original}.to_q", (f"{hugging_face}.q_proj",), LINEAR),
        ModuleRule(f"{original}.to_kv", (f"{hugging_face}.k_proj", f"{hugging_face}.v_proj"), LINEAR, HFSplit.HALVES),
        ModuleRule(f"{original}.to_out", (f"{hugging_face}.o_proj",), LINEAR),
    )


def _perceiver_mlp(original: str, hugging_face: str) -> tuple[ModuleRule, ...]:
    return (
        ModuleRule(f"{original}.0", (f"{hugging_face}.layer_norm",), NORM),
        ModuleRule(f"{original}.1", (f"{hugging_face}.up_proj",), LINEAR),
        ModuleRule(f"{original}.3", (f"{hugging_face}.down_proj",), LINEAR),
    )


# The first rule that matches a key applies. Placeholders: {i} and {j} are numbers, {qkv} is one of these letters,
# {word} is one component of a key, {path} one or more.
_TRUNK, _HF_TRUNK = "image_encoder.trunk.body.{path}", "vision_encoder.backbone.timm_model.{path}"
_TWO_WAY, _HF_TWO_WAY = "sam_mask_decoder.transformer", "mask_decoder.transformer"
_HEADS, _HF_HEADS = "sam_mask_decoder", "mask_decoder"
_ATTENTION = "memory_attention.layers.{i}"
_DOWN, _HF_DOWN = "memory_encoder.mask_downsampler.encoder", "memory_encoder.mask_downsampler"
_FUSER, _HF_FUSER = "memory_encoder.fuser.layers.{i}", "memory_encoder.memory_fuser.layers.{i}"
_POINTS, _HF_POINTS = "sam_prompt_encoder", "prompt_encoder"
_PERCEIVER = "spatial_perceiver.layers.{i}"

KEY_TABLE: tuple[ModuleRule, ...] = (
    ModuleRule(f"{_TRUNK}.bn", (f"{_HF_TRUNK}.bn",), BATCH_NORM),
    ModuleRule(f"{_TRUNK}.c", (f"{_HF_TRUNK}.c",), CONV),
    ModuleRule(f"{_TRUNK}.fc{{i}}", (f"{_HF_TRUNK}.fc{{i}}",), CONV),
    ModuleRule("image_encoder.neck.convs.{i}.conv", ("vision_encoder.neck.convs.{i}",), CONV),
    ModuleRule(
        f"{_POINTS}.pe_layer.positional_encoding_gaussian_matrix",
        (f"{_HF_POINTS}.shared_embedding.positional_embedding", "shared_image_embedding.positional_embedding"),
        TENSOR,
    ),
    ModuleRule(f"{_POINTS}.point_embeddings.{{i}}", (f"{_HF_POINTS}.point_embed",), EMBEDDING, HFSplit.ROW),
    ModuleRule(f"{_POINTS}.not_a_point_embed", (f"{_HF_POINTS}.not_a_point_embed",), EMBEDDING),
    ModuleRule(f"{_POINTS}.no_mask_embed", (f"{_HF_POINTS}.no_mask_embed",), EMBEDDING),
    ModuleRule(f"{_POINTS}.mask_downscaling.0", (f"{_HF_POINTS}.mask_embed.conv1",), CONV),
    ModuleRule(f"{_POINTS}.mask_downscaling.1", (f"{_HF_POINTS}.mask_embed.layer_norm1",), NORM),
    ModuleRule(f"{_POINTS}.mask_downscaling.3", (f"{_HF_POINTS}.mask_embed.conv2",), CONV),
    ModuleRule(f"{_POINTS}.mask_downscaling.4", (f"{_HF_POINTS}.mask_embed.layer_norm2",), NORM),
    ModuleRule(f"{_POINTS}.mask_downscaling.6", (f"{_HF_POINTS}.mask_embed.conv3",), CONV),
    ModuleRule(f"{_TWO_WAY}.{{path}}.mlp.layers.0", (f"{_HF_TWO_WAY}.{{path}}.mlp.proj_in",), LINEAR),
    ModuleRule(f"{_TWO_WAY}.{{path}}.mlp.layers.1", (f"{_HF_TWO_WAY}.{{path}}.mlp.proj_out",), LINEAR),
    ModuleRule(f"{_TWO_WAY}.{{path}}.{{qkv}}_proj", (f"{_HF_TWO_WAY}.{{path}}.{{qkv}}_proj",), LINEAR),
    ModuleRule(f"{_TWO_WAY}.{{path}}.out_proj", (f"{_HF_TWO_WAY}.{{path}}.o_proj",), LINEAR),
    ModuleRule(f"{_TWO_WAY}.{{path}}.norm{{j}}", (f"{_HF_TWO_WAY}.{{path}}.layer_norm{{j}}",), NORM),
    ModuleRule(f"{_TWO_WAY}.norm_final_attn", (f"{_HF_TWO_WAY}.layer_norm_final_attn",), NORM),
    ModuleRule(f"{_HEADS}.output_upscaling.0", (f"{_HF_HEADS}.upscale_conv1",), UPCONV),
    ModuleRule(f"{_HEADS}.output_upscaling.1", (f"{_HF_HEADS}.upscale_layer_norm",), NORM),
    ModuleRule(f"{_HEADS}.output_upscaling.3", (f"{_HF_HEADS}.upscale_conv2",), UPCONV),
    ModuleRule(f"{_HEADS}.conv_s{{i}}", (f"{_HF_HEADS}.conv_s{{i}}",), CONV),
    *_mlp3(f"{_HEADS}.output_hypernetworks_mlps.{{i}}", f"{_HF_HEADS}.output_hypernetworks_mlps.{{i}}"),
    *_mlp3(f"{_HEADS}.iou_prediction_head", f"{_HF_HEADS}.iou_prediction_head"),
    *_mlp3(f"{_HEADS}.pred_obj_score_head", f"{_HF_HEADS}.pred_obj_score_head"),
    ModuleRule(f"{_HEADS}.{{word}}", (f"{_HF_HEADS}.{{word}}",), EMBEDDING),  # iou_token, mask_tokens, obj_score_token
    ModuleRule(f"{_ATTENTION}.{{word}}.{{qkv}}_proj", (f"{_ATTENTION}.{{word}}.{{qkv}}_proj",), LINEAR),
    ModuleRule(f"{_ATTENTION}.{{word}}.out_proj", (f"{_ATTENTION}.{{word}}.o_proj",), LINEAR),
    ModuleRule(f"{_ATTENTION}.linear1", (f"{_ATTENTION}.mlp.up_proj",), LINEAR),
    ModuleRule(f"{_ATTENTION}.linear2", (f"{_ATTENTION}.mlp.down_proj",), LINEAR),
    ModuleRule(f"{_ATTENTION}.norm{{j}}", (f"{_ATTENTION}.layer_norm{{j}}",), NORM),
    ModuleRule("memory_attention.norm", ("memory_attention.layer_norm",), NORM),
    *(ModuleRule(f"{_DOWN}.{3 * k}", (f"{_HF_DOWN}.layers.{k}.conv",), CONV) for k in range(4)),
    *(ModuleRule(f"{_DOWN}.{3 * k + 1}", (f"{_HF_DOWN}.layers.{k}.layer_norm",), NORM) for k in range(4)),
    ModuleRule(f"{_DOWN}.12", (f"{_HF_DOWN}.final_conv",), CONV),
    ModuleRule("memory_encoder.pix_feat_proj", ("memory_encoder.feature_projection",), CONV),
    ModuleRule(f"{_FUSER}.gamma", (f"{_HF_FUSER}.scale",), TENSOR),
    ModuleRule(f"{_FUSER}.dwconv", (f"{_HF_FUSER}.depthwise_conv",), CONV),
    ModuleRule(f"{_FUSER}.norm", (f"{_HF_FUSER}.layer_norm",), NORM),
    ModuleRule(f"{_FUSER}.pwconv{{j}}", (f"{_HF_FUSER}.pointwise_conv{{j}}",), LINEAR),
    ModuleRule("memory_encoder.out_proj", ("memory_encoder.projection",), CONV),
    ModuleRule("spatial_perceiver.latents", ("spatial_perceiver.latents_1d",), TENSOR),
    ModuleRule("spatial_perceiver.latents_2d", ("spatial_perceiver.latents_2d",), TENSOR),
    ModuleRule("spatial_perceiver.norm", ("spatial_perceiver.layer_norm",), NORM),
    ModuleRule(f"{_PERCEIVER}.attn.norm_x", (f"{_PERCEIVER}.layer_norm_input",), NORM),
    ModuleRule(f"{_PERCEIVER}.attn.norm_latents", (f"{_PERCEIVER}.layer_norm_latents",), NORM),
    ModuleRule(f"{_PERCEIVER}.self_attn.norm", (f"{_PERCEIVER}.layer_norm_self",), NORM),
    *_perceiver_attention(f"{_PERCEIVER}.attn", f"{_PERCEIVER}.cross_attention"),
    *_perceiver_attention(f"{_PERCEIVER}.self_attn", f"{_PERCEIVER}.self_attention"),
    *_perceiver_mlp(f"{_PERCEIVER}.ff", f"{_PERCEIVER}.mlp"),
    *_perceiver_mlp(f"{_PERCEIVER}.self_ff", f"{_PERCEIVER}.self_mlp"),
    *_mlp3("obj_ptr_proj", "object_pointer_proj"),
    ModuleRule("mask_downsample", ("mask_downsample",), CONV),
    ModuleRule("maskmem_tpos_enc", ("memory_temporal_positional_encoding",), TENSOR),
    ModuleRule("no_mem_embed", ("no_memory_embedding",), TENSOR),
    ModuleRule("no_obj_ptr", ("no_object_pointer",), TENSOR),
)

_PLACEHOLDERS = {"i": r"\d+", "j": r"\d+", "qkv": "[qkv]", "word": r"\w+", "path": r"[\w.]+"}


@functools.cache
def _regex(pattern: str) -> re.Pattern[str]:
    groups = {name: f"(?P<{name}>{expression})" for name, expression in _PLACEHOLDERS.items()}
    return re.compile(pattern.replace(".", r"\.").format(**groups))


class TensorRule(NamedTuple):
    """`ModuleRule` applied to one tensor: its key in each layout, and the transposition from torch to Flax."""

    original: str
    hugging_face: tuple[str, ...]
    split: HFSplit
    row: int  # which row, for HFSplit.ROW
    flax_path: str  # with slashes
    axes: Axes

    def keys(self, layout: Layout) -> tuple[str, ...]:
        """The keys under which a checkpoint of this layout stores it."""
        if layout is Layout.HUGGING_FACE:
            return self.hugging_face
        return (self.original if layout is Layout.ORIGINAL else self.flax_path,)


@functools.cache
def tensor_rule(key: str) -> TensorRule | None:
    """The rule for a key of the original; None if the table has none."""
    for rule in KEY_TABLE:
        for leaf, (flax_leaf, axes) in rule.kind.leaves.items():
            suffix = f".{leaf}" if leaf else ""
            if not key.endswith(suffix):
                continue
            module = key.removesuffix(suffix)
            if match := _regex(rule.original).fullmatch(module):
                fields = match.groupdict()
                names = tuple(name.format(**fields) + suffix for name in rule.hugging_face)
                path = [*_flax_module_path(module), flax_leaf] if flax_leaf else _flax_module_path(module)
                return TensorRule(key, names, rule.split, int(fields.get("i") or 0), "/".join(path), axes)
    return None


def _flax_module_path(module: str) -> list[str]:
    return re.sub(r"\.(\d+)(?=\.|$)", r"_\1", module).split(".")


def original_key(flax_path: str) -> str:
    """The original's key for a Flax path: the inverse of `tensor_rule(key).flax_path`."""
    # Names such as "stages_0" contain the number in the original too.
    path = re.sub(r"(?<!stages)_(\d+)(?=/|$)", r".\1", flax_path).replace("/", ".")
    module = path.rpartition(".")[0]
    leaves = [f"{module}.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")]
    for key in (path, f"{path}.weight", *leaves):
        if (rule := tensor_rule(key)) and rule.flax_path == flax_path:
            return key
    raise KeyError(f"no rule of the key table matches the parameter {flax_path!r}")
