"""The configuration of a checkpoint, inferred from the shapes of its tensors."""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

from edgetam_jax.checkpoints.key_table import Layout, tensor_rule
from edgetam_jax.checkpoints.mapping import Shapes, expected_shapes, tree_shapes
from edgetam_jax.config import EDGETAM, STRIDE, Config
from edgetam_jax.errors import ConfigError


def best_config(
    shapes: Shapes, layout: Layout, config_values: Mapping[str, Any] | None, image_size: int | None
) -> Config:
    """The configuration inferred from the shapes or, if some tensors are damaged, the one that fits more of them.

    The alternative is `EDGETAM` with `config_values`. With it the checks that follow name the damaged tensors, instead
    of all others, whose shapes would not fit a configuration inferred from the damaged ones.
    """

    def count_mismatches(config: Config) -> int:
        return len(shapes.items() ^ expected_shapes(tree_shapes(config), layout).items())

    try:
        config = infer_config(shapes, layout, config_values, image_size)
    except ConfigError:
        return infer_config({}, layout, config_values, image_size)
    if count_mismatches(config):
        with contextlib.suppress(ConfigError):
            return min(config, infer_config({}, layout, config_values, image_size), key=count_mismatches)
    return config


def infer_config(
    shapes: Shapes,
    layout: Layout,
    config_values: Mapping[str, Any] | None = None,
    image_size: int | None = None,
) -> Config:
    """The configuration with these tensor shapes.

    `config_values` and `image_size` take precedence over shapes; values given by neither are those of `EDGETAM`.
    """

    def shape(key: str) -> tuple[int, ...] | None:
        """The shape of a tensor, with torch's order of axes, by the key that the original has for it."""
        rule = tensor_rule(key)
        assert rule is not None, key
        stored = shapes.get(rule.keys(layout)[0])
        # Of the tensors used here only matrices are transposed: axis 0 in torch is the last in Flax.
        return stored[::-1] if stored and rule.axes and layout is Layout.FLAX else stored

    def size(key: str, axis: int, default: int) -> int:
        stored = shape(key)
        return stored[axis] if stored else default

    def count(key: str, default: int) -> int:
        n = 0
        while shape(key.format(n)):
            n += 1
        return n or default

    config_values = config_values or {}
    base, two_way = EDGETAM, "sam_mask_decoder.transformer.layers"
    image_side: int = image_size or config_values.get("image_size", base.image_size)
    hidden_dim = size("image_encoder.neck.convs.0.conv.weight", 0, base.hidden_dim)
    # A checkpoint for still images has no tensors of the memory. Then choose sizes that are consistent with the others.
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
    return Config.from_dict(_merge_sections(inferred, config_values) | {"image_size": image_side})


def _merge_sections(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings, one level deep; values of the second take precedence."""
    both = {key: {**first[key], **second[key]} for key in first.keys() & second.keys() if isinstance(first[key], dict)}
    return {**first, **second, **both}
