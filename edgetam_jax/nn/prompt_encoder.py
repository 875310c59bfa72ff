"""The prompt encoder: points (a box is two of them) become tokens, a mask becomes a map."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from edgetam_jax.config import Config
from edgetam_jax.nn.layer_norm import CHANNEL_NORM_EPS, LayerNorm
from edgetam_jax.nn.layers import Conv, gelu
from edgetam_jax.nn.position import fourier_encoding, fourier_grid
from edgetam_jax.types import Label, PromptTokens

MASK_CHANNELS = (1, 4, 16)


class RandomPosition(nn.Module):
    """Random Fourier features; the Gaussian is stored with the weights."""

    features: int

    def setup(self) -> None:
        shape = (2, self.features // 2)
        self.matrix = self.param("positional_encoding_gaussian_matrix", nn.initializers.normal(1.0), shape)

    def __call__(self, coords: Array) -> Array:
        return fourier_encoding(coords, self.matrix)

    def grid(self, size: int) -> Array:
        return fourier_grid(size, self.matrix)


class PromptEncoder(nn.Module):
    config: Config

    def setup(self) -> None:
        dim = self.config.hidden_dim
        self.pe_layer = RandomPosition(dim)

        def embedding(name: str) -> Array:
            return self.param(name, nn.initializers.normal(1.0), (1, dim))

        self.not_a_point_embed = embedding("not_a_point_embed")
        self.point_embeddings = [embedding(f"point_embeddings_{label}") for label in range(4)]
        self.no_mask_embed = embedding("no_mask_embed")
        one, few, many = MASK_CHANNELS
        # The original counts its activations as layers: 2 and 5 are GELUs.
        self.mask_downscaling_0 = Conv(one, few, size=2, stride=2)
        self.mask_downscaling_1 = LayerNorm(few, CHANNEL_NORM_EPS)
        self.mask_downscaling_3 = Conv(few, many, size=2, stride=2)
        self.mask_downscaling_4 = LayerNorm(many, CHANNEL_NORM_EPS)
        self.mask_downscaling_6 = Conv(many, dim)

    def points(self, coords: Array, labels: Array) -> PromptTokens:
        """Points (x, y) [..., P, 2] in pixels of the model's input, and their labels [..., P]."""
        coords = (coords + 0.5) / self.config.image_size
        kinds = jnp.concatenate([self.not_a_point_embed, *self.point_embeddings])  # rows -1, 0, 1, 2, 3
        index = labels - Label.NOT_A_POINT
        position = jnp.where((labels == Label.NOT_A_POINT)[..., None], 0, self.pe_layer(coords))
        tokens = position.astype(kinds.dtype) + kinds[jnp.clip(index, 0)]
        return PromptTokens(tokens, labels != Label.ABSENT)

    def mask(self, logits: Array) -> Array:
        """Mask logits [..., 4H, 4W] as a map [..., H, W, C]."""
        x = logits[..., None].astype(self.no_mask_embed.dtype)
        x = gelu(self.mask_downscaling_1(self.mask_downscaling_0(x)))
        x = gelu(self.mask_downscaling_4(self.mask_downscaling_3(x)))
        return self.mask_downscaling_6(x)

    def no_mask(self) -> Array:
        """What stands for the mask where none is given: [1, C], the same at every position."""
        return self.no_mask_embed

    def dense_position(self) -> Array:
        """[H, W, C]: the encoding of the image embedding's own positions."""
        return self.pe_layer.grid(self.config.embedding_size).astype(self.no_mask_embed.dtype)
