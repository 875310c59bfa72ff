"""The mask decoder: four masks, an estimate of how good each is, and whether the object is there at all."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from edgetam_jax.config import Config, DecoderConfig
from edgetam_jax.nn.layer_norm import CHANNEL_NORM_EPS, LayerNorm
from edgetam_jax.nn.layers import MLP, Conv, UpConv, einsum, gelu
from edgetam_jax.nn.tiles import tiled, untiled
from edgetam_jax.nn.two_way import TwoWayTransformer
from edgetam_jax.types import ChosenMask, ImageFeatures, MaskPrediction, PromptTokens

MASKS = 4  # one for prompts that leave no doubt, three alternatives


class MaskDecoder(nn.Module):
    config: Config

    def setup(self) -> None:
        dim, iou_dim = self.config.hidden_dim, self.config.decoder.iou_dim
        self.transformer = TwoWayTransformer(self.config)

        def embedding(name: str, rows: int) -> Array:
            return self.param(name, nn.initializers.normal(1.0), (rows, dim))

        self.obj_score_token = embedding("obj_score_token", 1)
        self.iou_token = embedding("iou_token", 1)
        self.mask_tokens = embedding("mask_tokens", MASKS)
        self.conv_s0 = Conv(dim, dim // 8)
        self.conv_s1 = Conv(dim, dim // 4)
        self.output_upscaling_0 = UpConv(dim, dim // 4)
        self.output_upscaling_1 = LayerNorm(dim // 4, CHANNEL_NORM_EPS)
        self.output_upscaling_3 = UpConv(dim // 4, dim // 8)  # the original's layers 2 and 4 are GELUs
        self.output_hypernetworks_mlps = [MLP((dim, dim, dim, dim // 8)) for _ in range(MASKS)]
        self.iou_prediction_head = MLP((dim, iou_dim, iou_dim, MASKS))
        self.pred_obj_score_head = MLP((dim, dim, dim, 1))

    def __call__(
        self, features: ImageFeatures, dense: Array, image_position: Array, prompt: PromptTokens
    ) -> MaskPrediction:
        """`features` with memory or its absence mixed in; `dense` [..., H, W, C] is the mask prompt's map."""
        source = features.embedding + dense
        *lead, height, width, dim = source.shape
        own = jnp.concatenate([self.obj_score_token, self.iou_token, self.mask_tokens])
        own = jnp.broadcast_to(own, (*lead, *own.shape))
        sparse = jnp.broadcast_to(prompt.tokens, (*lead, *prompt.tokens.shape[-2:]))
        tokens = jnp.concatenate([own, sparse], -2)
        valid = jnp.concatenate([jnp.ones(own.shape[:-1], bool), jnp.broadcast_to(prompt.valid, sparse.shape[:-1])], -1)

        tokens, image = self.transformer(
            tokens, valid, source.reshape(*lead, height * width, dim), image_position.reshape(height * width, dim)
        )
        mask_tokens = tokens[..., 2 : 2 + MASKS, :]
        return MaskPrediction(
            logits=self._masks(mask_tokens, image.reshape(source.shape), features),
            ious=nn.sigmoid(self.iou_prediction_head(tokens[..., 1, :])),
            tokens=mask_tokens,
            score=self.pred_obj_score_head(tokens[..., 0, :])[..., 0],
        )

    def _masks(self, tokens: Array, image: Array, features: ImageFeatures) -> Array:
        """Logits [..., M, h, w]. Until the end, the pixels of a place are a tile of tiles: [..., H, W, 4, 4, C / 8]."""
        x = gelu(self.output_upscaling_1(self.output_upscaling_0(image) + tiled(features.stride8, 1)))
        x = gelu(self.output_upscaling_3(x) + tiled(features.stride4, 2))
        filters = jnp.stack([mlp(tokens[..., i, :]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], -2)
        return jnp.moveaxis(untiled(einsum("...hwabc,...mc->...hwabm", x, filters), 2), -1, -3)


def stability(logits: Array, delta: float) -> Array:
    """Share of a mask's area [..., h, w] that survives raising the threshold from -delta to +delta."""
    inner = (logits > delta).sum((-2, -1))
    outer = (logits > -delta).sum((-2, -1))
    return jnp.where(outer > 0, inner / jnp.maximum(outer, 1), 1.0)


def select_mask(prediction: MaskPrediction, multimask: Array | bool, config: DecoderConfig) -> ChosenMask:
    """One mask of the four.

    Where `multimask` [...] holds, the best of the three alternatives; elsewhere the first mask, unless it is
    unstable: then the best alternative's mask and estimate, with the first mask's token.
    """
    logits, ious, tokens, score = prediction
    best = 1 + jnp.argmax(ious[..., 1:], -1)
    unstable = stability(logits[..., 0, :, :], config.stability_delta) < config.stability_threshold
    multimask = jnp.broadcast_to(jnp.asarray(multimask), best.shape)
    mask = jnp.where(multimask | unstable, best, 0)
    token = jnp.where(multimask, best, 0)
    return ChosenMask(
        logits=jnp.take_along_axis(logits, mask[..., None, None, None], -3)[..., 0, :, :],
        iou=jnp.take_along_axis(ious, mask[..., None], -1)[..., 0],
        token=jnp.take_along_axis(tokens, token[..., None, None], -2)[..., 0, :],
        score=score,
    )
