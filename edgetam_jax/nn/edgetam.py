"""EdgeTAM: all components, and what they do together for one frame and one object.

It computes in the type of its parameters. Masks, estimates and scores are float32.

Objects and frames are leading axes, or `vmap`. What happens over time is in `memory.py` and `step.py`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from edgetam_jax.config import Config
from edgetam_jax.nn.image_encoder import ImageEncoder
from edgetam_jax.nn.layers import MLP, Conv, compose, matmul
from edgetam_jax.nn.mask_decoder import MaskDecoder, select_mask
from edgetam_jax.nn.memory_attention import FrameQueries, MemoryAttention
from edgetam_jax.nn.memory_encoder import MemoryEncoder
from edgetam_jax.nn.perceiver import SpatialPerceiver
from edgetam_jax.nn.prompt_encoder import PromptEncoder
from edgetam_jax.types import ImageFeatures, Label, MaskPrediction, Memory, ObjectPrediction, PromptInputs

MASK_LOGIT = 10.0  # a given mask has logits of +-10
NO_OBJECT = -1024.0  # the logits of an absent object's mask


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

    def encode_image(self, pixels: Array) -> ImageFeatures:
        """Normalised pixels [..., S, S, 3] to features that know nothing of any object."""
        pixels = pixels.astype(self.no_mem_embed.dtype)
        stride4, stride8, stride16, stride32 = self.image_encoder.trunk(pixels)
        neck, decoder = self.image_encoder.neck, self.sam_mask_decoder
        kernel4, bias4 = compose(neck.convs[3].conv, decoder.conv_s0)
        kernel8, bias8 = compose(neck.convs[2].conv, decoder.conv_s1)
        return ImageFeatures(
            neck(stride16, stride32), matmul(stride4, kernel4) + bias4, matmul(stride8, kernel8) + bias8
        )

    def add_no_memory_embedding(self, embedding: Array) -> Array:
        """The embedding as the decoder expects it on still images and on prompted frames."""
        return embedding + self.no_mem_embed

    def self_attend(self, embedding: Array) -> FrameQueries:
        """The part of memory attention that needs no memory, from [..., H, W, C]."""
        return self.memory_attention.self_attend(embedding)

    def condition_on_memory(self, looked: FrameQueries, memory: Memory) -> Array:
        """The embedding [..., H, W, C] with what is remembered mixed in, from what `look` returned."""
        temporal = self.maskmem_tpos_enc.reshape(self.config.memory_frames, self.config.memory_dim)
        dtype = looked.tokens.dtype
        memory = memory._replace(frames=memory.frames.astype(dtype), pointers=memory.pointers.astype(dtype))
        return self.memory_attention(looked, memory, temporal)

    def segment(self, features: ImageFeatures, prompt: PromptInputs) -> MaskPrediction:
        """Four masks for a prompt; `features.embedding` comes from `without_memory` or `with_memory`."""
        encoder = self.sam_prompt_encoder
        has_mask = prompt.has_mask[..., None, None, None]
        dense = jnp.where(has_mask, encoder.mask(prompt.mask), encoder.no_mask_embed)
        tokens = encoder.points(prompt.points, prompt.labels)
        found = self.sam_mask_decoder(features, dense, encoder.dense_position(), tokens)
        logits, ious, score = (x.astype(jnp.float32) for x in (found.logits, found.ious, found.score))
        return found._replace(logits=logits, ious=ious, score=score)

    def pointer(self, token: Array, present: Array) -> Array:
        """What points to an object later on: from the chosen mask's token [..., C], or one for all that are absent."""
        return jnp.where(present[..., None], self.obj_ptr_proj(token), self.no_obj_ptr[0])

    def segment_object(
        self, features: ImageFeatures, prompt: PromptInputs, multimask: Array | bool
    ) -> ObjectPrediction:
        """The decoder's answer for one object."""
        return self.select_mask(self.segment(features, prompt), multimask)

    def select_mask(self, prediction: MaskPrediction, multimask: Array | bool) -> ObjectPrediction:
        """One mask of the four (see `choose`), its estimate, and the object's pointer."""
        mask = select_mask(prediction, multimask, self.config.decoder)
        present = mask.score > 0
        return ObjectPrediction(
            logits=jnp.where(present[..., None, None], mask.logits, NO_OBJECT),
            iou=mask.iou,
            score=mask.score,
            pointer=self.pointer(mask.token, present),
        )

    def use_mask_as_output(self, features: ImageFeatures, mask: Array) -> ObjectPrediction:
        """A mask, 0 or 1 at the model's input size [..., S, S], taken as the truth.

        Only the pointer comes from the decoder, which answers the mask as a prompt; here `features.embedding` is
        the raw one. It stays the pointer of an absent object if the mask is empty or the decoder sees no object.
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
            pointer=jnp.where(present[..., None], pointer, self.no_obj_ptr[0]),
        )

    def encode_memory(self, embedding: Array, logits: Array, from_prompt: Array | bool) -> Array:
        """A frame's embedding [..., H, W, C] and mask logits [..., h, w] as memory tokens [..., L, D]."""
        return self.spatial_perceiver(self.memory_encoder(embedding, logits, from_prompt))

    def init_all(self, pixels: Array, mask: Array, memory: Memory) -> tuple[Array, ...]:
        """Calls every part once, so that `init` makes every parameter."""
        features = self.encode_image(pixels)
        features = features._replace(embedding=self.add_no_memory_embedding(features.embedding))
        seen = self.use_mask_as_output(features, mask)
        tokens = self.encode_memory(features.embedding, seen.logits, from_prompt=True)
        return self.condition_on_memory(self.self_attend(features.embedding), memory), seen.pointer, tokens
