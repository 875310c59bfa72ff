"""Memory attention: the image embedding attends to itself, then to the memory of an object."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, repeat
from jax import lax
from jaxtyping import Array, Bool, Float

from edgetam_jax.config import Config
from edgetam_jax.nn.attention import MASKED_SCORE, dot_product_scores, softmax
from edgetam_jax.nn.folding import derived
from edgetam_jax.nn.kernels import einsum, linear, matmul, relu
from edgetam_jax.nn.layers import LayerNorm, Linear, compose
from edgetam_jax.nn.position import pair_order, rotary_angles, rotate, sine_encoding
from edgetam_jax.types import Memory

POSITION_WEIGHT = 0.1  # of the sine encoding that is added to the embedding before the first layer


class FrameQueries(NamedTuple):
    """A frame's tokens before they attend to memory."""

    tokens: Float[Array, "*b HW C"]
    queries: Float[Array, "*b HW C"]  # for the attention to memory: scaled and rotated


class MemoryKeys(NamedTuple):
    """The tokens of a memory, sorted into those that are rotated and those that are not."""

    window_keys: Float[Array, "*b F windows D"]
    window_values: Float[Array, "*b F*windows D"]
    windows_valid: Bool[Array, "*b F*windows"]
    other_keys: Float[Array, "*b others D"]
    other_values: Float[Array, "*b others D"]
    others_valid: Bool[Array, "*b others"]


class RotaryAttention(nn.Module):
    """Attention with one head as wide as the embedding and rotary positions; `keys_dim` is the width of the keys.

    Values and outputs are projected in one product, by the product of both projections.
    """

    config: Config
    keys_dim: int

    def setup(self) -> None:
        dim = self.config.hidden_dim
        self.q_proj = Linear(dim, dim)
        self.k_proj = Linear(self.keys_dim, dim)
        self.v_proj = Linear(self.keys_dim, dim)
        self.out_proj = Linear(dim, dim)

    def queries(self, x: Float[Array, "*b HW C"]) -> Float[Array, "*b HW C"]:
        """Scaled, rotated queries of the embedding's tokens."""
        dim = self.config.hidden_dim
        q = _project_in_pair_order(self.q_proj, x) * dim**-0.5
        return rotate(q, rotary_angles(self.config.embedding_size, dim))


class SelfAttention(RotaryAttention):
    def __call__(self, x: Float[Array, "*b HW C"]) -> Float[Array, "*b HW C"]:
        angles = rotary_angles(self.config.embedding_size, self.config.hidden_dim)
        scores = dot_product_scores(self.queries(x), rotate(_project_in_pair_order(self.k_proj, x), angles))
        kernel, bias = derived(self, "value_output", lambda: compose(self.v_proj, self.out_proj))
        out = matmul(softmax(scores).astype(x.dtype), matmul(x, kernel))
        return out + lax.broadcast_to_rank(bias, out.ndim)


class CrossAttention(RotaryAttention):
    """Attention to the two kinds of memory tokens: window latents, which have a position and are rotated, and global
    latents and pointers, which have none.

    Two exact rewrites keep the products narrow: values carry no position, so they are projected after the weighted
    sum; keys without rotation are not projected at all, their projection is applied to the queries instead.
    """

    def __call__(self, q: Float[Array, "*b HW C"], memory: MemoryKeys) -> Float[Array, "*b HW C"]:
        dim = self.config.hidden_dim
        windows = _project_in_pair_order(self.k_proj, memory.window_keys)
        windows = rotate(windows, rotary_angles(self.config.perceiver.window_grid, dim))
        window_scores = dot_product_scores(q, rearrange(windows, "... f n c -> ... (f n) c"))

        kernel, bias = _in_pair_order(self.k_proj)
        key_queries = einsum("...c,dc->...d", q, kernel).astype(q.dtype)
        other_scores = dot_product_scores(key_queries, memory.other_keys) + matmul(q, bias)[..., None]

        window_scores = jnp.where(memory.windows_valid[..., None, :], window_scores, MASKED_SCORE)
        other_scores = jnp.where(memory.others_valid[..., None, :], other_scores, MASKED_SCORE)
        # The softmax does not depend on what is subtracted, so no gradient is needed.
        top = jnp.maximum(window_scores.max(-1, keepdims=True), other_scores.max(-1, keepdims=True))
        top = lax.stop_gradient(top)
        window_weights, other_weights = jnp.exp(window_scores - top), jnp.exp(other_scores - top)
        total = window_weights.sum(-1, keepdims=True) + other_weights.sum(-1, keepdims=True)
        mixed = matmul(window_weights.astype(q.dtype), memory.window_values)
        mixed = mixed + matmul(other_weights.astype(q.dtype), memory.other_values)
        kernel, bias = derived(self, "value_output", lambda: compose(self.v_proj, self.out_proj))
        return linear(mixed / total.astype(q.dtype), kernel, bias)


def _project_in_pair_order(layer: Linear, x: Float[Array, "*b i"]) -> Float[Array, "*b C"]:
    return linear(x, *_in_pair_order(layer))


def _in_pair_order(layer: Linear) -> tuple[Float[Array, "i C"], Float[Array, "C"]]:
    order = pair_order(layer.features)
    return derived(layer, "in_pair_order", lambda: (layer.kernel[:, order], layer.bias[order]))


def memory_keys(memory: Memory, temporal: Float[Array, "rows D"], config: Config) -> MemoryKeys:
    """The keys and values of a memory; `temporal` is the temporal embedding, added to the keys only."""
    latents, windows = config.perceiver.latents, config.perceiver.window_grid**2
    dim = memory.frames.shape[-1]
    # An invalid slot may hold anything, NaN too, and 0 * NaN is NaN, so a weight of 0 would not be enough.
    frames = jnp.where(memory.frames_valid[..., None, None], memory.frames, 0)
    pointers = jnp.where(memory.pointers_valid[..., None], memory.pointers, 0)
    pointers = rearrange(pointers, "... n (t d) -> ... (n t) d", d=dim)  # several tokens each, without any position
    global_latents, window_latents = frames[..., :latents, :], frames[..., latents:, :]
    time = temporal[memory.rows][..., None, :]
    position = rearrange(sine_encoding(config.perceiver.window_grid, dim), "y x d -> (y x) d")
    position = lax.broadcast_to_rank(jnp.asarray(position, frames.dtype), frames.ndim)

    def flat(tokens: Float[Array, "*b F n D"]) -> Float[Array, "*b F*n D"]:
        return rearrange(tokens, "... f n d -> ... (f n) d")

    return MemoryKeys(
        window_keys=window_latents + position + time,
        window_values=flat(window_latents),
        windows_valid=repeat(memory.frames_valid, "... f -> ... (f n)", n=windows),
        other_keys=jnp.concatenate([flat(global_latents + time), pointers], -2),
        other_values=jnp.concatenate([flat(global_latents), pointers], -2),
        others_valid=jnp.concatenate(
            [
                repeat(memory.frames_valid, "... f -> ... (f n)", n=latents),
                repeat(memory.pointers_valid, "... n -> ... (n t)", t=config.pointer_tokens),
            ],
            -1,
        ),
    )


class MemoryAttentionLayer(nn.Module):
    config: Config

    def setup(self) -> None:
        dim = self.config.hidden_dim
        self.norm1 = LayerNorm(dim)
        self.self_attn = SelfAttention(self.config, dim)
        self.norm2 = LayerNorm(dim)
        self.cross_attn_image = CrossAttention(self.config, self.config.memory_dim)
        self.norm3 = LayerNorm(dim)
        self.linear1 = Linear(dim, self.config.memory_attention.mlp_dim)
        self.linear2 = Linear(self.config.memory_attention.mlp_dim, dim)

    def self_attend(self, x: Float[Array, "*b HW C"]) -> FrameQueries:
        x = x + self.self_attn(self.norm1(x))
        return FrameQueries(x, self.cross_attn_image.queries(self.norm2(x)))

    def cross_attend(self, frame: FrameQueries, keys: MemoryKeys) -> Float[Array, "*b HW C"]:
        x = frame.tokens + self.cross_attn_image(frame.queries, keys)
        return x + self.linear2(relu(self.linear1(self.norm3(x))))


class MemoryAttention(nn.Module):
    """`self_attend` depends on the frame alone: it is computed once per frame and shared by all objects."""

    config: Config

    def setup(self) -> None:
        self.layers = [MemoryAttentionLayer(self.config) for _ in range(self.config.memory_attention.layers)]
        self.norm = LayerNorm(self.config.hidden_dim)

    def self_attend(self, embedding: Float[Array, "*b H W C"]) -> FrameQueries:
        """The first layer up to its attention to memory."""
        position = jnp.asarray(sine_encoding(embedding.shape[-2], embedding.shape[-1]), embedding.dtype)
        x = embedding + POSITION_WEIGHT * lax.broadcast_to_rank(position, embedding.ndim)
        return self.layers[0].self_attend(rearrange(x, "... H W C -> ... (H W) C"))

    def __call__(
        self, frame: FrameQueries, memory: Memory, temporal: Float[Array, "rows D"]
    ) -> Float[Array, "*b H W C"]:
        """The embedding conditioned on memory, from what `self_attend` returned."""
        keys = memory_keys(memory, temporal, self.config)
        x = self.layers[0].cross_attend(frame, keys)
        for layer in self.layers[1:]:
            x = layer.cross_attend(layer.self_attend(x), keys)
        return rearrange(self.norm(x), "... (H W) C -> ... H W C", H=self.config.embedding_size)
