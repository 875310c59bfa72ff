"""Prompts as the Hugging Face port handles them where it differs from the original, for its published numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import Array
from numpy.typing import ArrayLike

from edgetam_jax.config import MASK_STRIDE
from edgetam_jax.model import Model
from edgetam_jax.nn.edgetam import EdgeTAM
from edgetam_jax.nn.mask_decoder import select_mask
from edgetam_jax.tracking.memory import MemoryEntry
from edgetam_jax.tracking.step import FrameFeatures, StepOutput
from edgetam_jax.types import NO_OBJECT, ImageFeatures, Label, MaskPrediction, ObjectMask, PromptInputs, PromptTokens

ZERO_TOKEN = -10  # the label of padding in ragged prompts: a token of zeros, which the decoder attends to


def prompt_tokens(
    points: ArrayLike, labels: ArrayLike, size: tuple[int, int], image_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Arguments of `segment` for points [P, 2], in pixels of an image of `size` (height, width), and their labels."""
    scale = image_size / np.array(size[::-1], np.float32)
    coords = np.concatenate([np.asarray(points, np.float32).reshape(-1, 2), np.zeros((1, 2), np.float32)])
    return coords * scale, np.append(np.asarray(labels, np.int32), np.int32(Label.NOT_A_POINT))


@jax.jit
def segment(model: Model, features: ImageFeatures, points: Array, labels: Array, mask: Array | None) -> MaskPrediction:
    """All four masks for points in pixels of the model's input, and for the logits [h, w] of a mask prompt, or None."""
    return model.apply(_segment, features, points, labels, mask)


@jax.jit
def padded_points_output(model: Model, features: FrameFeatures, points: Array, labels: Array) -> StepOutput:
    """The output of one object for points with padding. Padding counts as points, so the single-mask output is used."""

    def run(network: EdgeTAM) -> StepOutput:
        image = features.image._replace(embedding=network.add_no_memory_embedding(features.image.embedding))
        mask = select_mask(_segment(network, image, points, labels, None), False, model.config.decoder)
        present = mask.score > 0
        logits = jnp.where(present, mask.logits, NO_OBJECT)
        tokens = network.encode_memory(features.image.embedding, logits, from_prompt=True)
        entry = MemoryEntry(tokens, network.pointer(mask.token, present))
        return StepOutput(ObjectMask(logits, mask.iou, mask.score), entry)

    return model.apply(run)


@jax.jit
def mask_prompt_output(model: Model, features: FrameFeatures, mask: Array) -> StepOutput:
    """The output of one object for a mask prompt [S, S] of 0 and 1.

    The port uses the object pointer of the best of three masks instead of the single mask's, and encodes the memory
    from the mask itself instead of from its logits at a quarter of the size.
    """

    def run(network: EdgeTAM) -> StepOutput:
        config, embedding = model.config, features.image.embedding
        prompt = PromptInputs(
            points=jnp.zeros((2, 2)),
            labels=jnp.full(2, Label.NOT_A_POINT),
            mask=network.mask_downsample(mask[..., None])[..., 0],
            has_mask=jnp.array(True),
        )
        output = network.use_mask_as_output(features.image, mask)
        pointer = network.segment_object(features.image, prompt, multimask=True).pointer
        pointer = jnp.where((mask > 0).any(), pointer, output.pointer)
        encoder = network.memory_encoder
        tiles = rearrange(mask, "(h p) (w q) -> h w (p q)", p=MASK_STRIDE, q=MASK_STRIDE)
        scaled = tiles * config.memory_encoder.sigmoid_scale + config.memory_encoder.sigmoid_bias
        fused = encoder.fuser(encoder.pix_feat_proj(embedding) + encoder.mask_downsampler(scaled))
        entry = MemoryEntry(network.spatial_perceiver(encoder.out_proj(fused)), pointer)
        return StepOutput(ObjectMask(output.logits, output.iou, output.score), entry)

    return model.apply(run)


def _segment(
    network: EdgeTAM, features: ImageFeatures, points: Array, labels: Array, mask: Array | None
) -> MaskPrediction:
    encoder = network.sam_prompt_encoder
    tokens = jnp.where((labels == ZERO_TOKEN)[:, None], 0, encoder.points(points, labels).tokens)
    dense = jnp.broadcast_to(encoder.no_mask(), features.embedding.shape) if mask is None else encoder.mask(mask)
    return network.sam_mask_decoder(
        features, dense, encoder.dense_position(), PromptTokens(tokens, jnp.ones(labels.shape, bool))
    )
