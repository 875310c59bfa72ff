"""EdgeTAM: all components of the network, and how they work together on one frame and one object.

It computes in the type of its parameters. Masks, estimates and scores are float32.

Frames and objects are leading axes, or `vmap`. The order of the calls over a video is in the package `tracking`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Bool, Float

from edgetam_jax.config import Config
from edgetam_jax.nn.folding import COLLECTION, derived
from edgetam_jax.nn.image_encoder import ImageEncoder
from edgetam_jax.nn.kernels import matmul
from edgetam_jax.nn.layers import MLP, Conv, compose
from edgetam_jax.nn.mask_decoder import MaskDecoder, select_mask
from edgetam_jax.nn.memory_attention import FrameQueries, MemoryAttention
from edgetam_jax.nn.memory_encoder import MemoryEncoder
from edgetam_jax.nn.perceiver import SpatialPerceiver
from edgetam_jax.nn.prompt_encoder import PromptEncoder
from edgetam_jax.types import (
    MASK_LOGIT,
    NO_OBJECT,
    ImageFeatures,
    Label,
    MaskPrediction,
    Memory,
    ObjectPrediction,
    PromptInputs,
)

VIDEO_ONLY = {"maskmem_tpos_enc": None, "no_obj_ptr": None}  # Flax requires these parameters, also in image-only models


class EdgeTAM(nn.Module):
    config: Config

    def setup(self) -> None:
        config, dim = self.config, self.config.hidden_dim
        self.image_encoder = ImageEncoder(config)
        self.sam_prompt_encoder = PromptEncoder(config)
        self.sam_mask_decoder = MaskDecoder(config)
        self.memory_attention = MemoryAttention(config)
        self.memory_encoder = MemoryEncoder(config)
        self.spatial_perceiver = SpatialPerceiver(config)
        self.obj_ptr_proj = MLP((dim, dim, dim, dim))
        self.mask_downsample = Conv(1, 1, size=4, stride=4)
        normal = nn.initializers.truncated_normal(0.02)
        self.maskmem_tpos_enc = self.param("maskmem_tpos_enc", normal, (config.memory_frames, 1, 1, config.memory_dim))
        self.no_mem_embed = self.param("no_mem_embed", normal, (1, 1, dim))
        self.no_obj_ptr = self.param("no_obj_ptr", normal, (1, dim))

    def encode_image(self, pixels: Float[Array, "*b S S 3"]) -> ImageFeatures:
        """Features of normalised pixels, shared by all objects."""
        pixels = pixels.astype(self.no_mem_embed.dtype)
        stride4, stride8, stride16, stride32 = self.image_encoder.trunk(pixels)
        neck, decoder = self.image_encoder.neck, self.sam_mask_decoder
        kernel4, bias4 = derived(self, "stride4", lambda: compose(neck.convs[3].conv, decoder.conv_s0))
        kernel8, bias8 = derived(self, "stride8", lambda: compose(neck.convs[2].conv, decoder.conv_s1))
        bias4, bias8 = (lax.broadcast_to_rank(bias, pixels.ndim) for bias in (bias4, bias8))
        return ImageFeatures(
            neck(stride16, stride32), matmul(stride4, kernel4) + bias4, matmul(stride8, kernel8) + bias8
        )

    def add_no_memory_embedding(self, embedding: Float[Array, "*b H W C"]) -> Float[Array, "*b H W C"]:
        """The embedding as the decoder expects it on still images and on prompted frames."""
        return embedding + lax.broadcast_to_rank(self.no_mem_embed, embedding.ndim)

    def self_attend(self, embedding: Float[Array, "*b H W C"]) -> FrameQueries:
        """The part of memory attention that needs no memory, computed once per frame."""
        return self.memory_attention.self_attend(embedding)

    def condition_on_memory(self, queries: FrameQueries, memory: Memory) -> Float[Array, "*b H W C"]:
        """The embedding after attention to memory, from what `self_attend` returned."""
        temporal = rearrange(self.maskmem_tpos_enc, "rows 1 1 D -> rows D")
        dtype = queries.tokens.dtype
        memory = memory._replace(frames=memory.frames.astype(dtype), pointers=memory.pointers.astype(dtype))
        return self.memory_attention(queries, memory, temporal)

    def segment(self, features: ImageFeatures, prompt: PromptInputs) -> MaskPrediction:
        """Four masks for a prompt.

        `features.embedding` comes from `add_no_memory_embedding` or `condition_on_memory`.
        """
        encoder = self.sam_prompt_encoder
        has_mask = prompt.has_mask[..., None, None, None]
        mask = encoder.mask(prompt.mask)
        dense = jnp.where(has_mask, mask, lax.broadcast_to_rank(encoder.no_mask(), mask.ndim))
        tokens = encoder.points(prompt.points, prompt.labels)
        masks = self.sam_mask_decoder(features, dense, encoder.dense_position(), tokens)
        logits, ious, score = (x.astype(jnp.float32) for x in (masks.logits, masks.ious, masks.score))
        return masks._replace(logits=logits, ious=ious, score=score)

    def pointer(self, token: Float[Array, "*b C"], present: Bool[Array, "*b"]) -> Float[Array, "*b C"]:
        """The object pointer: a projection of the selected mask's token, or one learned vector if absent."""
        pointer = self.obj_ptr_proj(token)
        return jnp.where(present[..., None], pointer, lax.broadcast_to_rank(self.no_obj_ptr[0], pointer.ndim))

    def segment_object(
        self, features: ImageFeatures, prompt: PromptInputs, multimask: Bool[Array, "..."] | bool
    ) -> ObjectPrediction:
        """The decoder's prediction for one object."""
        return self.select_mask(self.segment(features, prompt), multimask)

    def select_mask(self, prediction: MaskPrediction, multimask: Bool[Array, "..."] | bool) -> ObjectPrediction:
        """One mask of the four (see `mask_decoder.select_mask`), its estimate, and the object's pointer."""
        mask = select_mask(prediction, multimask, self.config.decoder)
        present = mask.score > 0
        return ObjectPrediction(
            logits=jnp.where(present[..., None, None], mask.logits, NO_OBJECT),
            iou=mask.iou,
            score=mask.score,
            pointer=self.pointer(mask.token, present),
        )

    def use_mask_as_output(self, features: ImageFeatures, mask: Float[Array, "*b S S"]) -> ObjectPrediction:
        """The prediction for a mask that the user provides, 0 or 1 at the model's input size.

        The decoder computes only the pointer, with the mask as its prompt; here `features.embedding` is the raw
        one. It is the pointer of an absent object if the mask is empty or the object score is not positive.
        """
        lead, size = mask.shape[:-2], self.config.mask_size
        prompt = PromptInputs(
            points=jnp.zeros((*lead, 2, 2)),
            labels=jnp.full((*lead, 2), Label.NOT_A_POINT),
            mask=self.mask_downsample(mask[..., None])[..., 0],
            has_mask=jnp.ones(lead, bool),
        )
        present = (mask > 0).any((-2, -1))
        pointer = self.segment_object(features, prompt, multimask=False).pointer
        logits = MASK_LOGIT * (2 * mask - 1)
        return ObjectPrediction(
            logits=jax.image.resize(logits, (*lead, size, size), "linear", antialias=True),
            iou=jnp.ones(lead),
            score=MASK_LOGIT * (2 * present.astype(mask.dtype) - 1),
            pointer=jnp.where(present[..., None], pointer, lax.broadcast_to_rank(self.no_obj_ptr[0], pointer.ndim)),
        )

    def encode_memory(
        self,
        embedding: Float[Array, "*#b H W C"],
        logits: Float[Array, "*b h w"],
        from_prompt: Bool[Array, "..."] | bool,
    ) -> Float[Array, "*b L D"]:
        """The memory tokens of a frame's embedding and an object's mask logits."""
        return self.spatial_perceiver(self.memory_encoder(embedding, logits, from_prompt))

    def init_images(
        self, pixels: Float[Array, "*b S S 3"], logits: Float[Array, "*b h w"]
    ) -> tuple[ImageFeatures, MaskPrediction]:
        """Calls every component that still images need."""
        features = self.encode_image(pixels)
        features = features._replace(embedding=self.add_no_memory_embedding(features.embedding))
        lead = logits.shape[:-2]
        prompt = PromptInputs(jnp.zeros((*lead, 2, 2)), jnp.zeros((*lead, 2), jnp.int32), logits, jnp.ones(lead, bool))
        return features, self.segment(features, prompt)

    def init_all(
        self, pixels: Float[Array, "*b S S 3"], mask: Float[Array, "*b S S"], memory: Memory
    ) -> tuple[Float[Array, "*b H W C"], ObjectPrediction, Float[Array, "*b L D"]]:
        """Calls every component once, so that `init` creates every parameter, and `folded` finds every weight."""
        features, masks = self.init_images(pixels, self.mask_downsample(mask[..., None])[..., 0])
        prediction = self.select_mask(masks, False)
        tokens = self.encode_memory(features.embedding, prediction.logits, from_prompt=True)
        conditioned = self.condition_on_memory(self.self_attend(features.embedding), memory)
        return conditioned, prediction, tokens


def run_video(config: Config, params: Mapping[str, Any]) -> tuple[Any, Any]:
    """Outputs of all components, and the weights that were derived for them."""
    return _run(config, params, EdgeTAM.init_all, *example_inputs(config))


def run_images(config: Config, params: Mapping[str, Any]) -> tuple[Any, Any]:
    """Outputs of the components that still images need, and the weights that were derived for them."""
    pixels, mask, _ = example_inputs(config)
    return _run(config, params, EdgeTAM.init_images, pixels, mask[: config.mask_size, : config.mask_size])


def example_inputs(config: Config) -> tuple[Float[Array, "S S 3"], Float[Array, "S S"], Memory]:
    """Pixels, a mask and a memory: arguments of `EdgeTAM.init_all`."""
    size = config.image_size
    memory = Memory(
        frames=jnp.zeros((1, config.perceiver.tokens, config.memory_dim)),
        rows=jnp.zeros((1,), jnp.int32),
        frames_valid=jnp.ones((1,), bool),
        pointers=jnp.zeros((1, config.hidden_dim)),
        pointers_valid=jnp.ones((1,), bool),
    )
    return jnp.zeros((size, size, 3)), jnp.ones((size, size)), memory


def _run(config: Config, params: Mapping[str, Any], method: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    apply: Any = EdgeTAM(config).apply
    outputs, weights = apply({"params": {**VIDEO_ONLY, **params}}, *args, method=method, mutable=[COLLECTION])
    return outputs, weights[COLLECTION]
