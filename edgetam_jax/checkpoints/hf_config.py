"""Hugging Face's config.json, read and written."""

from collections.abc import Mapping
from typing import Any

from edgetam_jax.config import EDGETAM, STRIDE, Config, TrunkConfig
from edgetam_jax.errors import CheckpointError

_BACKBONE = "repvit_m1"
# Parts that EdgeTAM does not have. The library's default is True, so a config.json without these keys asks for them.
_ABSENT_PARTS = ("enable_occlusion_spatial_embedding", "enable_temporal_pos_encoding_for_object_pointers")
# Settings of the library that are constants of this network: (section, key) -> the only supported value.
_REQUIRED_VALUES = {
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


def read_hf_config(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The values of config.json that tensor shapes do not determine, as keys and values of `Config.from_dict`.

    Raises `CheckpointError` if the file, named `source` in messages, describes another network than EdgeTAM.
    """
    model_type = values.get("model_type")
    if model_type not in ("edgetam", "edgetam_video"):
        raise CheckpointError(
            f"{source}: model_type is {model_type!r}, expected 'edgetam' or 'edgetam_video'. This is not an "
            "EdgeTAM model; the released weights are yonigozlan/EdgeTAM-hf."
        )
    _check_backbone(_section(values, "vision_config", source), source)
    required: dict[tuple[str, str], Any] = dict(_REQUIRED_VALUES)
    if model_type == "edgetam_video":
        required |= {("", key): False for key in _ABSENT_PARTS}
        values = {**dict.fromkeys(_ABSENT_PARTS, True), **values}
    for (section, key), expected in required.items():
        value = (_section(values, section, source) if section else values).get(key, expected)
        if value != expected:
            raise CheckpointError(
                f"{source}: {section + '.' if section else ''}{key} is {value!r}, but EdgeTAM has {expected!r}. "
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
        "The library builds such a model if the configuration names no backbone; its weights are not EdgeTAM's. "
        f"EdgeTAM needs vision_config.backbone_config with model_type 'timm_wrapper' and architecture {_BACKBONE!r}."
    )
    model_type = vision.get("model_type", "sam2_vision_model")
    if model_type != "edgetam_vision_model":
        raise CheckpointError(f"{source}: vision_config is a {model_type!r} (Hiera by default). {advice}")
    backbone = _section(vision, "backbone_config", source)
    wrapper, architecture = backbone.get("model_type"), str(backbone.get("architecture", "resnet50"))
    # "repvit_m1.dist_in1k" is repvit_m1 with other weights; "repvit_m1_0" is another network.
    if wrapper != "timm_wrapper" or architecture.split(".")[0] != _BACKBONE:
        raise CheckpointError(f"{source}: the backbone is {architecture!r} ({wrapper}). {advice}")


def write_hf_config(config: Config, image_only: bool) -> dict[str, Any]:
    """The config.json from which the library builds this network."""
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
        **dict.fromkeys(_ABSENT_PARTS, False),
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
