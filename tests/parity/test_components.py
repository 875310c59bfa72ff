"""Each component alone against its counterpart in the PyTorch original: same random weights, same random inputs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional as tf

from edgetam_jax.model import Model
from edgetam_jax.nn.edgetam import EdgeTAM
from edgetam_jax.nn.image_encoder import ImageEncoder
from edgetam_jax.nn.mask_decoder import MaskDecoder
from edgetam_jax.nn.memory_encoder import MemoryEncoder, upsample_packed
from edgetam_jax.nn.perceiver import SpatialPerceiver
from edgetam_jax.nn.prompt_encoder import PromptEncoder
from edgetam_jax.types import ImageFeatures, Memory, PromptTokens
from tests.parity.pairs import Pair, channels_first, channels_last, normal
from tests.parity.references import Original
from tests.support.oracle import TINY
from tests.support.tolerances import assert_close

BATCH = 3


@pytest.fixture(scope="module")
def pair(tiny_pair: Pair) -> Pair:
    return tiny_pair


def test_trunk(pair: Pair) -> None:
    pixels = normal(0, BATCH, TINY.image_size, TINY.image_size, 3)
    want = pair.torch.image_encoder.trunk(channels_first(pixels))
    got = pair.apply(ImageEncoder(TINY), "image_encoder", pixels, method=lambda m, x: m.trunk(x))
    assert len(got) == len(want) == 4
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert_close(f"stage {i}", g, channels_last(w), both_signs=True)


def test_neck_and_high_resolution_maps(pair: Pair) -> None:
    pixels = normal(1, BATCH, TINY.image_size, TINY.image_size, 3)
    want = pair.torch.forward_image(channels_first(pixels))["backbone_fpn"]
    got: ImageFeatures = pair.run("encode_image", pixels)
    for name, g, w in zip(
        ("stride4", "stride8", "embedding"), (got.stride4, got.stride8, got.embedding), want, strict=True
    ):
        assert_close(name, g, channels_last(w), both_signs=True)


def test_points(pair: Pair) -> None:
    rng = np.random.default_rng(2)
    points = rng.uniform(0, TINY.image_size, (BATCH, 7, 2)).astype(np.float32)
    labels = np.tile(np.array([-1, 0, 1, 2, 3, 1, -1], np.int32), (BATCH, 1))
    encoder = pair.torch.sam_prompt_encoder
    want = encoder._embed_points(torch.from_numpy(points), torch.from_numpy(labels), pad=False)
    got = pair.apply(PromptEncoder(TINY), "sam_prompt_encoder", points, labels, method="points")
    assert_close("points", got.tokens, want, both_signs=True)
    assert bool(got.valid.all())


def test_mask_prompt(pair: Pair) -> None:
    logits = 10 * normal(3, BATCH, TINY.mask_size, TINY.mask_size)
    want = pair.torch.sam_prompt_encoder._embed_masks(torch.from_numpy(logits)[:, None])
    got = pair.apply(PromptEncoder(TINY), "sam_prompt_encoder", logits, method="mask")
    assert_close("mask prompt", got, channels_last(want), both_signs=True)


def test_dense_position(pair: Pair) -> None:
    want = pair.torch.sam_prompt_encoder.get_dense_pe()
    got = pair.apply(PromptEncoder(TINY), "sam_prompt_encoder", method="dense_position")
    assert_close("dense position", got, channels_last(want)[0], both_signs=True)


class DecoderInputs(NamedTuple):
    features: ImageFeatures
    dense: np.ndarray
    position: np.ndarray
    sparse: np.ndarray


@pytest.fixture(scope="module")
def decoder_inputs() -> DecoderInputs:
    size, dim = TINY.embedding_size, TINY.hidden_dim
    features = ImageFeatures(
        normal(4, BATCH, size, size, dim),
        normal(5, BATCH, 4 * size, 4 * size, dim // 8),
        normal(6, BATCH, 2 * size, 2 * size, dim // 4),
    )
    return DecoderInputs(
        features, normal(7, BATCH, size, size, dim), normal(8, size, size, dim), normal(9, BATCH, 3, dim)
    )


def test_two_way_transformer(pair: Pair, decoder_inputs: DecoderInputs) -> None:
    _, dense, position, sparse = decoder_inputs
    flat = TINY.embedding_size**2, TINY.hidden_dim
    want = pair.torch.sam_mask_decoder.transformer(
        channels_first(dense), channels_first(position[None]).expand(BATCH, -1, -1, -1), torch.from_numpy(sparse)
    )
    valid = np.ones(sparse.shape[:2], bool)
    arguments = sparse, valid, dense.reshape(BATCH, *flat), position.reshape(flat)
    got = pair.apply(MaskDecoder(TINY), "sam_mask_decoder", *arguments, method=lambda m, *a: m.transformer(*a))
    for name, g, w in zip(("tokens", "image"), got, want, strict=True):
        assert_close(name, g, w, both_signs=True)


def test_mask_decoder(pair: Pair, decoder_inputs: DecoderInputs) -> None:
    features, dense, position, sparse = decoder_inputs
    masks, ious, tokens, score = pair.torch.sam_mask_decoder.predict_masks(
        image_embeddings=channels_first(features.embedding),
        image_pe=channels_first(position[None]),
        sparse_prompt_embeddings=torch.from_numpy(sparse),
        dense_prompt_embeddings=channels_first(dense),
        repeat_image=False,
        high_res_features=[channels_first(features.stride4), channels_first(features.stride8)],
    )
    prompt = PromptTokens(jnp.asarray(sparse), jnp.ones(sparse.shape[:2], bool))
    got = pair.apply(MaskDecoder(TINY), "sam_mask_decoder", features, dense, position, prompt)
    assert_close("logits", got.logits, masks, both_signs=True)
    assert_close("ious", got.ious, ious)
    assert_close("tokens", got.tokens, tokens, both_signs=True)
    assert_close("score", got.score, score[:, 0])


@pytest.mark.parametrize("frames", range(1, 8))
def test_memory_attention(pair: Pair, frames: int) -> None:
    """From one to seven remembered frames, and as many pointers; the original gets only what is valid."""
    size, pointers = TINY.embedding_size, 2 * frames
    embedding = normal(10, BATCH, size, size, TINY.hidden_dim)
    memory = Memory(
        frames=normal(11, BATCH, TINY.memory_frames, TINY.perceiver.tokens, TINY.memory_dim),
        rows=np.random.default_rng(13).permuted(np.tile(np.arange(TINY.memory_frames), (BATCH, 1)), axis=1),
        frames_valid=np.tile(np.arange(TINY.memory_frames) < frames, (BATCH, 1)),
        pointers=normal(12, BATCH, TINY.pointers, TINY.hidden_dim),
        pointers_valid=np.tile(np.arange(TINY.pointers) < pointers, (BATCH, 1)),
    )
    want = Original(pair.torch, TINY).attend(embedding, memory)
    got = pair.run("condition_on_memory", pair.run("self_attend", embedding), memory)
    assert_close("attended", got, want, both_signs=True)


@pytest.mark.parametrize("from_prompt", [False, True])
def test_memory_encoder(pair: Pair, from_prompt: bool) -> None:
    size, config = TINY.embedding_size, TINY.memory_encoder
    embedding = normal(14, BATCH, size, size, TINY.hidden_dim)
    logits = normal(15, BATCH, TINY.mask_size, TINY.mask_size)
    large = tf.interpolate(torch.from_numpy(logits)[:, None], scale_factor=4, mode="bilinear")
    mask = (large > 0).float() if from_prompt else large.sigmoid()
    mask = mask * config.sigmoid_scale + config.sigmoid_bias
    want = pair.torch.memory_encoder(channels_first(embedding), mask, skip_mask_sigmoid=True)["vision_features"]
    got = pair.apply(MemoryEncoder(TINY), "memory_encoder", embedding, logits, from_prompt)
    assert_close("memory", got, channels_last(want), both_signs=True)


def test_upsampling_is_bilinear() -> None:
    logits = normal(16, BATCH, 9, 9)
    want = tf.interpolate(torch.from_numpy(logits)[:, None], scale_factor=4, mode="bilinear")[:, 0]
    tiles = np.asarray(upsample_packed(jnp.asarray(logits))).reshape(BATCH, 9, 9, 4, 4)
    assert_close("upsampled", tiles.transpose(0, 1, 3, 2, 4).reshape(BATCH, 36, 36), want, both_signs=True)


def test_perceiver(pair: Pair) -> None:
    memory = normal(17, BATCH, TINY.embedding_size, TINY.embedding_size, TINY.memory_dim)
    image = channels_first(memory)
    perceiver = pair.torch.spatial_perceiver
    want, position = perceiver(image, perceiver.position_encoding(image))
    got = pair.apply(SpatialPerceiver(TINY), "spatial_perceiver", memory)
    assert_close("tokens", got, want, both_signs=True)
    # The positions that memory attention adds by itself.
    assert float(position[:, : TINY.perceiver.latents].abs().max()) == 0


def test_object_pointer(pair: Pair) -> None:
    token = normal(18, BATCH, TINY.hidden_dim)
    want = pair.torch.obj_ptr_proj(torch.from_numpy(token))
    present = np.array([True, False, True])
    got = pair.run("pointer", token, present)
    assert_close("pointers", got[present], want[present], both_signs=True)
    assert_close("absent", got[~present], pair.torch.no_obj_ptr, both_signs=True)


def test_every_method_runs_without_a_batch(pair: Pair) -> None:
    pixels = normal(19, 2, TINY.image_size, TINY.image_size, 3)
    together = pair.run("encode_image", pixels)
    alone = jax.vmap(lambda x: Model(pair.model.params, TINY).encode_image(x))(pixels)
    for g, w in zip(alone, together, strict=True):
        assert_close("vmap", g, w)
    assert EdgeTAM(TINY).config is TINY
