"""The mask decoder: four masks, an estimate of the quality of each, and whether the object is in the image."""

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from edgetam_jax.config import Config, DecoderConfig
from edgetam_jax.nn.kernels import einsum, gelu
from edgetam_jax.nn.layers import CHANNEL_NORM_EPS, MLP, Conv, LayerNorm, UpConv
from edgetam_jax.nn.tiles import tiled, untiled
from edgetam_jax.nn.two_way import TwoWayTransformer
from edgetam_jax.types import ChosenMask, ImageFeatures, MaskPrediction, PromptTokens

MASKS = 4  # one for unambiguous prompts, three alternatives


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
        self,
        features: ImageFeatures,
        dense: Float[Array, "*b H W C"],
        image_position: Float[Array, "H W C"],
        prompt: PromptTokens,
    ) -> MaskPrediction:
        """Masks of the object that a prompt marks.

        Args:
            features: Of the image; the embedding is already conditioned on memory, or has `no_mem_embed` added.
            dense: The map of the mask prompt.
            image_position: The position encoding of the embedding's cells.
            prompt: Tokens of the points, [..., P, C].

        Returns:
            Four masks with their estimates and tokens, and the object score.
        """
        source = features.embedding + dense
        *lead, height, width, _ = source.shape
        own = jnp.concatenate([self.obj_score_token, self.iou_token, self.mask_tokens])
        own = jnp.broadcast_to(own, (*lead, *own.shape))
        sparse = jnp.broadcast_to(prompt.tokens, (*lead, *prompt.tokens.shape[-2:]))
        tokens = jnp.concatenate([own, sparse], -2)
        valid = jnp.concatenate([jnp.ones(own.shape[:-1], bool), jnp.broadcast_to(prompt.valid, sparse.shape[:-1])], -1)

        tokens, cells = self.transformer(
            tokens, valid, rearrange(source, "... H W C -> ... (H W) C"), rearrange(image_position, "H W C -> (H W) C")
        )
        mask_tokens = tokens[..., 2 : 2 + MASKS, :]
        image = rearrange(cells, "... (H W) C -> ... H W C", H=height, W=width)
        return MaskPrediction(
            logits=self._masks(mask_tokens, image, features),
            ious=nn.sigmoid(self.iou_prediction_head(tokens[..., 1, :])),
            tokens=mask_tokens,
            score=self.pred_obj_score_head(tokens[..., 0, :])[..., 0],
        )

    def _masks(
        self, tokens: Float[Array, "*b masks C"], image: Float[Array, "*b H W C"], features: ImageFeatures
    ) -> Float[Array, "*b masks h w"]:
        """Logits. Until the end, the pixels of a cell are a tile of tiles: [..., H, W, 4, 4, C / 8]."""
        x = gelu(self.output_upscaling_1(self.output_upscaling_0(image) + tiled(features.stride8, 1)))
        x = gelu(self.output_upscaling_3(x) + tiled(features.stride4, 2))
        filters = jnp.stack([mlp(tokens[..., i, :]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], -2)
        logits = untiled(einsum("...hwabc,...mc->...hwabm", x, filters), 2)
        return rearrange(logits, "... h w masks -> ... masks h w")


def stability(logits: Float[Array, "*b h w"], delta: float) -> Float[Array, "*b"]:
    """Share of a mask's area that remains when the threshold rises from -delta to +delta."""
    inner = (logits > delta).sum((-2, -1))
    outer = (logits > -delta).sum((-2, -1))
    return jnp.where(outer > 0, inner / jnp.maximum(outer, 1), 1.0)


def select_mask(prediction: MaskPrediction, multimask: Bool[Array, "..."] | bool, config: DecoderConfig) -> ChosenMask:
    """One mask of the four.

    Where `multimask` [...] is True, the best of the three alternatives; elsewhere the first mask, unless it is
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
