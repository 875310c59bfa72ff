"""Configurations: read off tensor shapes, and from and to Hugging Face's config.json."""

import math
from collections.abc import Mapping
from typing import Any

from edgetam_jax.checkpoints.key_table import Layout, entry
from edgetam_jax.config import EDGETAM, STRIDE, Config, TrunkConfig
from edgetam_jax.errors import CheckpointError

_BACKBONE = "repvit_m1"
_DEFAULT_MEMORY = {
    "enable_occlusion_spatial_embedding": True,
    "enable_temporal_pos_encoding_for_object_pointers": True,
}
# Where the library offers a choice and the network has none: (section, key) and the only value.
_FIXED = {
    ("vision_config", "fpn_top_down_levels"): [2, 3],
    ("vision_config", "num_feature_levels"): 3,
    ("mask_decoder_config", "attention_downsample_rate"): 2,
    ("mask_decoder_config", "num_multimask_outputs"): 3,
    ("mask_decoder_config", "dynamic_multimask_via_stability"): True,
    ("", "memory_attention_num_attention_heads"): 1,
    ("", "perceiver_resampler_num_attention_heads"): 1,
    ("", "multimask_min_pt_num"): 0,
    ("", "multimask_max_pt_num"): 1,
    ("", "max_cond_frame_num"): -1,
}


def infer_config(
    shapes: Mapping[str, tuple[int, ...]],
    layout: Layout,
    known: Mapping[str, Any] | None = None,
    image_size: int | None = None,
) -> Config:
    """The configuration that tensor shapes tell of, with what is `known` besides; EDGETAM's where neither tells."""

    def shape(key: str) -> tuple[int, ...] | None:
        found = entry(key)
        assert found is not None, key
        return shapes.get(found.names(layout)[0])

    def size(key: str, axis: int, default: int) -> int:
        """A length of a torch tensor. Axis 0 of a torch matrix is the last of Flax's."""
        found, kept = shape(key), entry(key)
        if found and kept and kept.axes and layout is Layout.FLAX:
            found = found[::-1]
        return found[axis] if found else default

    def count(key: str, default: int) -> int:
        n = 0
        while shape(key.format(n)):
            n += 1
        return n or default

    known = known or {}
    base, two_way = EDGETAM, "sam_mask_decoder.transformer.layers"
    image_side: int = image_size or known.get("image_size", base.image_size)
    hidden_dim = size("image_encoder.neck.convs.0.conv.weight", 0, base.hidden_dim)
    # A file for still images says nothing of memory: then any sizes that fit the others do.
    memory_dim = size("maskmem_tpos_enc", -1, math.gcd(base.memory_dim, hidden_dim))
    any_grid = math.gcd(base.perceiver.window_grid, image_side // STRIDE)
    stages = [f"image_encoder.trunk.body.stages_{i}.blocks" for i in range(len(base.trunk.widths))]
    conv = "channel_mixer.conv2.c.weight"
    inferred = {
        "hidden_dim": hidden_dim,
        "memory_dim": memory_dim,
        "memory_frames": size("maskmem_tpos_enc", 0, base.memory_frames),
        "trunk": {
            "widths": [size(f"{stage}.0.{conv}", 0, n) for stage, n in zip(stages, base.trunk.widths, strict=True)],
            "depths": [count(f"{stage}.{{}}.{conv}", n) for stage, n in zip(stages, base.trunk.depths, strict=True)],
        },
        "decoder": {
            "layers": count(two_way + ".{}.norm1.weight", base.decoder.layers),
            "mlp_dim": size(two_way + ".0.mlp.layers.0.weight", 0, base.decoder.mlp_dim),
            "iou_dim": size("sam_mask_decoder.iou_prediction_head.layers.0.weight", 0, base.decoder.iou_dim),
        },
        "memory_attention": {
            "layers": count("memory_attention.layers.{}.norm1.weight", base.memory_attention.layers),
            "mlp_dim": size("memory_attention.layers.0.linear1.weight", 0, base.memory_attention.mlp_dim),
        },
        "memory_encoder": {
            "fuser_layers": count("memory_encoder.fuser.layers.{}.gamma", base.memory_encoder.fuser_layers)
        },
        "perceiver": {
            "layers": count("spatial_perceiver.layers.{}.attn.norm_x.weight", base.perceiver.layers),
            "latents": size("spatial_perceiver.latents", 0, base.perceiver.latents),
            "window_grid": math.isqrt(size("spatial_perceiver.latents_2d", 0, any_grid**2)),
        },
    }
    return Config.from_dict(_merged(inferred, known) | {"image_size": image_side})


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: {**first[key], **second[key]} for key in first.keys() & second.keys() if isinstance(first[key], dict)}
    return {**first, **second, **both}


def read_hf_config(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What config.json says beyond the shapes, as `Config.from_dict` takes it. Refuses any network but EdgeTAM."""
    kind = values.get("model_type")
    if kind not in ("edgetam", "edgetam_video"):
        raise CheckpointError(
            f"{source}: model_type is {kind!r}, expected 'edgetam' or 'edgetam_video'. This is not an EdgeTAM; "
            "the released weights are yonigozlan/EdgeTAM-hf."
        )
    _check_backbone(_section(values, "vision_config", source), source)
    fixed = dict(_FIXED)
    if kind == "edgetam_video":
        # A file that is silent about them means the library's default, True.
        for key, default in _DEFAULT_MEMORY.items():
            fixed["", key] = False
            values = {key: default, **values}
    for (section, key), expected in fixed.items():
        found = (_section(values, section, source) if section else values).get(key, expected)
        if found != expected:
            raise CheckpointError(
                f"{source}: {section + '.' if section else ''}{key} is {found!r}, but EdgeTAM has {expected!r}. "
                "This file describes another network; weights made for it cannot be used here."
            )
    decoder, memory = _section(values, "mask_decoder_config", source), EDGETAM.memory_encoder
    prompt = _section(values, "prompt_encoder_config", source)
    image_size = values.get("image_size", prompt.get("image_size", EDGETAM.image_size))
    if isinstance(image_size, list) and len(set(image_size)) == 1:
        image_size = image_size[0]
    if not isinstance(image_size, int):
        raise CheckpointError(f"{source}: image_size is {image_size!r}, expected one number, such as 1024.")
    return {
        "image_size": image_size,
        "pointers": values.get("max_object_pointers_in_encoder", EDGETAM.pointers),
        "decoder": {
            "heads": decoder.get("num_attention_heads", EDGETAM.decoder.heads),
            "stability_delta": decoder.get("dynamic_multimask_stability_delta", EDGETAM.decoder.stability_delta),
            "stability_threshold": decoder.get(
                "dynamic_multimask_stability_thresh", EDGETAM.decoder.stability_threshold
            ),
        },
        "memory_encoder": {
            "sigmoid_scale": values.get("sigmoid_scale_for_mem_enc", memory.sigmoid_scale),
            "sigmoid_bias": values.get("sigmoid_bias_for_mem_enc", memory.sigmoid_bias),
        },
    }


def _section(values: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    section = values.get(key)
    if not isinstance(section, Mapping | None):
        raise CheckpointError(f"{source}: {key} is {section!r}, expected a mapping.")
    return section or {}


def _check_backbone(vision: Mapping[str, Any], source: str) -> None:
    advice = (
        "The library builds such a model where the configuration names no backbone; its weights are not EdgeTAM's. "
        f"EdgeTAM needs vision_config.backbone_config with model_type 'timm_wrapper' and architecture {_BACKBONE!r}."
    )
    kind = vision.get("model_type", "sam2_vision_model")
    if kind != "edgetam_vision_model":
        raise CheckpointError(f"{source}: vision_config is a {kind!r} (Hiera, unless it says otherwise). {advice}")
    backbone = _section(vision, "backbone_config", source)
    wrapper, architecture = backbone.get("model_type"), str(backbone.get("architecture", "resnet50"))
    # "repvit_m1.dist_in1k" is repvit_m1 with other weights; "repvit_m1_0" is another network.
    if wrapper != "timm_wrapper" or architecture.split(".")[0] != _BACKBONE:
        raise CheckpointError(f"{source}: the backbone is {architecture!r} ({wrapper}). {advice}")


def write_hf_config(config: Config, image_only: bool) -> dict[str, Any]:
    """The config.json with which the library builds exactly this network."""
    name = "edgetam" if image_only else "edgetam_video"
    side, dim, trunk, decoder = config.embedding_size, config.hidden_dim, config.trunk, config.decoder
    model_args: dict[str, Any] = {"features_only": True, "in_chans": 3, "out_indices": [0, 1, 2, 3]}
    if trunk != TrunkConfig():
        model_args |= {"embed_dim": list(trunk.widths), "depth": list(trunk.depths)}
    values = {
        "architectures": ["EdgeTamModel" if image_only else "EdgeTamVideoModel"],
        "model_type": name,
        "dtype": "float32",
        "vision_config": {
            "model_type": "edgetam_vision_model",
            "backbone_config": {
                "model_type": "timm_wrapper",
                "architecture": _BACKBONE,
                "model_args": model_args,
                # Without names for its classes the library wants timm's; the trunk has no classes.
                "num_classes": 2,
                "label_names": ["LABEL_0", "LABEL_1"],
            },
            "backbone_channel_list": list(reversed(trunk.widths)),
            "backbone_feature_sizes": [[side * scale, side * scale] for scale in (4, 2, 1)],
            "fpn_hidden_size": dim,
        },
        "prompt_encoder_config": {
            "model_type": f"{name}_prompt_encoder",
            "hidden_size": dim,
            "image_size": config.image_size,
            "patch_size": STRIDE,
        },
        "mask_decoder_config": {
            "model_type": f"{name}_mask_decoder",
            "hidden_size": dim,
            "num_hidden_layers": decoder.layers,
            "num_attention_heads": decoder.heads,
            "mlp_dim": decoder.mlp_dim,
            "iou_head_hidden_dim": decoder.iou_dim,
            "dynamic_multimask_stability_delta": decoder.stability_delta,
            "dynamic_multimask_stability_thresh": decoder.stability_threshold,
        },
    }
    return values if image_only else values | _hf_memory(config)


def _hf_memory(config: Config) -> dict[str, Any]:
    dim, memory, side = config.hidden_dim, config.memory_dim, config.embedding_size
    attention, encoder, perceiver = config.memory_attention, config.memory_encoder, config.perceiver
    return {
        "image_size": config.image_size,
        **dict.fromkeys(_DEFAULT_MEMORY, False),
        "num_maskmem": config.memory_frames,
        "max_object_pointers_in_encoder": config.pointers,
        "sigmoid_scale_for_mem_enc": encoder.sigmoid_scale,
        "sigmoid_bias_for_mem_enc": encoder.sigmoid_bias,
        "memory_attention_hidden_size": dim,
        "memory_attention_num_layers": attention.layers,
        "memory_attention_mlp_hidden_size": attention.mlp_dim,
        "memory_attention_rope_feat_sizes": [side, side],
        "memory_attention_rope_k_sizes": 2 * [perceiver.window_grid],
        "memory_encoder_hidden_size": dim,
        "memory_encoder_output_channels": memory,
        "mask_downsampler_embed_dim": dim,
        "memory_fuser_embed_dim": dim,
        "memory_fuser_intermediate_dim": 4 * dim,
        "memory_fuser_num_layers": encoder.fuser_layers,
        "perceiver_resampler_hidden_size": memory,
        "perceiver_resampler_attention_head_dim": memory,
        "perceiver_resampler_mlp_intermediate_size": 4 * memory,
        "perceiver_resampler_num_layers": perceiver.layers,
        "perceiver_resampler_num_latents": perceiver.latents,
        "perceiver_resampler_num_latents_2d": perceiver.window_grid**2,
    }
