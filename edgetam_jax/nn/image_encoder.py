"""The image encoder: the RepViT trunk and a feature pyramid, of which one level and two laterals are used."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from edgetam_jax.config import Config
from edgetam_jax.nn.layers import Conv
from edgetam_jax.nn.repvit import RepViT


class Trunk(nn.Module):
    config: Config

    def setup(self) -> None:
        self.body = RepViT(self.config.trunk)

    def __call__(self, pixels: Array) -> list[Array]:
        return self.body(pixels)


class Lateral(nn.Module):
    inputs: int
    features: int

    def setup(self) -> None:
        self.conv = Conv(self.inputs, self.features)

    def __call__(self, x: Array) -> Array:
        return self.conv(x)


class Neck(nn.Module):
    """Lateral 1x1 convolutions, the coarsest first; only the two coarsest levels are summed."""

    config: Config

    def setup(self) -> None:
        self.convs = [Lateral(width, self.config.hidden_dim) for width in reversed(self.config.trunk.widths)]

    def __call__(self, fine: Array, coarse: Array) -> Array:
        """Maps of stride 16 and 32 to the image embedding, of stride 16."""
        coarse = self.convs[0](coarse)
        doubled = jnp.repeat(jnp.repeat(coarse, 2, -3), 2, -2)  # nearest
        return self.convs[1](fine) + doubled


class ImageEncoder(nn.Module):
    config: Config

    def setup(self) -> None:
        self.trunk = Trunk(self.config)
        self.neck = Neck(self.config)
