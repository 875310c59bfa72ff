"""The prompt encoder: points (a box is two of them) become tokens, a mask becomes a map."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from edgetam_jax.config import Config
from edgetam_jax.nn.folding import derived
from edgetam_jax.nn.kernels import gelu
from edgetam_jax.nn.layers import CHANNEL_NORM_EPS, Conv, LayerNorm
from edgetam_jax.nn.position import fourier_encoding, fourier_grid
from edgetam_jax.types import Label, PromptTokens

MASK_CHANNELS = (1, 4, 16)


class RandomPosition(nn.Module):
    """Random Fourier features; the Gaussian is stored with the weights."""

    features: int

    def setup(self) -> None:
        shape = (2, self.features // 2)
        self.matrix = self.param("positional_encoding_gaussian_matrix", nn.initializers.normal(1.0), shape)

    def __call__(self, coords: Float[Array, "*b 2"]) -> Float[Array, "*b features"]:
        return fourier_encoding(coords, self.matrix)

    def grid(self, size: int) -> Float[Array, "size size features"]:
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
        inputs, few, many = MASK_CHANNELS
        # The original counts its activations as layers: 2 and 5 are GELUs.
        self.mask_downscaling_0 = Conv(inputs, few, size=2, stride=2)
        self.mask_downscaling_1 = LayerNorm(few, CHANNEL_NORM_EPS)
        self.mask_downscaling_3 = Conv(few, many, size=2, stride=2)
        self.mask_downscaling_4 = LayerNorm(many, CHANNEL_NORM_EPS)
        self.mask_downscaling_6 = Conv(many, dim)

    def points(self, coords: Float[Array, "*b P 2"], labels: Int[Array, "*b P"]) -> PromptTokens:
        """Tokens of points (x, y) in pixels of the model's input, with a `Label` each."""
        coords = (coords + 0.5) / self.config.image_size
        embeddings = jnp.concatenate([self.not_a_point_embed, *self.point_embeddings])  # of labels -1, 0, 1, 2, 3
        index = labels - Label.NOT_A_POINT
        position = jnp.where((labels == Label.NOT_A_POINT)[..., None], 0, self.pe_layer(coords))
        tokens = position.astype(embeddings.dtype) + embeddings[jnp.clip(index, 0)]
        return PromptTokens(tokens, labels != Label.ABSENT)

    def mask(self, logits: Float[Array, "*b h w"]) -> Float[Array, "*b H W C"]:
        """Mask logits as a map of the size of the image embedding, a quarter of theirs."""
        x = logits[..., None].astype(self.no_mask_embed.dtype)
        x = gelu(self.mask_downscaling_1(self.mask_downscaling_0(x)))
        x = gelu(self.mask_downscaling_4(self.mask_downscaling_3(x)))
        return self.mask_downscaling_6(x)

    def no_mask(self) -> Float[Array, "1 C"]:
        """The embedding that takes the place of a mask prompt: the same at every position."""
        return self.no_mask_embed

    def dense_position(self) -> Float[Array, "H W C"]:
        """The position encoding of the image embedding's cells."""
        size, dtype = self.config.embedding_size, self.no_mask_embed.dtype
        return derived(self, "dense_position", lambda: self.pe_layer.grid(size).astype(dtype))
