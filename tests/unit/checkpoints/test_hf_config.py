"""Configurations: from shapes, from config.json, and the refusal of other architectures."""

import copy
import dataclasses
from typing import Any

import pytest

from edgetam_jax.checkpoints.hf_config import read_hf_config, write_hf_config
from edgetam_jax.checkpoints.infer_config import infer_config
from edgetam_jax.checkpoints.key_table import Layout
from edgetam_jax.checkpoints.mapping import expected_shapes, tree_shapes
from edgetam_jax.config import EDGETAM, EDGETAM_512, Config, DecoderConfig, MemoryEncoderConfig
from edgetam_jax.errors import CheckpointError, ConfigError
from tests.support.checkpoints import SMALL, SMALL_1024


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("config", [EDGETAM, SMALL_1024], ids=["full", "small"])
def test_shapes_tell_the_configuration(config: Config, layout: Layout) -> None:
    assert infer_config(expected_shapes(tree_shapes(config), layout), layout) == config


def test_what_is_known_and_the_image_size_go_before_shapes() -> None:
    shapes = expected_shapes(tree_shapes(SMALL), Layout.ORIGINAL)
    known = {"image_size": 512, "pointers": 3, "decoder": {"heads": 4}}
    expected = dataclasses.replace(
        SMALL, image_size=256, pointers=3, decoder=dataclasses.replace(SMALL.decoder, heads=4)
    )
    assert infer_config(shapes, Layout.ORIGINAL, known, image_size=256) == expected
    assert infer_config(shapes, Layout.ORIGINAL, known).image_size == 512
    with pytest.raises(ConfigError, match="image_size is 100"):
        infer_config(shapes, Layout.ORIGINAL, image_size=100)


def test_still_images_say_nothing_of_memory() -> None:
    shapes = expected_shapes(tree_shapes(SMALL, image_only=True), Layout.HUGGING_FACE)
    config = infer_config(shapes, Layout.HUGGING_FACE, image_size=128)
    assert (config.trunk, config.decoder, config.hidden_dim) == (SMALL.trunk, SMALL.decoder, SMALL.hidden_dim)
    full = expected_shapes(tree_shapes(EDGETAM, image_only=True), Layout.HUGGING_FACE)
    assert infer_config(full, Layout.HUGGING_FACE, image_size=512) == EDGETAM_512


@pytest.mark.parametrize("image_only", [False, True], ids=["videos", "images"])
def test_config_json_round_trip(image_only: bool) -> None:
    config = dataclasses.replace(
        EDGETAM_512,
        pointers=16 if image_only else 9,
        decoder=DecoderConfig(heads=4, stability_delta=0.1, stability_threshold=0.9),
        memory_encoder=MemoryEncoderConfig()
        if image_only
        else MemoryEncoderConfig(sigmoid_scale=8.0, sigmoid_bias=-2.0),
    )
    shapes = expected_shapes(tree_shapes(config, image_only), Layout.HUGGING_FACE)
    known = read_hf_config(write_hf_config(config, image_only), "config.json")
    assert infer_config(shapes, Layout.HUGGING_FACE, known) == config


def changed(**changes: Any) -> dict[str, Any]:
    """EdgeTAM's config.json with values changed; a name with __ leads into sections, None removes."""
    values = copy.deepcopy(write_hf_config(EDGETAM, image_only=False))
    for name, value in changes.items():
        *sections, last = name.split("__")
        place = values
        for section in sections:
            place = place[section]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (changed(model_type="sam2_video"), r"model_type is 'sam2_video', expected 'edgetam' or 'edgetam_video'"),
        ({}, "model_type is None"),
        (changed(vision_config=None), "sam2_vision_model.*Hiera.*repvit_m1"),
        (changed(vision_config__model_type="sam2_vision_model"), "Hiera.*repvit_m1"),
        (changed(vision_config__backbone_config__architecture="resnet50"), "'resnet50'.*names no backbone.*repvit_m1"),
        (changed(vision_config__backbone_config=None), "'resnet50'.*repvit_m1"),
        (changed(vision_config__backbone_config__architecture="repvit_m1_0.dist_in1k"), "repvit_m1_0"),
        (changed(vision_config__backbone_config__model_type="hiera"), "'repvit_m1'.*hiera"),
        (changed(vision_config="repvit"), "vision_config is 'repvit', expected a mapping"),
        (changed(enable_occlusion_spatial_embedding=True), "enable_occlusion_spatial_embedding is True"),
        (
            changed(enable_temporal_pos_encoding_for_object_pointers=None),
            "object_pointers is True, but EdgeTAM has False",
        ),
        (changed(memory_attention_num_attention_heads=2), "memory_attention_num_attention_heads is 2"),
        (changed(mask_decoder_config__num_multimask_outputs=5), r"mask_decoder_config\.num_multimask_outputs is 5"),
        (changed(image_size="big"), "image_size is 'big'"),
    ],
)
def test_other_architectures_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read_hf_config(values, "folder/config.json")
    assert str(caught.value).startswith("folder/config.json")


def test_library_defaults_are_refused() -> None:
    from tests.support import oracle

    del oracle  # declares operators that these classes need
    from transformers import EdgeTamConfig, EdgeTamVideoConfig

    with pytest.raises(CheckpointError, match="Hiera"):
        read_hf_config(EdgeTamVideoConfig().to_dict(), "config.json")
    with pytest.raises(CheckpointError, match="resnet50"):
        read_hf_config(EdgeTamConfig().to_dict(), "config.json")


def test_variants_of_the_same_architecture_are_taken() -> None:
    tagged = changed(vision_config__backbone_config__architecture="repvit_m1.dist_in1k", image_size=[768, 768])
    assert read_hf_config(tagged, "config.json")["image_size"] == 768
