"""`Model.folded`: the same network with fewer parameters, and what it is refused for."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.core import Tracer

from edgetam_jax import Model, VideoPredictor, save
from edgetam_jax.checkpoints.mapping import VIDEO_PARTS
from edgetam_jax.errors import CheckpointError, TrainingError
from edgetam_jax.model import for_inference
from edgetam_jax.nn.edgetam import EdgeTAM
from edgetam_jax.training.optimizer import OptimizerConfig, group_params
from edgetam_jax.types import Memory
from tests.support.scene import MINIMAL
from tests.support.tolerances import COMPONENT_RTOL
from tests.unit.training.network import draw_params

CONFIG = dataclasses.replace(MINIMAL, perceiver=dataclasses.replace(MINIMAL.perceiver, layers=2))


@pytest.fixture(scope="module")
def model() -> Model:
    return jax.tree.map(jnp.asarray, Model(draw_params(CONFIG), CONFIG))


@pytest.fixture(scope="module")
def folded(model: Model) -> Model:
    return model.folded()


def without_video(model: Model) -> Model:
    return Model({name: part for name, part in model.params.items() if name not in VIDEO_PARTS}, CONFIG)


def inputs() -> tuple[Any, ...]:
    """An image, a mask, and a memory, all random."""
    keys, size = jax.random.split(jax.random.key(0), 4), CONFIG.image_size
    memory = Memory(
        frames=jax.random.normal(keys[0], (2, CONFIG.perceiver.tokens, CONFIG.memory_dim)),
        rows=jnp.array([0, 1]),
        frames_valid=jnp.array([True, True]),
        pointers=jax.random.normal(keys[1], (3, CONFIG.hidden_dim)),
        pointers_valid=jnp.array([True, False, True]),
    )
    mask = jax.random.bernoulli(keys[2], shape=(size, size)).astype(jnp.float32)
    return jax.random.normal(keys[3], (size, size, 3)), mask, memory


def close(got: Any, want: Any, tolerance: float = COMPONENT_RTOL) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_all_components_give_the_same(model: Model, dtype: str) -> None:
    model = model.astype(dtype)
    run: Callable = jax.jit(lambda model: model.apply(EdgeTAM.init_all, *inputs()))
    close(run(model.folded()), run(model), COMPONENT_RTOL if dtype == "float32" else 2**-6)


def test_astype_of_a_folded_model(model: Model, folded: Model) -> None:
    half = folded.astype("bfloat16")
    assert {str(x.dtype) for x in jax.tree.leaves(half.weights)} == {"bfloat16"}
    assert jax.tree.map(lambda x: (x.shape, x.dtype), half) == jax.tree.map(
        lambda x: (x.shape, x.dtype), model.astype("bfloat16").folded()
    )
    close(half.weights, model.astype("bfloat16").folded().weights, 2**-6)


def test_only_what_is_read_is_left(model: Model, folded: Model) -> None:
    """No statistic of a BatchNorm, no kernel of a branch. And nothing that is left is unused."""
    left = {"/".join(path) for path, leaf in flatten_dict(folded.params).items() if leaf is not None}
    assert not any("/bn/" in name for name in left)
    assert "no_mem_embed" in left and "sam_mask_decoder/iou_token" in left
    assert folded.folded() is folded
    folded.check_for_video()
    assert folded.platform == model.platform and folded.config is CONFIG

    def run(leaves: list[jax.Array]) -> Any:
        return jax.tree.unflatten(structure, leaves).apply(EdgeTAM.init_all, *inputs())

    leaves, structure = jax.tree.flatten(folded)
    traced = jax.jit(run, keep_unused=False).trace(leaves)
    used = {id(x) for equation in traced.jaxpr.jaxpr.eqns for x in equation.invars}
    unused = [x for x in traced.jaxpr.jaxpr.invars if id(x) not in used]
    assert not unused


def test_a_model_for_still_images(model: Model) -> None:
    still = without_video(model)
    folded, (pixels, mask, _) = still.folded(), inputs()
    run = jax.jit(lambda model: model.apply(EdgeTAM.init_images, pixels, mask[: CONFIG.mask_size, : CONFIG.mask_size]))
    close(run(folded), run(still))
    with pytest.raises(CheckpointError, match="still images only"):
        folded.check_for_video()


def test_it_is_folded_once(model: Model) -> None:
    assert for_inference(model) is for_inference(model)
    assert for_inference(for_inference(model)) is for_inference(model)
    assert VideoPredictor(model).model is model
    changed = jax.tree.map(lambda x: x + 1, model)
    assert for_inference(changed) is not for_inference(model)
    params: Any = model.params
    copy = Model({**params}, CONFIG)
    before = for_inference(copy)
    copy.params["no_mem_embed"] = copy.params["no_mem_embed"] + 1  # type: ignore[index]
    assert for_inference(copy) is not before


def test_traced_parameters_are_not_folded(model: Model) -> None:
    """Training differentiates with respect to them; and arrays of NumPy may change."""

    def check(x: jax.Array) -> jax.Array:
        mixed = Model({**model.params, "no_mem_embed": x}, CONFIG)
        assert for_inference(mixed) is mixed
        inside = for_inference(Model(model.params, CONFIG))  # these parameters are constants of this program
        assert not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(inside))
        return x

    jax.jit(check)(model.params["no_mem_embed"])
    host = jax.tree.map(np.asarray, model)
    assert for_inference(host) is host


def test_gradients_pass_through(model: Model) -> None:
    pixels = inputs()[0]

    def loss(model: Model, fold: bool) -> jax.Array:
        features = (model.folded() if fold else model).encode_image(pixels)
        return jnp.square(features.embedding).sum()

    grads = jax.jit(jax.grad(loss), static_argnums=1)
    close(grads(model, True).params["image_encoder"], grads(model, False).params["image_encoder"], 1e-4)


@pytest.mark.parametrize("format", ["safetensors", "orbax"])
def test_it_cannot_be_saved(folded: Model, tmp_path: Path, format: Any) -> None:
    with pytest.raises(CheckpointError, match="save the model on which folded"):
        save(folded, tmp_path / "model", format)
    assert not (tmp_path / "model").exists()


def test_it_cannot_be_trained(folded: Model) -> None:
    with pytest.raises(TrainingError, match="train the model on which folded"):
        group_params(folded.params, OptimizerConfig())


def test_initialisation_folds_nothing() -> None:
    variables = jax.eval_shape(lambda key: EdgeTAM(CONFIG).init(key, *inputs(), method="init_all"), jax.random.key(0))
    assert set(variables) == {"params"}
