"""The two-way transformer: prompt tokens and image positions attend to each other in turn."""

import flax.linen as nn
from jax import Array

from edgetam_jax.config import Config
from edgetam_jax.nn.attention import Attention
from edgetam_jax.nn.layer_norm import LayerNorm
from edgetam_jax.nn.layers import MLP


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
        self, tokens: Array, image: Array, token_position: Array, image_position: Array, valid: Array
    ) -> tuple[Array, Array]:
        if self.first:  # neither position nor residual: the tokens are their own positions
            tokens = self.self_attn(tokens, tokens, tokens, valid)
        else:
            q = tokens + token_position
            tokens = tokens + self.self_attn(q, q, tokens, valid)
        tokens = self.norm1(tokens)
        keys = image + image_position
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_position, keys, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        back = self.cross_attn_image_to_token(keys, tokens + token_position, tokens, valid)
        return tokens, self.norm4(image + back)


class TwoWayTransformer(nn.Module):
    config: Config

    def setup(self) -> None:
        dim, decoder = self.config.hidden_dim, self.config.decoder
        self.layers = [TwoWayLayer(self.config, first=i == 0) for i in range(decoder.layers)]
        self.final_attn_token_to_image = Attention(dim, decoder.heads, dim // 2)
        self.norm_final_attn = LayerNorm(dim)

    def __call__(self, tokens: Array, valid: Array, image: Array, image_position: Array) -> tuple[Array, Array]:
        """Tokens [..., P, C] with their validity and the image [..., H * W, C] to both, having seen each other."""
        position = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, position, image_position, valid)
        found = self.final_attn_token_to_image(tokens + position, image + image_position, image)
        return self.norm_final_attn(tokens + found), image
