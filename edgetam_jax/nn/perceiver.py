"""The spatial perceiver: memory features become a few tokens, global ones and one for each window of the map."""

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float

from edgetam_jax.config import Config
from edgetam_jax.nn.attention import dot_product_scores, softmax
from edgetam_jax.nn.folding import derived
from edgetam_jax.nn.kernels import gelu, matmul
from edgetam_jax.nn.layers import LayerNorm, Linear
from edgetam_jax.nn.position import sine_encoding

FF_MULT = 4


class LatentAttention(nn.Module):
    """One head; projections without bias, keys and values from one matrix."""

    features: int

    def setup(self) -> None:
        self.to_q = Linear(self.features, self.features, use_bias=False)
        self.to_kv = Linear(self.features, 2 * self.features, use_bias=False)
        self.to_out = Linear(self.features, self.features, use_bias=False)

    def scaled_queries(self, x: Float[Array, "*b q D"]) -> Float[Array, "*b q D"]:
        return self.to_q(x) * self.features**-0.5

    def attend(
        self, queries: Float[Array, "*b q D"], x: Float[Array, "*b k D"], position: Float[Array, "k D"] | None = None
    ) -> Float[Array, "*b q D"]:
        """`position` is added to both keys and values, after their projection."""
        k, v = jnp.split(self.to_kv(x), 2, -1)
        if position is not None:
            position = lax.broadcast_to_rank(position, x.ndim)
            k, v = k + position, v + position
        scores = dot_product_scores(queries, k)
        return self.to_out(matmul(softmax(scores).astype(v.dtype), v))


class CrossAttention(LatentAttention):
    def setup(self) -> None:
        super().setup()
        self.norm_x = LayerNorm(self.features)
        self.norm_latents = LayerNorm(self.features)

    def queries(self, latents: Float[Array, "*b q D"]) -> Float[Array, "*b q D"]:
        return self.scaled_queries(self.norm_latents(latents))

    def __call__(
        self, queries: Float[Array, "*b q D"], x: Float[Array, "*b k D"], position: Float[Array, "k D"] | None = None
    ) -> Float[Array, "*b q D"]:
        return self.attend(queries, self.norm_x(x), position)


class SelfAttention(LatentAttention):
    def setup(self) -> None:
        super().setup()
        self.norm = LayerNorm(self.features)

    def __call__(self, latents: Float[Array, "*b q D"]) -> Float[Array, "*b q D"]:
        x = self.norm(latents)
        return self.attend(self.scaled_queries(x), x)

    def single_token(self, latents: Float[Array, "*b 1 D"]) -> Float[Array, "*b 1 D"]:
        """The same for a single latent, which attends to itself only: its own value."""
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

    def attend_globally(
        self,
        latents: Float[Array, "*b q D"],
        queries: Float[Array, "*b q D"],
        cells: Float[Array, "*b HW D"],
        position: Float[Array, "HW D"],
    ) -> Float[Array, "*b q D"]:
        """Latents that each attend to all cells, with `queries` made of them, then to each other."""
        latents = latents + self.attn(queries, cells, position)
        latents = latents + self._feed_forward("ff", latents)
        latents = latents + self.self_attn(latents)
        return latents + self._feed_forward("self_ff", latents)

    def attend_to_windows(
        self,
        latents: Float[Array, "*b windows 1 D"],
        queries: Float[Array, "*b windows 1 D"],
        windows: Float[Array, "*b windows cells D"],
    ) -> Float[Array, "*b windows 1 D"]:
        """Latents that each attend to the cells of one window, with `queries` made of them."""
        latents = latents + self.attn(queries, windows)
        latents = latents + self._feed_forward("ff", latents)
        latents = latents + self.self_attn.single_token(latents)
        return latents + self._feed_forward("self_ff", latents)

    def _feed_forward(self, name: str, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
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

    def __call__(self, memory: Float[Array, "*b H W D"]) -> Float[Array, "*b L D"]:
        """Memory features to tokens: the global ones, then those of the windows row by row."""
        *lead, height, _, dim = memory.shape
        grid = self.config.perceiver.window_grid
        position = jnp.asarray(rearrange(sine_encoding(height, dim), "y x d -> (y x) d"), memory.dtype)
        cells = rearrange(memory, "... H W D -> ... (H W) D")
        windows = rearrange(memory, "... (gy y) (gx x) D -> ... (gy gx) (y x) D", gy=grid, gx=grid)

        latents, first = (self.latents, self.latents_2d[:, None]), self.layers[0].attn
        queries = derived(self, "first_queries", lambda: [first.queries(x) for x in latents])
        queries = [jnp.broadcast_to(x, (*lead, *x.shape)) for x in queries]
        global_latents, window_latents = (jnp.broadcast_to(x, (*lead, *x.shape)) for x in latents)
        for index, layer in enumerate(self.layers):
            if index:
                queries = [layer.attn.queries(x) for x in (global_latents, window_latents)]
            global_latents = layer.attend_globally(global_latents, queries[0], cells, position)
            window_latents = layer.attend_to_windows(window_latents, queries[1], windows)
        return self.norm(jnp.concatenate([global_latents, window_latents[..., 0, :]], -2))
