"""Tensors to parameters and back: bit for bit, or not at all and with all reasons."""

import ml_dtypes
import numpy as np
import pytest

from edgetam_jax.checkpoints.key_table import Layout
from edgetam_jax.checkpoints.mapping import VIDEO_PARTS, Tensors, detect_layout, from_layout, to_layout
from edgetam_jax.errors import CheckpointError
from tests.support.checkpoints import SMALL, assert_equal, random_params, small_model

OUT_PROJ = "sam_mask_decoder.transformer.layers.0.self_attn.out_proj.weight"
CONV = "memory_encoder.mask_downsampler.encoder.3.weight"


def tensors_of(layout: Layout, image_only: bool = False) -> Tensors:
    params = small_model().params
    if image_only:
        params = {name: part for name, part in params.items() if name not in VIDEO_PARTS}
    return {name: value.copy() for name, value in to_layout(params, layout).items()}


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("image_only", [False, True], ids=["videos", "images"])
def test_round_trip_is_bit_equal(layout: Layout, image_only: bool) -> None:
    params = random_params(SMALL, 1, image_only)
    converted = from_layout(to_layout(params, layout), layout, SMALL, "file")
    assert_equal(converted.params, params)
    assert converted.params.keys() == params.keys()


@pytest.mark.parametrize("layout", [Layout.ORIGINAL, Layout.HUGGING_FACE])
def test_round_trip_from_files_side(layout: Layout) -> None:
    tensors = tensors_of(layout)
    params, dropped, _ = from_layout(tensors, layout, SMALL, "file")
    names = {name for group in dropped.values() for name in group}
    assert len(dropped) == 2  # both reasons occur
    assert_equal(to_layout(params, layout), tensors)
    assert names == {name for name, value in tensors.items() if not value.any()}


def test_what_each_transform_does() -> None:
    tensors = tensors_of(Layout.ORIGINAL)
    params, *_ = from_layout(tensors, Layout.ORIGINAL, SMALL, "file")
    hugging_face = to_layout(params, Layout.HUGGING_FACE)
    decoder, perceiver = params["sam_mask_decoder"], params["spatial_perceiver"]["layers_0"]

    np.testing.assert_array_equal(
        decoder["transformer"]["layers_0"]["self_attn"]["out_proj"]["kernel"], tensors[OUT_PROJ].T
    )
    up, kernel = tensors["sam_mask_decoder.output_upscaling.0.weight"], decoder["output_upscaling_0"]["kernel"]
    np.testing.assert_array_equal(kernel[1, 0, 7, 5], up[7, 5, 1, 0])
    kernel = params["memory_encoder"]["mask_downsampler"]["encoder_3"]["kernel"]
    np.testing.assert_array_equal(kernel[2, 0, 3, 9], tensors[CONV][9, 3, 2, 0])
    keys = hugging_face["spatial_perceiver.layers.0.cross_attention.k_proj.weight"]
    values = hugging_face["spatial_perceiver.layers.0.cross_attention.v_proj.weight"]
    np.testing.assert_array_equal(perceiver["attn"]["to_kv"]["kernel"].T, np.concatenate([keys, values]))
    np.testing.assert_array_equal(
        hugging_face["prompt_encoder.point_embed.weight"][2:3], tensors["sam_prompt_encoder.point_embeddings.2.weight"]
    )


@pytest.mark.parametrize("layout", Layout)
def test_layout_is_recognised(layout: Layout) -> None:
    assert detect_layout(tensors_of(layout)) is layout
    assert detect_layout(["encoder.weight", "decoder.bias"]) is None


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["fp16", "bf16"])
def test_half_precision_keeps_its_values(dtype: type) -> None:
    half = {name: value.astype(dtype) for name, value in tensors_of(Layout.ORIGINAL).items()}
    params, *_ = from_layout(half, Layout.ORIGINAL, SMALL, "file")
    back = to_layout(params, Layout.ORIGINAL)
    for name, value in half.items():
        assert back[name].astype(dtype).tobytes() == value.tobytes(), name
        assert np.array_equal(back[name].astype(np.float64), value.astype(np.float64)), name


def test_all_that_is_wrong_is_listed_at_once() -> None:
    tensors = tensors_of(Layout.ORIGINAL)
    del tensors["no_mem_embed"], tensors["sam_mask_decoder.conv_s1.bias"]
    tensors["no_obj_embed_spatial"] = np.zeros((1, 64), np.float32)
    tensors["foo.num_batches_tracked"] = np.zeros((), np.int64)
    tensors["mask_decoder.conv_s0.bias"] = tensors["sam_mask_decoder.conv_s0.bias"]
    tensors[OUT_PROJ] = tensors[OUT_PROJ][:, :-1]
    tensors["obj_ptr_proj.layers.0.bias"][3:5] = np.nan
    tensors["obj_ptr_proj.layers.1.bias"][0] = -np.inf
    tensors["memory_attention.norm.bias"] = np.zeros(128, np.int8)
    with pytest.raises(CheckpointError) as caught:
        from_layout(tensors, Layout.ORIGINAL, SMALL, "my.pt")
    first, *listed, _ = str(caught.value).splitlines()
    assert "my.pt" in first
    assert "PyTorch original" in first
    assert set(listed) == {
        "missing (2):",
        "  no_mem_embed",
        "  sam_mask_decoder.conv_s1.bias",
        "wrong shape (1):",
        f"  {OUT_PROJ} is (128, 127), expected (128, 128)",
        "not finite (2):",
        "  obj_ptr_proj.layers.0.bias has 2 NaN or infinite of 128 values",
        "  obj_ptr_proj.layers.1.bias has 1 NaN or infinite of 128 values",
        "wrong type (1):",
        "  memory_attention.norm.bias is int8, expected one of float32, float16, bfloat16",
        "unexpected (2):",
        "  foo.num_batches_tracked",
        "  no_obj_embed_spatial",
        "duplicate, present under the other layout's name (1):",
        "  mask_decoder.conv_s0.bias",
    }


def test_dropped_tensors_may_be_absent() -> None:
    tensors = tensors_of(Layout.ORIGINAL)
    kept = {name: value for name, value in tensors.items() if value.any()}
    assert len(kept) < len(tensors)
    params, dropped, _ = from_layout(kept, Layout.ORIGINAL, SMALL, "file")
    assert dropped == {}
    assert_equal(params, small_model().params)


def test_the_gaussian_is_stored_twice_and_must_agree() -> None:
    first, second = (
        "prompt_encoder.shared_embedding.positional_embedding",
        "shared_image_embedding.positional_embedding",
    )
    for absent in (first, second):
        tensors = tensors_of(Layout.HUGGING_FACE)
        del tensors[absent]
        assert_equal(from_layout(tensors, Layout.HUGGING_FACE, SMALL, "file").params, small_model().params)
    del tensors[first]
    with pytest.raises(CheckpointError, match=r"missing \(2\)"):
        from_layout(tensors, Layout.HUGGING_FACE, SMALL, "file")
    tensors = tensors_of(Layout.HUGGING_FACE)
    tensors[second][1, 3] += 1e-3
    with pytest.raises(CheckpointError, match=f"different values.*\n.*{first} and {second}"):
        from_layout(tensors, Layout.HUGGING_FACE, SMALL, "file")


def test_half_a_memory_is_not_a_file_for_still_images() -> None:
    tensors = tensors_of(Layout.HUGGING_FACE, image_only=True)
    tensors["no_object_pointer"] = np.zeros((1, 128), np.float32)
    with pytest.raises(CheckpointError, match="memory_temporal_positional_encoding"):
        from_layout(tensors, Layout.HUGGING_FACE, SMALL, "file")
