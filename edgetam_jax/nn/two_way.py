"""The two-way transformer: prompt tokens and image positions attend to each other in turn."""

import flax.linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float

from edgetam_jax.config import Config
from edgetam_jax.nn.attention import Attention
from edgetam_jax.nn.layers import MLP, LayerNorm


class TwoWayLayer(nn.Module):
    config: Config
    first: bool

    def setup(self) -> None:
        dim, heads = self.config.hidden_dim, self.config.decoder.heads
        self.self_attn = Attention(dim, heads, dim)
        self.norm1 = LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads, dim // 2)
        self.norm2 = LayerNorm(dim)
        self.mlp = MLP((dim, self.config.decoder.mlp_dim, dim))
        self.norm3 = LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads, dim // 2)
        self.norm4 = LayerNorm(dim)

    def __call__(
        self,
        tokens: Float[Array, "*b P C"],
        image: Float[Array, "*b HW C"],
        token_position: Float[Array, "*b P C"],
        image_position: Float[Array, "*#b HW C"],
        valid: Bool[Array, "*b P"],
    ) -> tuple[Float[Array, "*b P C"], Float[Array, "*b HW C"]]:
        if self.first:  # neither position nor residual: the tokens are their own positions
            tokens = self.self_attn(tokens, tokens, tokens, valid)
        else:
            q = tokens + token_position
            tokens = tokens + self.self_attn(q, q, tokens, valid)
        tokens = self.norm1(tokens)
        keys = image + image_position
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_position, keys, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        attended = self.cross_attn_image_to_token(keys, tokens + token_position, tokens, valid)
        return tokens, self.norm4(image + attended)


class TwoWayTransformer(nn.Module):
    config: Config

    def setup(self) -> None:
        dim, decoder = self.config.hidden_dim, self.config.decoder
        self.layers = [TwoWayLayer(self.config, first=i == 0) for i in range(decoder.layers)]
        self.final_attn_token_to_image = Attention(dim, decoder.heads, dim // 2)
        self.norm_final_attn = LayerNorm(dim)

    def __call__(
        self,
        tokens: Float[Array, "*b P C"],
        valid: Bool[Array, "*b P"],
        image: Float[Array, "*b HW C"],
        image_position: Float[Array, "HW C"],
    ) -> tuple[Float[Array, "*b P C"], Float[Array, "*b HW C"]]:
        """Tokens and image positions after attention to each other. Tokens that are not `valid` are not attended to."""
        token_position = tokens
        image_position = lax.broadcast_to_rank(image_position, image.ndim)
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_position, image_position, valid)
        attended = self.final_attn_token_to_image(tokens + token_position, image + image_position, image)
        return self.norm_final_attn(tokens + attended), image
