"""The key table: complete for all three layouts, and the same in both directions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_jax.checkpoints.key_table import (
    DROPPED_TENSORS,
    KEY_TABLE,
    Layout,
    ModuleKind,
    ModuleRule,
    original_key,
    tensor_rule,
)
from edgetam_jax.checkpoints.mapping import Shapes, expected_shapes, tree_shapes
from edgetam_jax.config import EDGETAM, Config
from tests.support.checkpoints import SMALL
from tests.support.shapes import examples

WORDS = st.sampled_from(["self_attn", "cross_attn_image", "stem", "iou_token", "conv1", "norm2"])
FIELDS = {
    "i": st.integers(0, 300).map(str),
    "j": st.integers(0, 300).map(str),
    "qkv": st.sampled_from("qkv"),
    "word": WORDS,
    "path": st.lists(WORDS | st.just("stages_2") | st.just("layers.7"), min_size=1, max_size=4).map(".".join),
}


@st.composite
def original_keys(draw: st.DrawFn) -> str:
    """A key that some rule of the table matches."""
    rule: ModuleRule = draw(st.sampled_from(KEY_TABLE))
    leaf = draw(st.sampled_from(sorted(rule.kind.leaves)))
    module = rule.original.format(**{name: draw(strategy) for name, strategy in FIELDS.items()})
    return f"{module}.{leaf}" if leaf else module


@examples(100)
@given(original_keys())
def test_flax_path_leads_back_to_the_key(key: str) -> None:
    rule = tensor_rule(key)
    assert rule is not None
    assert original_key(rule.flax_path) == key
    assert not any(part.isdigit() for part in rule.flax_path.split("/"))


@examples(100)
@given(st.lists(original_keys(), min_size=2, max_size=30, unique=True))
def test_no_two_keys_share_a_name(keys: list[str]) -> None:
    rules = [rule for key in keys if (rule := tensor_rule(key))]
    assert len({rule.flax_path for rule in rules}) == len(keys)
    stored = [(name, rule.row if rule.split.name == "ROW" else 0) for rule in rules for name in rule.hugging_face]
    assert len(set(stored)) == len(stored)


@pytest.mark.parametrize(
    ("key", "flax", "hugging_face"),
    [
        (
            "image_encoder.trunk.body.stages_2.blocks.11.token_mixer.conv1.bn.running_var",
            "image_encoder/trunk/body/stages_2/blocks_11/token_mixer/conv1/bn/var",
            "vision_encoder.backbone.timm_model.stages_2.blocks.11.token_mixer.conv1.bn.running_var",
        ),
        (
            "sam_mask_decoder.transformer.layers.1.mlp.layers.0.weight",
            "sam_mask_decoder/transformer/layers_1/mlp/layers_0/kernel",
            "mask_decoder.transformer.layers.1.mlp.proj_in.weight",
        ),
        (
            "sam_mask_decoder.transformer.final_attn_token_to_image.out_proj.bias",
            "sam_mask_decoder/transformer/final_attn_token_to_image/out_proj/bias",
            "mask_decoder.transformer.final_attn_token_to_image.o_proj.bias",
        ),
        (
            "memory_encoder.mask_downsampler.encoder.10.weight",
            "memory_encoder/mask_downsampler/encoder_10/scale",
            "memory_encoder.mask_downsampler.layers.3.layer_norm.weight",
        ),
        (
            "memory_encoder.fuser.layers.1.gamma",
            "memory_encoder/fuser/layers_1/gamma",
            "memory_encoder.memory_fuser.layers.1.scale",
        ),
        (
            "sam_prompt_encoder.point_embeddings.3.weight",
            "sam_prompt_encoder/point_embeddings_3",
            "prompt_encoder.point_embed.weight",
        ),
    ],
)
def test_names(key: str, flax: str, hugging_face: str) -> None:
    rule = tensor_rule(key)
    assert rule is not None
    assert (rule.flax_path, rule.hugging_face) == (flax, (hugging_face,))


@pytest.mark.parametrize("key", ["no_mem_pos_enc", "image_encoder.trunk.body.stem.conv1.bn.num_batches_tracked", "x"])
def test_no_rule_for_tensors_that_the_network_does_not_use(key: str) -> None:
    assert tensor_rule(key) is None


def test_unknown_parameter() -> None:
    with pytest.raises(KeyError, match="memory_bank/kernel"):
        original_key("memory_bank/kernel")


def test_every_kind_is_used_and_every_drop_has_a_reason() -> None:
    from edgetam_jax.checkpoints import key_table

    used = {id(rule.kind) for rule in KEY_TABLE}
    assert used == {id(value) for value in vars(key_table).values() if isinstance(value, ModuleKind)}
    assert all(dropped.reason for dropped in DROPPED_TENSORS)


def module_shapes(module: Any) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("config", [EDGETAM, SMALL], ids=["full", "small"])
def test_originals_tensors(config: Config) -> None:
    import torch

    from tests.support import oracle

    with torch.device("meta"):
        expected = module_shapes(oracle.build_original(config))
    assert expected_shapes(tree_shapes(config), Layout.ORIGINAL) == expected
    assert config != EDGETAM or len(expected) == 982


@pytest.mark.parametrize("config", [EDGETAM, SMALL], ids=["full", "small"])
def test_hugging_faces_tensors(config: Config) -> None:
    import torch
    from transformers import EdgeTamConfig, EdgeTamModel, EdgeTamVideoConfig, EdgeTamVideoModel

    from edgetam_jax.checkpoints.hf_config import write_hf_config
    from tests.support import oracle

    del oracle  # declares operators that these classes need
    builders: list[tuple[bool, Any, Any, int]] = [
        (False, EdgeTamVideoModel, EdgeTamVideoConfig, 984),
        (True, EdgeTamModel, EdgeTamConfig, 831),
    ]
    for image_only, model, model_config, count in builders:
        with torch.device("meta"):
            expected = module_shapes(model(model_config.from_dict(write_hf_config(config, image_only))))
        assert expected_shapes(tree_shapes(config, image_only), Layout.HUGGING_FACE) == expected
        assert config != EDGETAM or len(expected) == count
