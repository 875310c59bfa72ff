"""The image encoder: the RepViT trunk and a feature pyramid, of which one level and two laterals are used."""

import flax.linen as nn
from einops import repeat
from jaxtyping import Array, Float

from edgetam_jax.config import Config
from edgetam_jax.nn.layers import Conv
from edgetam_jax.nn.repvit import RepViT


class Trunk(nn.Module):
    config: Config

    def setup(self) -> None:
        self.body = RepViT(self.config.trunk)

    def __call__(self, pixels: Float[Array, "*b S S 3"]) -> list[Float[Array, "*b _ _ _"]]:
        return self.body(pixels)


class Lateral(nn.Module):
    inputs: int
    features: int

    def setup(self) -> None:
        self.conv = Conv(self.inputs, self.features)

    def __call__(self, x: Float[Array, "*b y x i"]) -> Float[Array, "*b y x C"]:
        return self.conv(x)


class Neck(nn.Module):
    """Lateral 1x1 convolutions, the coarsest first; only the two coarsest levels are summed."""

    config: Config

    def setup(self) -> None:
        self.convs = [Lateral(width, self.config.hidden_dim) for width in reversed(self.config.trunk.widths)]

    def __call__(
        self, fine: Float[Array, "*b H W c1"], coarse: Float[Array, "*b H//2 W//2 c2"]
    ) -> Float[Array, "*b H W C"]:
        """Maps of stride 16 and 32 to the image embedding, of stride 16."""
        coarse = self.convs[0](coarse)
        upsampled = repeat(coarse, "... y x c -> ... (y 2) (x 2) c")  # nearest neighbour
        return self.convs[1](fine) + upsampled


class ImageEncoder(nn.Module):
    config: Config

    def setup(self) -> None:
        self.trunk = Trunk(self.config)
        self.neck = Neck(self.config)
