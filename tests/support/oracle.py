"""The PyTorch references: the original EdgeTAM and the Hugging Face port, built from a `Config` without a download."""

import functools
import importlib
import importlib.util
import pathlib
import warnings
from typing import Any
from unittest import mock

import numpy as np
import torch

from edgetam_jax.config import (
    Config,
    DecoderConfig,
    MemoryAttentionConfig,
    MemoryEncoderConfig,
    PerceiverConfig,
    TrunkConfig,
)
from tests.support.random_weights import randomize as randomize  # the fixtures' other half, under one name

# Small, and no two sizes alike where that is possible, so that swapped ones do not fit. The trunk has stages with and
# without a block of odd index, and squeeze widths that round up (48 / 4 -> 16) and down (40 / 4 -> 8).
TINY = Config(
    image_size=128,
    hidden_dim=32,
    memory_dim=16,
    trunk=TrunkConfig(widths=(16, 24, 40, 48), depths=(1, 2, 3, 1)),
    decoder=DecoderConfig(layers=2, heads=4, mlp_dim=56, iou_dim=24),
    memory_attention=MemoryAttentionConfig(layers=2, mlp_dim=72),
    memory_encoder=MemoryEncoderConfig(fuser_layers=2),
    perceiver=PerceiverConfig(layers=2, latents=12, window_grid=4),
)


_libraries: list[torch.library.Library] = []


def _greedy_nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """What torchvision's `nms` computes."""
    order = scores.sort(descending=True, stable=True).indices.tolist()
    sides = boxes[:, 2:] - boxes[:, :2]
    areas, kept = sides[:, 0] * sides[:, 1], []
    while order:
        best, *order = order
        kept.append(best)
        shared = torch.minimum(boxes[best, 2:], boxes[order, 2:]) - torch.maximum(boxes[best, :2], boxes[order, :2])
        inside = shared.clamp(min=0).prod(-1)
        overlap = (inside / (areas[best] + areas[order] - inside)).tolist()  # compared in float64, as there
        order = [box for box, share in zip(order, overlap, strict=True) if not share > threshold]
    return torch.tensor(kept, dtype=torch.int64)


def _declare_vision_operators() -> None:
    """torchvision's Python part wants these to exist, also where its compiled part was built for another torch.

    Of these only `nms` is ever called, by the mask generators.
    """
    spec = importlib.util.find_spec("torchvision")
    folder = pathlib.Path(spec.origin).parent if spec and spec.origin else pathlib.Path()
    try:
        for library in folder.glob("_C*.so"):
            torch.ops.load_library(str(library))
    except OSError:
        pass
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.impl("nms", _greedy_nms, "CPU")
        _libraries.append(library)  # its operators live as long as it does
        extension: Any = importlib.import_module("torchvision.extension")
        extension._has_ops = lambda: True


_declare_vision_operators()

import sam2.modeling.backbones.timm as backbone_module
import sam2.modeling.perceiver as perceiver_module
import sam2.modeling.sam.transformer as attention_module
import sam2.modeling.sam2_base as base_module
import sam2.sam2_video_predictor as video_module
import timm
from hydra import compose
from hydra.utils import instantiate
from omegaconf import OmegaConf


def _several_objects(forward_2d: Any) -> Any:
    """The original fails on more than one object at a time: give it one at a time."""

    @functools.wraps(forward_2d)
    def forward(self: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.cat(part) for part in zip(*(forward_2d(self, one[None]) for one in x), strict=True))

    return forward


class _Float32Memory:
    """`torch` as the video predictor sees it: what it would store as bfloat16 stays float32."""

    bfloat16 = torch.float32

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


perceiver_module.PerceiverResampler.forward_2d = _several_objects(perceiver_module.PerceiverResampler.forward_2d)
video_module.torch = _Float32Memory()  # pyright: ignore[reportAttributeAccessIssue]
attention_module.ALLOW_ALL_KERNELS = True  # skips a deprecated context that only chooses CUDA kernels


def _settings(config: Config) -> dict[str, Any]:
    """The original's settings, where `config` or the builder of its video predictor differ from its file."""
    dim, memory, grid = config.hidden_dim, config.memory_dim, config.perceiver.window_grid
    attention = "memory_attention.layer."
    return {
        "_target_": "sam2.sam2_video_predictor.SAM2VideoPredictor",
        "image_size": config.image_size,
        "num_maskmem": config.memory_frames,
        "max_obj_ptrs_in_encoder": config.pointers,
        "sigmoid_scale_for_mem_enc": config.memory_encoder.sigmoid_scale,
        "sigmoid_bias_for_mem_enc": config.memory_encoder.sigmoid_bias,
        "binarize_mask_from_pts_for_mem_enc": True,
        "sam_mask_decoder_extra_args": {
            "dynamic_multimask_via_stability": True,
            "dynamic_multimask_stability_delta": config.decoder.stability_delta,
            "dynamic_multimask_stability_thresh": config.decoder.stability_threshold,
        },
        "image_encoder.neck.d_model": dim,
        "image_encoder.neck.position_encoding.num_pos_feats": dim,
        "image_encoder.neck.backbone_channel_list": list(config.trunk.widths[::-1]),
        "memory_attention.d_model": dim,
        "memory_attention.num_layers": config.memory_attention.layers,
        attention + "d_model": dim,
        attention + "dim_feedforward": config.memory_attention.mlp_dim,
        attention + "self_attention.embedding_dim": dim,
        attention + "self_attention.feat_sizes": [config.embedding_size] * 2,
        attention + "cross_attention.embedding_dim": dim,
        attention + "cross_attention.kv_in_dim": memory,
        attention + "cross_attention.q_sizes": [config.embedding_size] * 2,
        attention + "cross_attention.k_sizes": [grid] * 2,
        "memory_encoder.in_dim": dim,
        "memory_encoder.out_dim": memory,
        "memory_encoder.position_encoding.num_pos_feats": memory,
        "memory_encoder.mask_downsampler.embed_dim": dim,
        "memory_encoder.fuser.layer.dim": dim,
        "memory_encoder.fuser.num_layers": config.memory_encoder.fuser_layers,
        "spatial_perceiver.depth": config.perceiver.layers,
        "spatial_perceiver.dim": memory,
        "spatial_perceiver.dim_head": memory,
        "spatial_perceiver.num_latents": config.perceiver.latents,
        "spatial_perceiver.num_latents_2d": grid**2,
        "spatial_perceiver.position_encoding.num_pos_feats": memory,
    }


def build_original(config: Config) -> Any:
    """The original's video predictor (which is a `SAM2Base`) with its own initial weights, ready for evaluation."""
    settings = compose("configs/edgetam.yaml").model
    for key, value in _settings(config).items():
        OmegaConf.update(settings, key, value, force_add=True)

    def trunk(name: str, **kwargs: Any) -> Any:
        sizes = {"embed_dim": config.trunk.widths, "depth": config.trunk.depths}
        return timm.create_model(name, **{**kwargs, **sizes, "pretrained": False})

    def two_way(**kwargs: Any) -> Any:
        decoder = config.decoder
        sizes = {"depth": decoder.layers, "num_heads": decoder.heads, "mlp_dim": decoder.mlp_dim}
        return attention_module.TwoWayTransformer(**{**kwargs, **sizes})

    mask_decoder = base_module.MaskDecoder

    def decoder(**kwargs: Any) -> Any:
        return mask_decoder(**{**kwargs, "iou_head_hidden_dim": config.decoder.iou_dim})

    # These three sizes are fixed inside the original.
    with (
        mock.patch.object(backbone_module, "create_model", trunk),
        mock.patch.object(base_module, "TwoWayTransformer", two_way),
        mock.patch.object(base_module, "MaskDecoder", decoder),
    ):
        model = instantiate(settings, _recursive_=True)
    return model.eval().requires_grad_(False)


def build_generator(model: Any, **settings: Any) -> Any:
    """The original's mask generator on `build_original`'s model."""
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it compiles its preprocessing with torch.jit
        generator = SAM2AutomaticMaskGenerator(model, **settings)
    size = model.image_size // model.backbone_stride
    generator.predictor._bb_feat_sizes = [(scale * size,) * 2 for scale in (4, 2, 1)]  # fixed there for 1024
    return generator


def numpy_state_dict(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """The module's tensors under their PyTorch names."""
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def hf_config(config: Config) -> dict[str, Any]:
    """The Hugging Face configuration of the same network, which is far from that library's defaults.

    The port fixes the memory's width at 64, so `TINY` cannot be built with it; any image size can.
    """
    dim, memory, size = config.hidden_dim, config.memory_dim, config.embedding_size
    return {
        "image_size": config.image_size,
        "num_maskmem": config.memory_frames,
        "max_object_pointers_in_encoder": config.pointers,
        "sigmoid_scale_for_mem_enc": config.memory_encoder.sigmoid_scale,
        "sigmoid_bias_for_mem_enc": config.memory_encoder.sigmoid_bias,
        "enable_occlusion_spatial_embedding": False,
        "enable_temporal_pos_encoding_for_object_pointers": False,
        "memory_attention_hidden_size": dim,
        "memory_attention_num_layers": config.memory_attention.layers,
        "memory_attention_mlp_hidden_size": config.memory_attention.mlp_dim,
        "memory_attention_rope_feat_sizes": [size, size],
        "memory_attention_rope_k_sizes": [config.perceiver.window_grid] * 2,
        "perceiver_resampler_num_latents": config.perceiver.latents,
        "perceiver_resampler_num_latents_2d": config.perceiver.window_grid**2,
        "perceiver_resampler_hidden_size": memory,
        "perceiver_resampler_mlp_intermediate_size": 4 * memory,
        "perceiver_resampler_attention_head_dim": memory,
        "perceiver_resampler_num_layers": config.perceiver.layers,
        "memory_encoder_hidden_size": dim,
        "memory_encoder_output_channels": memory,
        "mask_downsampler_embed_dim": dim,
        "memory_fuser_embed_dim": dim,
        "memory_fuser_intermediate_dim": 4 * dim,
        "memory_fuser_num_layers": config.memory_encoder.fuser_layers,
        "prompt_encoder_config": {"hidden_size": dim, "image_size": config.image_size, "patch_size": 16},
        "mask_decoder_config": {
            "hidden_size": dim,
            "mlp_dim": config.decoder.mlp_dim,
            "num_hidden_layers": config.decoder.layers,
            "num_attention_heads": config.decoder.heads,
            "iou_head_hidden_dim": config.decoder.iou_dim,
            "dynamic_multimask_stability_delta": config.decoder.stability_delta,
            "dynamic_multimask_stability_thresh": config.decoder.stability_threshold,
        },
        "vision_config": {
            "model_type": "edgetam_vision_model",
            "fpn_hidden_size": dim,
            "backbone_channel_list": list(config.trunk.widths[::-1]),
            "backbone_feature_sizes": [[scale * size] * 2 for scale in (4, 2, 1)],
            "backbone_config": {
                "model_type": "timm_wrapper",
                "architecture": "repvit_m1",
                "num_classes": 2,  # unused, but the configuration cannot be made without it
                "model_args": {
                    "in_chans": 3,
                    "features_only": True,
                    "out_indices": [0, 1, 2, 3],
                    "embed_dim": list(config.trunk.widths),
                    "depth": list(config.trunk.depths),
                },
            },
        },
    }


def build_hf(config: Config) -> Any:
    """The Hugging Face video model with weights of its own making; the caller loads a state dict."""
    from transformers import EdgeTamVideoConfig, EdgeTamVideoModel

    return EdgeTamVideoModel(EdgeTamVideoConfig(**hf_config(config))).eval().requires_grad_(False)
