"""The memory encoder: image embedding and mask become one map of memory features."""

import itertools

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from edgetam_jax.config import MASK_STRIDE, Config
from edgetam_jax.nn.layer_norm import CHANNEL_NORM_EPS, LayerNorm
from edgetam_jax.nn.layers import Conv, Linear, fusion_barrier, gelu, packed_conv

MASK_CHANNELS = (1, 4, 16, 64, 256)
MLP_RATIO = 4


def upsample_packed(x: Array) -> Array:
    """Bilinear upsampling of [..., h, w] by four, each pixel's 4x4 tile as channels: [..., h, w, 16].

    The large image is never laid out: all that reads it reads the tiles.
    """

    def along(x: Array, axis: int) -> Array:
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

    rows = along(x, x.ndim - 2)  # [..., h, w, 4]
    tiles = along(rows, x.ndim - 1)  # [..., h, w, 4, 4]
    return tiles.reshape(*x.shape, MASK_STRIDE**2)


class MaskDownsampler(nn.Module):
    """Four convolutions of stride 2, from the model's input size to the embedding's."""

    config: Config

    def setup(self) -> None:
        # The original counts convolution, norm and GELU as three layers.
        for step, (inputs, features) in enumerate(itertools.pairwise(MASK_CHANNELS)):
            setattr(self, f"encoder_{3 * step}", Conv(inputs, features, size=3, stride=2))
            setattr(self, f"encoder_{3 * step + 1}", LayerNorm(features, CHANNEL_NORM_EPS))
        self.encoder_12 = Conv(MASK_CHANNELS[-1], self.config.hidden_dim)

    def __call__(self, tiles: Array) -> Array:
        """A mask of the model's input size as 4x4 tiles [..., h, w, 16], to [..., H, W, C]."""
        x = tiles
        for step, block in enumerate((4, 2, 1, 1)):
            conv: Conv = getattr(self, f"encoder_{3 * step}")
            norm: LayerNorm = getattr(self, f"encoder_{3 * step + 1}")
            if block == 1:
                x = gelu(norm(conv(x)))
                continue
            packed = packed_conv(x, conv.kernel, block)
            x = packed.reshape(*packed.shape[:-1], -1, conv.features) + conv.bias
            x = gelu(norm(x)).reshape(packed.shape)
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

    def __call__(self, x: Array) -> Array:
        mixed = fusion_barrier(
            self.dwconv(x)
        )  # or the norm would take a part of its 49 taps, and a dozen copies of x for that
        return x + self.gamma * self.pwconv2(gelu(self.pwconv1(self.norm(mixed))))


class Fuser(nn.Module):
    config: Config

    def setup(self) -> None:
        self.layers = [ConvNeXtBlock(self.config.hidden_dim) for _ in range(self.config.memory_encoder.fuser_layers)]

    def __call__(self, x: Array) -> Array:
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

    def __call__(self, embedding: Array, logits: Array, from_prompt: Array | bool) -> Array:
        """The embedding [..., H, W, C] and mask logits [..., h, w] to memory features [..., H, W, D].

        Masks that answer a prompt (`from_prompt` [...]) enter as black and white, tracked ones as they are.
        """
        config = self.config.memory_encoder
        tiles = upsample_packed(logits)
        prompted = jnp.broadcast_to(jnp.asarray(from_prompt), logits.shape[:-2])[..., None, None, None]
        mask = jnp.where(prompted, (tiles > 0).astype(tiles.dtype), nn.sigmoid(tiles))
        mask = mask * config.sigmoid_scale + config.sigmoid_bias
        mask = self.mask_downsampler(mask.astype(embedding.dtype))
        return self.out_proj(self.fuser(self.pix_feat_proj(embedding) + mask))
