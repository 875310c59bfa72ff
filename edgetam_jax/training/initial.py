"""What a network starts from that is trained from nothing."""

from typing import Any

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from edgetam_jax.config import Config
from edgetam_jax.model import Params, init_params

CROSSINGS = ("cross_attn_token_to_image", "cross_attn_image_to_token", "final_attn_token_to_image")  # of the decoder
CLOSED = [(mixer, "conv2", "bn", "scale") for mixer in ("channel_mixer", "ffn")]  # of the trunk
GAIN = 1.5
LAYER_SCALE = 0.1  # 1e-6, where the original starts, is hardly moved by a short training


def initial_params(config: Config, key: Array) -> Params:
    """Random, but the trunk begins as simple as it can be, and prompts look where they point from the first step.

    The trunk's channel mixers add nothing to what passes them until they have learnt what to add. Where the decoder's
    tokens and its image attend to each other, queries and keys start as the same projection, larger than usual: what
    is in the same place matches. Two random ones take hundreds of steps to find that out.
    """
    params: dict[Any, Any] = flatten_dict(init_params(config, key))
    for path in params:
        if path[-1] == "gamma":
            params[path] = jnp.full_like(params[path], LAYER_SCALE)
        if path[-4:] in CLOSED:
            params[path] = jnp.zeros_like(params[path])
        if path[-3:-1] in [(name, "k_proj") for name in CROSSINGS] and path[-1] == "kernel":
            params[path] = GAIN * params[path]
            params[*path[:-2], "q_proj", "kernel"] = params[path]
    return unflatten_dict(params)


def fit_memory(params: Params, deviation: float) -> Params:
    """Untrained parts for memory, as large as the image embedding of a network that has learnt images only.

    That embedding's `deviation` is what training made it. What memory adds to it, and the norm after that, begin at 1:
    hidden in a large one, and far from what the decoder is used to, they learn nothing for thousands of steps.
    """
    flat: dict[Any, Any] = flatten_dict(params)
    for path in flat:
        if path[0] == "memory_attention" and (path[-2] in ("out_proj", "linear2") or path[1] == "norm"):
            flat[path] = flat[path] * deviation
        if path[:2] == ("memory_encoder", "pix_feat_proj") and path[-1] == "kernel":
            flat[path] = flat[path] / deviation
    return unflatten_dict(flat)
