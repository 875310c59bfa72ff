"""`track` under `jax.grad`: what training needs."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgetam_jax import Model, Prompt, Prompts, track
from tests.support.scene import BOX

FRAMES = 3
# What these prompts do not use: they hold no mask, and of three masks one is chosen (not always the same one).
UNUSED = ("mask_downsample", "mask_downscaling", "output_hypernetworks_mlps")


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return Prompts.build([Prompt(points=[[12, 14], [20, 30]], labels=[1, 0]), BOX])


@pytest.fixture(scope="module")
def loss_and_gradient(frames: jax.Array, prompts: Prompts) -> Any:
    return jax.jit(jax.value_and_grad(partial(loss, frames[:FRAMES], prompts, True)))


def loss(frames: jax.Array, prompts: Prompts, remat: bool, model: Model) -> jax.Array:
    """Of everything that tracking returns; soft, so that it has no kinks of its own."""
    tracks = track(frames, prompts, model, remat=remat)
    return jnp.tanh(tracks.logits / 20).mean() + jnp.tanh(tracks.scores).mean() + tracks.ious.mean()


@pytest.mark.slow
def test_every_parameter_is_reached(loss_and_gradient: Any, model: Model) -> None:
    _, gradient = loss_and_gradient(model)
    leaves = {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(gradient)}
    assert all(np.isfinite(x).all() for x in leaves.values())
    still = {name for name, x in leaves.items() if not np.abs(x).max() > 0}
    blind = {name for name in still if "transformer" in name and name.endswith("['k_proj']['bias']")}  # see Attention
    assert {name for name in still - blind if not any(part in name for part in UNUSED)} == set()
    moving = {name for name in leaves if "output_hypernetworks_mlps" in name} - still
    assert len(moving) >= 2 * 6  # of two masks at least, three layers each


@pytest.mark.slow
def test_gradients_are_the_slope(loss_and_gradient: Any, model: Model) -> None:
    """Along the gradient, the loss rises by its length squared."""
    _, gradient = loss_and_gradient(model)
    length = np.sqrt(sum(np.square(x).sum(dtype=np.float64) for x in map(np.asarray, jax.tree.leaves(gradient))))
    step = 1e-3 / length

    def value(sign: float) -> float:
        moved = jax.tree.map(lambda x, g: x + sign * step / length * g, model, gradient)
        return float(loss_and_gradient(moved)[0])

    finite_difference = (value(1) - value(-1)) / (2 * step)
    assert finite_difference == pytest.approx(length, rel=2e-2)


def test_rematerialisation_keeps_less(frames: jax.Array, prompts: Prompts, model: Model) -> None:
    """What the way forward saves for the way back, in bytes."""

    def saved(remat: bool) -> int:
        back = jax.eval_shape(lambda m: jax.vjp(partial(loss, frames[:FRAMES], prompts, remat), m)[1], model)
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(back))

    assert saved(True) < saved(False) / 2
