"""What a network starts from that is trained from nothing."""

import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from edgetam_jax.config import Config
from edgetam_jax.model import Params, init_params

GAIN = 1.5  # of the decoder's queries and keys
LIKENESS = 1.5  # and of those of memory attention
LAYER_SCALE = 0.1  # 1e-6, where the original starts, is hardly moved by a short training

Rules = dict[str, Callable[[Array], Array]]  # by patterns of paths


def initial_params(config: Config, key: Array) -> Params:
    """Random, but the trunk begins as simple as it can be, and prompts look where they point from the first step.

    The trunk's channel mixers add nothing to what passes them until they have learnt what to add. Where the decoder's
    tokens and its image attend to each other, queries and keys start as the same projection, larger than usual: what
    is in the same place matches. Two random ones take hundreds of steps to find that out.
    """
    flat: dict[Any, Any] = flatten_dict(init_params(config, key), sep="/")
    crossing = r"sam_mask_decoder/.*(token_to_image|image_to_token)"
    rules: Rules = {
        r".*/gamma": lambda x: jnp.full_like(x, LAYER_SCALE),
        r".*/(channel_mixer|ffn)/conv2/bn/scale": jnp.zeros_like,
        rf"{crossing}/k_proj/kernel": lambda x: GAIN * x,
    }
    flat = _changed(flat, rules)
    queries = [name for name in flat if re.fullmatch(rf"{crossing}/q_proj/kernel", name)]
    return unflatten_dict(flat | {name: flat[name.replace("q_proj", "k_proj")] for name in queries}, sep="/")


def init_memory_from_images(params: Params, deviation: float) -> Params:
    """Untrained parts for memory, of a network that has learnt images only: what looks alike finds each other.

    A frame is remembered as its image embedding, in fewer dimensions, with its mask on top. The perceiver begins close
    to plain means. A later frame asks with its own embedding in the same dimensions, so attention goes to what looks
    like it from the first step; from random projections that takes many hundreds. `deviation` is the embedding's, which
    training made larger than 1: what memory adds to it, and the norm after that, begin as large.
    """
    flat: dict[Any, Any] = flatten_dict(params, sep="/")
    kernel = flat["memory_encoder/out_proj/kernel"]
    *_, dim, memory_dim = kernel.shape
    fewer = jnp.linalg.qr(kernel.reshape(dim, memory_dim))[0]  # [C, D], orthonormal columns
    identity = jnp.eye(memory_dim)
    rules: Rules = {
        r"memory_encoder/pix_feat_proj/kernel": lambda x: jnp.eye(dim).reshape(x.shape) / deviation,
        r"memory_encoder/out_proj/kernel": lambda x: fewer.reshape(x.shape),
        r"spatial_perceiver/latents(_2d)?": lambda x: 0.1 * x,
        r"spatial_perceiver/layers_\d+/attn/to_kv/kernel": lambda x: jnp.concatenate([x[:, :memory_dim], identity], 1),
        r"spatial_perceiver/layers_\d+/attn/to_out/kernel": lambda x: identity,
        r"spatial_perceiver/layers_\d+/(self_attn/to_out|ff_3|self_ff_3)/kernel": jnp.zeros_like,
        r"memory_attention/.*/cross_attn_image/q_proj/kernel": lambda x: LIKENESS * jnp.eye(dim),
        r"memory_attention/.*/cross_attn_image/k_proj/kernel": lambda x: LIKENESS * fewer.T,
        r"memory_attention/(.*/(out_proj|linear2)|norm)/\w+": lambda x: deviation * x,
    }
    return unflatten_dict(_changed(flat, rules), sep="/")


def _changed(flat: dict[str, Array], rules: Rules) -> dict[str, Array]:
    """Each parameter as the first rule makes it that matches its whole path, or as it was."""
    changed = {}
    for name, x in flat.items():
        makers = [make for pattern, make in rules.items() if re.fullmatch(pattern, name)]
        changed[name] = makers[0](x) if makers else x
    return changed
