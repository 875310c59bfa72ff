"""The memory encoder: image embedding and mask become one map of memory features."""

import itertools
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Bool, Float

from edgetam_jax.config import Config
from edgetam_jax.nn.folding import derived
from edgetam_jax.nn.kernels import fusion_barrier, gelu, pack_kernel, packed_conv
from edgetam_jax.nn.layers import CHANNEL_NORM_EPS, Conv, LayerNorm, Linear

MASK_CHANNELS = (1, 4, 16, 64, 256)
MLP_RATIO = 4


def upsample_packed(x: Float[Array, "*b h w"]) -> Float[Array, "*b h w 16"]:
    """Bilinear upsampling by four, with the 4x4 tile of each pixel as channels.

    The large image is never stored: everything that reads it reads the tiles.
    """

    def along(x: Float[Array, "*shape"], axis: int) -> Float[Array, "*shape 4"]:
        pad, length = [(0, 0)] * x.ndim, x.shape[axis]
        pad[axis] = (1, 1)
        x = jnp.pad(x, pad, mode="edge")
        before, here, after = (lax.slice_in_dim(x, i, i + length, axis=axis) for i in range(3))
        return jnp.stack(
            [
                0.375 * before + 0.625 * here,
                0.125 * before + 0.875 * here,
                0.875 * here + 0.125 * after,
                0.625 * here + 0.375 * after,
            ],
            -1,
        )

    tiles = along(along(x, x.ndim - 2), x.ndim - 1)
    return rearrange(tiles, "... h w y x -> ... h w (y x)")


class MaskDownsampler(nn.Module):
    """Four convolutions of stride 2, from the model's input size to the embedding's."""

    config: Config

    def setup(self) -> None:
        # The original counts convolution, norm and GELU as three layers.
        for step, (inputs, features) in enumerate(itertools.pairwise(MASK_CHANNELS)):
            setattr(self, f"encoder_{3 * step}", Conv(inputs, features, size=3, stride=2))
            setattr(self, f"encoder_{3 * step + 1}", LayerNorm(features, CHANNEL_NORM_EPS))
        self.encoder_12 = Conv(MASK_CHANNELS[-1], self.config.hidden_dim)

    def __call__(self, tiles: Float[Array, "*b h w 16"]) -> Float[Array, "*b H W C"]:
        """Features of a mask of the model's input size, given as 4x4 tiles."""
        x = tiles
        for step, block in enumerate((4, 2, 1, 1)):
            conv: Conv = getattr(self, f"encoder_{3 * step}")
            norm: LayerNorm = getattr(self, f"encoder_{3 * step + 1}")
            if block == 1:
                x = gelu(norm(conv(x)))
                continue
            packed = derived(conv, "packed", partial(pack_kernel, conv.kernel, block))
            x = rearrange(packed_conv(x, packed), "... (tile c) -> ... tile c", c=conv.features)
            x = gelu(norm(x + lax.broadcast_to_rank(conv.bias, x.ndim)))
            x = rearrange(x, "... tile c -> ... (tile c)")
        return self.encoder_12(x)


class ConvNeXtBlock(nn.Module):
    features: int

    def setup(self) -> None:
        dim = self.features
        self.dwconv = Conv(dim, dim, size=7, depthwise=True)
        self.norm = LayerNorm(dim, CHANNEL_NORM_EPS)
        self.pwconv1 = Linear(dim, MLP_RATIO * dim)
        self.pwconv2 = Linear(MLP_RATIO * dim, dim)
        self.gamma = self.param("gamma", nn.initializers.constant(1e-6), (dim,))

    def __call__(self, x: Float[Array, "*b H W C"]) -> Float[Array, "*b H W C"]:
        # Without the barrier, XLA fuses some of the 49 taps into the norm and stores a dozen copies of x for that.
        mixed = fusion_barrier(self.dwconv(x))
        gamma = lax.broadcast_to_rank(self.gamma, x.ndim)
        return x + gamma * self.pwconv2(gelu(self.pwconv1(self.norm(mixed))))


class Fuser(nn.Module):
    config: Config

    def setup(self) -> None:
        self.layers = [ConvNeXtBlock(self.config.hidden_dim) for _ in range(self.config.memory_encoder.fuser_layers)]

    def __call__(self, x: Float[Array, "*b H W C"]) -> Float[Array, "*b H W C"]:
        for layer in self.layers:
            x = layer(x)
        return x


class MemoryEncoder(nn.Module):
    config: Config

    def setup(self) -> None:
        dim = self.config.hidden_dim
        self.mask_downsampler = MaskDownsampler(self.config)
        self.pix_feat_proj = Conv(dim, dim)
        self.fuser = Fuser(self.config)
        self.out_proj = Conv(dim, self.config.memory_dim)

    def __call__(
        self,
        embedding: Float[Array, "*#b H W C"],
        logits: Float[Array, "*b h w"],
        from_prompt: Bool[Array, "..."] | bool,
    ) -> Float[Array, "*b H W D"]:
        """Memory features of an image embedding and mask logits.

        Where `from_prompt` [...] is True, the mask is binarized; elsewhere it enters as the sigmoid of its logits.
        """
        config = self.config.memory_encoder
        tiles = upsample_packed(logits)
        prompted = jnp.broadcast_to(jnp.asarray(from_prompt), logits.shape[:-2])[..., None, None, None]
        mask = jnp.where(prompted, (tiles > 0).astype(tiles.dtype), nn.sigmoid(tiles))
        mask = mask * config.sigmoid_scale + config.sigmoid_bias
        mask = self.mask_downsampler(mask.astype(embedding.dtype))
        return self.out_proj(self.fuser(self.pix_feat_proj(embedding) + mask))
