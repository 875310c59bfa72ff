"""The spatial perceiver: a memory map becomes a few tokens, some that see everything, some that see a window each."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from edgetam_jax.config import Config
from edgetam_jax.nn.attention import scores_of, softmax
from edgetam_jax.nn.layer_norm import LayerNorm
from edgetam_jax.nn.layers import Linear, gelu, matmul
from edgetam_jax.nn.position import sine_encoding
from edgetam_jax.nn.tiles import space_to_depth

FF_MULT = 4


class LatentAttention(nn.Module):
    """One head; projections without bias, keys and values from one matrix."""

    features: int

    def setup(self) -> None:
        self.to_q = Linear(self.features, self.features, use_bias=False)
        self.to_kv = Linear(self.features, 2 * self.features, use_bias=False)
        self.to_out = Linear(self.features, self.features, use_bias=False)

    def attend(self, q: Array, x: Array, position: Array | float = 0.0) -> Array:
        """`position` goes to keys and values alike, after their projection."""
        k, v = jnp.split(self.to_kv(x), 2, -1)
        scores = scores_of(self.to_q(q) * self.features**-0.5, k + position)
        return self.to_out(matmul(softmax(scores).astype(v.dtype), v + position))


class CrossAttention(LatentAttention):
    def setup(self) -> None:
        super().setup()
        self.norm_x = LayerNorm(self.features)
        self.norm_latents = LayerNorm(self.features)

    def __call__(self, latents: Array, x: Array, position: Array | float = 0.0) -> Array:
        return self.attend(self.norm_latents(latents), self.norm_x(x), position)


class SelfAttention(LatentAttention):
    def setup(self) -> None:
        super().setup()
        self.norm = LayerNorm(self.features)

    def __call__(self, latents: Array) -> Array:
        x = self.norm(latents)
        return self.attend(x, x)

    def single_token(self, latents: Array) -> Array:
        """The same for a latent that has only itself to attend to: its own value."""
        _, v = jnp.split(self.to_kv(self.norm(latents)), 2, -1)
        return self.to_out(v)


class PerceiverLayer(nn.Module):
    features: int

    def setup(self) -> None:
        dim = self.features

        def feed_forward(name: str) -> None:  # layer 2 of the original's sequence is the GELU
            setattr(self, f"{name}_0", LayerNorm(dim))
            setattr(self, f"{name}_1", Linear(dim, FF_MULT * dim, use_bias=False))
            setattr(self, f"{name}_3", Linear(FF_MULT * dim, dim, use_bias=False))

        self.attn = CrossAttention(dim)
        feed_forward("ff")
        self.self_attn = SelfAttention(dim)
        feed_forward("self_ff")

    def all_to_all(self, latents: Array, x: Array, position: Array) -> Array:
        latents = latents + self.attn(latents, x, position)
        latents = latents + self._feed_forward("ff", latents)
        latents = latents + self.self_attn(latents)
        return latents + self._feed_forward("self_ff", latents)

    def one_a_window(self, latents: Array, windows: Array) -> Array:
        """Latents [..., G * G, 1, D] that each see the cells of one window, [..., G * G, cells, D]."""
        latents = latents + self.attn(latents, windows)
        latents = latents + self._feed_forward("ff", latents)
        latents = latents + self.self_attn.single_token(latents)
        return latents + self._feed_forward("self_ff", latents)

    def _feed_forward(self, name: str, x: Array) -> Array:
        norm, up, down = (getattr(self, f"{name}_{i}") for i in (0, 1, 3))
        return down(gelu(up(norm(x))))


class SpatialPerceiver(nn.Module):
    config: Config

    def setup(self) -> None:
        dim, config = self.config.memory_dim, self.config.perceiver
        self.latents = self.param("latents", nn.initializers.normal(1.0), (config.latents, dim))
        self.latents_2d = self.param("latents_2d", nn.initializers.normal(1.0), (config.window_grid**2, dim))
        self.layers = [PerceiverLayer(dim) for _ in range(config.layers)]
        self.norm = LayerNorm(dim)

    def __call__(self, memory: Array) -> Array:
        """Memory features [..., H, W, D] to tokens [..., L, D]: the global ones, then the windows row by row."""
        *lead, height, width, dim = memory.shape
        grid = self.config.perceiver.window_grid
        position = jnp.asarray(sine_encoding(height, dim).reshape(height * width, dim), memory.dtype)
        cells = memory.reshape(*lead, height * width, dim)
        windows = space_to_depth(memory, height // grid).reshape(*lead, grid * grid, -1, dim)

        everywhere = jnp.broadcast_to(self.latents, (*lead, *self.latents.shape))
        placed = jnp.broadcast_to(self.latents_2d[:, None], (*lead, grid * grid, 1, dim))
        for layer in self.layers:
            everywhere = layer.all_to_all(everywhere, cells, position)
            placed = layer.one_a_window(placed, windows)
        return self.norm(jnp.concatenate([everywhere, placed[..., 0, :]], -2))
