"""Initial parameters of networks that are trained from scratch."""

import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from edgetam_jax.config import Config
from edgetam_jax.model import Params, init_params

DECODER_QK_GAIN = 1.5  # scale of the initial query and key projections of the decoder's cross-attention
MEMORY_QK_GAIN = 1.5  # and of memory attention's cross-attention
LAYER_SCALE = 0.1  # 1e-6, where the original starts, hardly changes in a short training

Rules = dict[str, Callable[[Array], Array]]  # by regular expressions for parameter paths


def initial_params(config: Config, key: Array) -> Params:
    """Random parameters with a simple trunk, and with cross-attention that matches equal positions.

    The trunk's channel mixers start as the identity: the last scale of each residual branch is zero. In the
    cross-attention between the decoder's tokens and its image, queries and keys start as the same projection, larger
    than usual, so that a prompt attends to its own position from the first step. With two different random projections
    it takes hundreds of steps to learn that.
    """
    flat: dict[Any, Any] = flatten_dict(init_params(config, key), sep="/")
    cross_attention = r"sam_mask_decoder/.*(token_to_image|image_to_token)"
    rules: Rules = {
        r".*/gamma": lambda x: jnp.full_like(x, LAYER_SCALE),
        r".*/(channel_mixer|ffn)/conv2/bn/scale": jnp.zeros_like,
        rf"{cross_attention}/k_proj/kernel": lambda x: DECODER_QK_GAIN * x,
    }
    flat = _apply_rules(flat, rules)
    queries = [name for name in flat if re.fullmatch(rf"{cross_attention}/q_proj/kernel", name)]
    return unflatten_dict(flat | {name: flat[name.replace("q_proj", "k_proj")] for name in queries}, sep="/")


def init_memory_from_images(params: Params, deviation: float) -> Params:
    """Initializes the memory modules of a network that was trained on single images only.

    A memory frame starts as its image embedding, projected to fewer dimensions, plus its mask; the perceiver starts
    close to plain averaging. Memory attention's queries use the same projection of the current embedding, so that
    similar regions attend to each other from the first step. Random projections need many hundreds of steps for that.

    Args:
        params: The parameters of the whole network.
        deviation: The standard deviation of the image embedding, which training makes larger than 1. The output of
            memory attention and its norm are scaled to match.
    """
    flat: dict[Any, Any] = flatten_dict(params, sep="/")
    kernel = flat["memory_encoder/out_proj/kernel"]
    *_, dim, memory_dim = kernel.shape
    projection = jnp.linalg.qr(kernel.reshape(dim, memory_dim))[0]  # [C, D], orthonormal columns
    identity = jnp.eye(memory_dim)
    rules: Rules = {
        r"memory_encoder/pix_feat_proj/kernel": lambda x: jnp.eye(dim).reshape(x.shape) / deviation,
        r"memory_encoder/out_proj/kernel": lambda x: projection.reshape(x.shape),
        r"spatial_perceiver/latents(_2d)?": lambda x: 0.1 * x,
        r"spatial_perceiver/layers_\d+/attn/to_kv/kernel": lambda x: jnp.concatenate([x[:, :memory_dim], identity], 1),
        r"spatial_perceiver/layers_\d+/attn/to_out/kernel": lambda x: identity,
        r"spatial_perceiver/layers_\d+/(self_attn/to_out|ff_3|self_ff_3)/kernel": jnp.zeros_like,
        r"memory_attention/.*/cross_attn_image/q_proj/kernel": lambda x: MEMORY_QK_GAIN * jnp.eye(dim),
        r"memory_attention/.*/cross_attn_image/k_proj/kernel": lambda x: MEMORY_QK_GAIN * projection.T,
        r"memory_attention/(.*/(out_proj|linear2)|norm)/\w+": lambda x: deviation * x,
    }
    return unflatten_dict(_apply_rules(flat, rules), sep="/")


def _apply_rules(flat: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """Each parameter changed by the first rule that matches its whole path, or unchanged."""
    changed = {}
    for name, x in flat.items():
        matching = [rule for pattern, rule in rules.items() if re.fullmatch(pattern, name)]
        changed[name] = matching[0](x) if matching else x
    return changed
