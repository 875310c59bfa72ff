"""Memory attention: the image embedding attends to itself, then to what is remembered of the object."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from edgetam_jax.config import Config
from edgetam_jax.nn.attention import ABSENT, scores_of, softmax
from edgetam_jax.nn.layer_norm import LayerNorm
from edgetam_jax.nn.layers import Linear, compose, einsum, matmul, relu
from edgetam_jax.nn.position import pair_order, rotary_angles, rotate, sine_encoding
from edgetam_jax.types import Memory

POSITION_WEIGHT = 0.1  # of the sine encoding that is added to the embedding at the entrance


class FrameQueries(NamedTuple):
    """Tokens before they attend to memory."""

    tokens: Array  # [..., H * W, C]
    queries: Array  # [..., H * W, C] that they will ask it


class RotaryAttention(nn.Module):
    """One head as wide as the embedding; `keys_dim` is the width of what is attended.

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

    def queries(self, x: Array) -> Array:
        """Scaled, rotated queries of the embedding's tokens [..., H * W, C]."""
        dim = self.config.hidden_dim
        return rotate(_in_pair_order(self.q_proj, x) * dim**-0.5, rotary_angles(self.config.embedding_size, dim))


class SelfAttention(RotaryAttention):
    def __call__(self, x: Array) -> Array:
        angles = rotary_angles(self.config.embedding_size, self.config.hidden_dim)
        scores = scores_of(self.queries(x), rotate(_in_pair_order(self.k_proj, x), angles))
        kernel, bias = compose(self.v_proj, self.out_proj)
        return matmul(softmax(scores).astype(x.dtype), matmul(x, kernel)) + bias


class CrossAttention(RotaryAttention):
    """Attention to a memory of two kinds of tokens: window latents, which have a place and are rotated, and global
    latents and pointers, which have none.

    Two exact rewrites keep the products narrow: values carry no position, so they are projected after the weighted
    sum; keys without rotation are not projected at all, their projection is applied to the queries instead.
    """

    def __call__(self, q: Array, memory: "MemoryKeys") -> Array:
        """What queries [..., H * W, C] find."""
        dim = self.config.hidden_dim
        order = pair_order(dim)
        windows = _in_pair_order(self.k_proj, memory.window_keys)  # [..., F, G * G, C]
        windows = rotate(windows, rotary_angles(self.config.perceiver.window_grid, dim))
        windows = windows.reshape(*windows.shape[:-3], -1, dim)
        kernel, bias = self.k_proj.kernel[:, order], self.k_proj.bias[order]
        scores = [
            scores_of(q, windows),
            scores_of(einsum("...c,dc->...d", q, kernel).astype(q.dtype), memory.other_keys)
            + matmul(q, bias)[..., None],
        ]
        scores = [
            jnp.where(valid[..., None, :], score, ABSENT)
            for score, valid in zip(scores, (memory.windows_valid, memory.others_valid), strict=True)
        ]
        # No gradient: what comes out does not depend on it.
        top = lax.stop_gradient(jnp.maximum(scores[0].max(-1, keepdims=True), scores[1].max(-1, keepdims=True)))
        weights = [jnp.exp(score - top) for score in scores]
        total = weights[0].sum(-1, keepdims=True) + weights[1].sum(-1, keepdims=True)
        weights = [weight.astype(q.dtype) for weight in weights]
        mixed = matmul(weights[0], memory.window_values) + matmul(weights[1], memory.other_values)
        mixed = mixed / total.astype(q.dtype)
        kernel, bias = compose(self.v_proj, self.out_proj)
        return matmul(mixed, kernel) + bias


def _in_pair_order(linear: Linear, x: Array) -> Array:
    order = pair_order(linear.features)
    return matmul(x, linear.kernel[:, order]) + linear.bias[order]


class MemoryKeys:
    """The tokens of a memory, sorted into those that are rotated and those that are not."""

    def __init__(self, memory: Memory, temporal: Array, config: Config) -> None:
        """`temporal` [rows, D] is the temporal embedding, which is added to the keys and not to the values."""
        grid, latents = config.perceiver.window_grid, config.perceiver.latents
        *lead, _, _, dim = memory.frames.shape
        # An invalid slot may hold anything, NaN too, and 0 * NaN is NaN: so its values are not used at all.
        held = jnp.where(memory.frames_valid[..., None, None], memory.frames, 0)
        time = temporal[memory.rows][..., None, :]  # [..., F, 1, D]
        place = jnp.asarray(sine_encoding(grid, dim).reshape(grid * grid, dim), held.dtype)
        everywhere, windows = held[..., :latents, :], held[..., latents:, :]
        pointers = jnp.where(memory.pointers_valid[..., None], memory.pointers, 0)
        pointers = pointers.reshape(*lead, -1, dim)  # each becomes several tokens, without any position

        def flat(x: Array) -> Array:
            return x.reshape(*lead, -1, dim)

        self.window_keys = windows + place + time
        self.window_values = flat(windows)
        self.windows_valid = jnp.repeat(memory.frames_valid, grid * grid, -1)
        self.other_keys = jnp.concatenate([flat(everywhere + time), pointers], -2)
        self.other_values = jnp.concatenate([flat(everywhere), pointers], -2)
        self.others_valid = jnp.concatenate(
            [
                jnp.repeat(memory.frames_valid, latents, -1),
                jnp.repeat(memory.pointers_valid, config.pointer_tokens, -1),
            ],
            -1,
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

    def self_attend(self, x: Array) -> FrameQueries:
        x = x + self.self_attn(self.norm1(x))
        return FrameQueries(x, self.cross_attn_image.queries(self.norm2(x)))

    def cross_attend(self, looked: FrameQueries, keys: MemoryKeys) -> Array:
        x = looked.tokens + self.cross_attn_image(looked.queries, keys)
        return x + self.linear2(relu(self.linear1(self.norm3(x))))


class MemoryAttention(nn.Module):
    """`look` is the part that depends on the frame alone: it is computed once a frame and shared by all objects."""

    config: Config

    def setup(self) -> None:
        self.layers = [MemoryAttentionLayer(self.config) for _ in range(self.config.memory_attention.layers)]
        self.norm = LayerNorm(self.config.hidden_dim)

    def self_attend(self, embedding: Array) -> FrameQueries:
        """[..., H, W, C] to what the first layer's attention to memory begins with."""
        *lead, height, width, dim = embedding.shape
        position = jnp.asarray(sine_encoding(height, dim), embedding.dtype)
        x = (embedding + POSITION_WEIGHT * position).reshape(*lead, height * width, dim)
        return self.layers[0].self_attend(x)

    def __call__(self, looked: FrameQueries, memory: Memory, temporal: Array) -> Array:
        """The embedding [..., H, W, C] that the decoder sees, given what `look` returned and the memory."""
        keys = MemoryKeys(memory, temporal, self.config)
        x = self.layers[0].cross_attend(looked, keys)
        for layer in self.layers[1:]:
            x = layer.cross_attend(layer.self_attend(x), keys)
        size = self.config.embedding_size
        return self.norm(x).reshape(*x.shape[:-2], size, size, x.shape[-1])
