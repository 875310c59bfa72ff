"""BatchNorm with the statistics of the batch, and the update of the running statistics."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from edgetam_jax.model import is_statistic
from edgetam_jax.nn.layers import ConvNorm
from edgetam_jax.nn.repvit import TokenMixer
from edgetam_jax.training.batch_norm import batch_statistics, update_statistics

LAYERS = {"conv": ConvNorm(3, 4, size=3, stride=2), "mixer": TokenMixer(3)}
X = jnp.asarray(5 + 2 * np.random.default_rng(0).standard_normal((6, 8, 8, 3)).astype(np.float32))


@pytest.fixture(params=LAYERS, ids=str)
def layer(request: pytest.FixtureRequest) -> nn.Module:
    return LAYERS[request.param]


def random_params(layer: nn.Module) -> Any:
    rng = np.random.default_rng(1)
    shapes = flatten_dict(jax.eval_shape(layer.init, jax.random.key(0), X)["params"])
    values = {path: rng.uniform(0.5, 1.5, x.shape).astype(np.float32) for path, x in shapes.items()}
    return unflatten_dict(jax.tree.map(jnp.asarray, values))


def normalised(layer: nn.Module, params: Any) -> tuple[Any, Any]:
    @jax.jit
    def run(params: Any) -> Any:
        with batch_statistics() as seen:
            return layer.apply({"params": params}, X), seen

    return run(params)


def test_the_batch_is_normalized_with_its_own_statistics(layer: nn.Module) -> None:
    """With these statistics as its running ones, the frozen layer has the same output."""
    params = random_params(layer)
    found, seen = normalised(layer, params)
    kept = update_statistics(params, seen, momentum=1.0)
    run = jax.jit(lambda params: layer.apply({"params": params}, X))
    np.testing.assert_allclose(run(kept), found, rtol=1e-4, atol=1e-4)
    assert np.abs(run(params) - found).max() > 0.1


def test_outputs_have_the_learned_scale_and_bias() -> None:
    params = random_params(LAYERS["conv"])
    found, _ = normalised(LAYERS["conv"], params)
    np.testing.assert_allclose(found.mean((0, 1, 2)), params["bn"]["bias"], rtol=1e-4)
    np.testing.assert_allclose(found.std((0, 1, 2)), params["bn"]["scale"], rtol=1e-3)


def test_only_running_statistics_are_updated(layer: nn.Module) -> None:
    params = random_params(layer)
    _, seen = normalised(layer, params)
    before: dict[Any, Any] = flatten_dict(params)
    after: dict[Any, Any] = flatten_dict(update_statistics(params, seen, momentum=0.25))
    assert set(seen) == {path for path in before if is_statistic(path)} != set()
    for path, value in before.items():
        want = 0.75 * value + 0.25 * seen[path] if path in seen else value
        np.testing.assert_allclose(after[path], want, rtol=1e-6)


def test_gradients_flow_through_mean_and_variance() -> None:
    """A longer kernel gives the same outputs, so the gradient in its direction is zero."""
    layer = LAYERS["conv"]
    params = random_params(layer)

    def loss(kernel: Any) -> Any:
        with batch_statistics():
            moved = {**params, "c": {**params["c"], "kernel": kernel}}
            return jnp.sin(layer.apply({"params": moved}, X)).sum()

    kernel = params["c"]["kernel"]
    parts = np.asarray(jax.jit(jax.grad(loss))(kernel)) * kernel
    assert np.abs(parts).sum() > 1 and abs(parts.sum()) < 1e-3 * np.abs(parts).sum()


def test_it_ends_with_the_context() -> None:
    layer, params = LAYERS["conv"], random_params(LAYERS["conv"])
    before = layer.apply({"params": params}, X)
    with batch_statistics() as seen:
        pass
    np.testing.assert_array_equal(layer.apply({"params": params}, X), before)
    assert not seen


def test_names_of_statistics() -> None:
    assert is_statistic(("a", "bn", "mean")) and is_statistic(("bn", "var"))
    assert is_statistic(("pe_layer", "positional_encoding_gaussian_matrix"))
    assert not is_statistic(("bn", "scale")) and not is_statistic(("mean",)) and not is_statistic(("norm", "var"))


def test_statistics_are_those_of_the_whole_batch_on_several_devices(layer: nn.Module) -> None:
    """So is the gradient, which flows from one device to another through the statistics."""
    params, weight = random_params(layer), np.random.default_rng(2).standard_normal(X.shape[:1]).astype(np.float32)

    def loss(params: Any, x: Any, weight: Any, axis: str | None) -> Any:
        with batch_statistics(axis) as seen:
            cost = jnp.square(layer.apply({"params": params}, x)).sum((1, 2, 3))
        return (weight * cost).sum(), seen

    parts = X.reshape(2, 3, *X.shape[1:]), weight.reshape(2, 3)
    gradient = jax.grad(loss, has_aux=True)
    whole, seen = jax.jit(partial(gradient, axis=None))(params, X, weight)
    each = jax.vmap(partial(gradient, axis="data"), (None, 0, 0), axis_name="data")
    shares, statistics = jax.jit(each)(params, *parts)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), jax.tree.map(lambda x: x[1], statistics), seen)
    flat, total = flatten_dict(whole), flatten_dict(jax.tree.map(lambda x: x.sum(0), shares))
    largest = max(np.abs(x).max() for x in flat.values())  # that of a filter that is normalised may be nothing
    for path, want in flat.items():
        np.testing.assert_allclose(total[path], want, rtol=0, atol=1e-5 * largest, err_msg=str(path))
