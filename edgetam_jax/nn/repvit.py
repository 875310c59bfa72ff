"""RepViT, the image trunk: depthwise convolutions mix positions, pointwise ones mix channels."""

import flax.linen as nn
import jax
from einops import rearrange, reduce
from jax import lax
from jaxtyping import Array, Float

from edgetam_jax.config import TrunkConfig
from edgetam_jax.nn.folding import derived
from edgetam_jax.nn.kernels import gelu, linear
from edgetam_jax.nn.layers import Conv, ConvNorm
from edgetam_jax.nn.wide import WideWeights, wide_conv, widen

MLP_RATIO = 2
IMAGE_CHANNELS = 3
# Columns that the stem's two convolutions take as channels. More of them are more multiplications, by zeros.
CPU_BLOCKS, BLOCKS = (2, 1), (8, 4)


class Stem(nn.Module):
    features: int

    def setup(self) -> None:
        self.conv1 = ConvNorm(IMAGE_CHANNELS, self.features // 2, size=3, stride=2)
        self.conv2 = ConvNorm(self.features // 2, self.features, size=3, stride=2)

    def __call__(self, x: Float[Array, "*b y x c"]) -> Float[Array, "*b y2 x2 c2"]:
        forms = derived(self, "wide", lambda: [self._widened(*blocks) for blocks in (CPU_BLOCKS, BLOCKS)])
        return lax.platform_dependent(
            x,
            *forms,
            cpu=lambda x, few, many: wide_stem(x, few, CPU_BLOCKS),
            default=lambda x, few, many: wide_stem(x, many, BLOCKS),
        )

    def _widened(self, first: int, second: int) -> list[WideWeights]:
        layers = (self.conv1, first), (self.conv2, second)
        weights = []
        for conv, block in layers:
            kernel, bias = conv.c.cast(*conv.folded())
            weights.append(widen(kernel, bias, block))
        return weights


def wide_stem(
    x: Float[Array, "*b y x c"], weights: list[WideWeights], blocks: tuple[int, int]
) -> Float[Array, "*b y2 x2 c2"]:
    """Both convolutions on blocks of columns, the second with blocks of the first one's output."""
    first, second = blocks
    x = wide_conv(rearrange(x, "... (x block) c -> ... x (block c)", block=first), weights[0])
    x = rearrange(gelu(x), "... x (blocks c) -> ... (x blocks) c", blocks=first // 2 // second)
    return rearrange(wide_conv(x, weights[1]), "... x (block c) -> ... (x block) c", block=max(second // 2, 1))


class TokenMixer(nn.Module):
    """A 3x3 and a 1x1 depthwise branch, each with its BatchNorm, and the identity, as one depthwise convolution."""

    features: int

    def setup(self) -> None:
        self.conv = ConvNorm(self.features, self.features, size=3, depthwise=True)
        self.conv1 = ConvNorm(self.features, self.features, depthwise=True)

    def folded(self) -> tuple[Float[Array, "3 3 1 c"], Float[Array, "c"]]:
        """Kernel and bias of the folded convolution, in float32."""
        kernel, bias = self.conv.folded()
        centre, shift = self.conv1.folded()
        return kernel.at[1, 1].add(centre[0, 0] + 1), bias + shift

    def __call__(self, x: Float[Array, "*b y x c"]) -> Float[Array, "*b y x c"]:
        conv = self.conv.c
        return conv.with_weights(x, *derived(self, "conv", lambda: conv.cast(*self.folded())))


class SqueezeExcite(nn.Module):
    features: int

    def setup(self) -> None:
        reduced = max(8, int(self.features / 4 + 4) // 8 * 8)  # a quarter, to the nearest multiple of 8, halves up
        self.fc1 = Conv(self.features, reduced)
        self.fc2 = Conv(reduced, self.features)

    def __call__(self, x: Float[Array, "*b y x c"]) -> Float[Array, "*b y x c"]:
        weights = (layer.cast(layer.kernel[0, 0], layer.bias) for layer in (self.fc1, self.fc2))
        return squeeze_excite(x, *weights)


Product = tuple[Array, Array]  # a kernel [I, O] and a bias [O]


@jax.jit
def squeeze_excite(x: Float[Array, "*b y x c"], first: Product, second: Product) -> Float[Array, "*b y x c"]:
    """Scales each channel by a number that two products make of all channels' means."""
    gate = reduce(x, "... y x c -> ... 1 1 c", "mean")
    for (kernel, bias), activation in ((first, nn.relu), (second, nn.sigmoid)):
        gate = activation(linear(gate, kernel, bias))
    return x * gate


class ChannelMixer(nn.Module):
    features: int

    def setup(self) -> None:
        self.conv1 = ConvNorm(self.features, MLP_RATIO * self.features)
        self.conv2 = ConvNorm(MLP_RATIO * self.features, self.features)

    def __call__(self, x: Float[Array, "*b y x c"]) -> Float[Array, "*b y x c"]:
        return x + self.conv2(gelu(self.conv1(x)))


class Block(nn.Module):
    features: int
    squeeze: bool

    def setup(self) -> None:
        self.token_mixer = TokenMixer(self.features)
        if self.squeeze:
            self.se = SqueezeExcite(self.features)
        self.channel_mixer = ChannelMixer(self.features)

    def __call__(self, x: Float[Array, "*b y x c"]) -> Float[Array, "*b y x c"]:
        x = self.token_mixer(x)
        if self.squeeze:
            x = self.se(x)
        return self.channel_mixer(x)


class Downsample(nn.Module):
    inputs: int
    features: int

    def setup(self) -> None:
        self.pre_block = Block(self.inputs, squeeze=False)
        self.spatial_downsample = ConvNorm(self.inputs, self.inputs, size=3, stride=2, depthwise=True)
        self.channel_downsample = ConvNorm(self.inputs, self.features)
        self.ffn = ChannelMixer(self.features)

    def __call__(self, x: Float[Array, "*b y x c"]) -> Float[Array, "*b y2 x2 c2"]:
        x = self.channel_downsample(self.spatial_downsample(self.pre_block(x)))
        return self.ffn(x)


class Stage(nn.Module):
    inputs: int
    features: int
    depth: int
    halve: bool

    def setup(self) -> None:
        if self.halve:
            self.downsample = Downsample(self.inputs, self.features)
        self.blocks = [Block(self.features, squeeze=i % 2 == 0) for i in range(self.depth)]

    def __call__(self, x: Float[Array, "*b y x c"]) -> Float[Array, "*b y2 x2 c2"]:
        if self.halve:
            x = self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class RepViT(nn.Module):
    """Pixels to four maps of stride 4, 8, 16 and 32."""

    config: TrunkConfig

    def setup(self) -> None:
        widths = self.config.widths
        self.stem = Stem(widths[0])
        self.stages = [
            Stage(widths[max(i - 1, 0)], widths[i], depth, halve=i > 0) for i, depth in enumerate(self.config.depths)
        ]

    def __call__(self, pixels: Float[Array, "*b S S 3"]) -> list[Float[Array, "*b _ _ _"]]:
        x, maps = self.stem(pixels), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
