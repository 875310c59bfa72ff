"""Every tensor of a checkpoint is either dropped for a reason, or it counts: changing it changes an output."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from edgetam_jax.checkpoints.key_table import DROPPED_TENSORS, Layout
from edgetam_jax.checkpoints.mapping import from_layout
from edgetam_jax.config import EDGETAM, STRIDE, Config
from edgetam_jax.model import Model, Params
from edgetam_jax.types import Label, Memory, PromptInputs
from tests.parity.cases import picture
from tests.parity.pairs import Pair, normal
from tests.support.oracle import numpy_state_dict

LABELS = ((1, 0, -1), (2, 3, -1))  # between them every kind of point


def test_every_tensor_is_consumed_or_dropped_for_a_reason(full_original: Any) -> None:
    tensors = numpy_state_dict(full_original)
    converted = from_layout(tensors, Layout.ORIGINAL, EDGETAM, "the reference")
    dropped = {reason: set(names) for reason, names in converted.dropped.items()}
    counters = {name for name in tensors if name.endswith("num_batches_tracked")}
    assert dropped == {DROPPED_TENSORS[0].reason: counters, DROPPED_TENSORS[1].reason: {"no_mem_pos_enc"}}
    assert len(tensors) == 982
    assert len(counters) == 106
    # A parameter is one tensor, turned at most: nothing is merged, split or used twice.
    leaves = jax.tree.leaves(converted.params)
    assert len(leaves) == 982 - 107
    consumed = sum(tensor.size for name, tensor in tensors.items() if name not in counters | {"no_mem_pos_enc"})
    assert sum(leaf.size for leaf in leaves) == consumed


class Objective:
    """A sum over all that the network answers, each answer weighted at random so that nothing cancels."""

    def __init__(self) -> None:
        self.total, self.seed = jnp.zeros(()), 0

    def add(self, *answers: Any) -> None:
        for answer in answers:
            self.seed += 1
            weight = jax.random.normal(jax.random.key(self.seed), answer.shape)
            self.total = self.total + (weight * answer).sum() / np.sqrt(answer.size)


def random_array(seed: int, *shape: int) -> Any:
    return jnp.asarray(normal(seed, *shape))


def objective(params: Params, config: Config, pixels: Any) -> Any:
    """Everything that images and videos ask of the network, on one frame."""
    model, total = Model(params, config), Objective()
    size, objects = config.image_size, len(LABELS)
    features = model.encode_image(pixels)
    clean = features._replace(embedding=model.add_no_memory_embedding(features.embedding))
    for has_mask in (False, True):
        prompt = PromptInputs(
            points=jnp.asarray(np.random.default_rng(0).uniform(0, size, (objects, 3, 2)), jnp.float32),
            labels=jnp.asarray(LABELS, jnp.int32),
            mask=5 * random_array(1, objects, config.mask_size, config.mask_size),
            has_mask=jnp.full(objects, has_mask),
        )
        total.add(*model.segment(clean, prompt))
    total.add(model.pointer(random_array(2, 2, config.hidden_dim), jnp.array([True, False])))
    given = jnp.zeros((1, size, size)).at[:, size // 4 : size // 2, size // 3 : size // 2].set(1)
    # The pointer of a given mask, before the decoder's doubts can replace it.
    shown = model.apply(lambda network, mask: network.mask_downsample(mask[..., None])[..., 0], given)
    prompt = PromptInputs(
        points=jnp.zeros((1, 2, 2)),
        labels=jnp.full((1, 2), Label.NOT_A_POINT, jnp.int32),
        mask=shown,
        has_mask=jnp.ones(1, bool),
    )
    total.add(model.segment(features, prompt).tokens)
    tokens = model.encode_memory(features.embedding, 3 * random_array(3, 1, config.mask_size, config.mask_size), False)
    total.add(tokens)
    frames = config.memory_frames
    memory = Memory(
        frames=tokens[:, None] + random_array(4, 1, frames, config.perceiver.tokens, config.memory_dim),
        rows=jnp.arange(frames)[None],
        frames_valid=jnp.ones((1, frames), bool),
        pointers=random_array(5, 1, config.pointers, config.hidden_dim),
        pointers_valid=jnp.ones((1, config.pointers), bool),
    )
    total.add(model.condition_on_memory(model.self_attend(features.embedding), memory))
    return total.total


def shared_key_bias(path: str) -> bool:
    """It adds the same to every score of a query, which softmax does not see. So it cannot matter, in any network.

    In memory attention keys turn with their place, and it does.
    """
    return path.startswith("sam_mask_decoder/") and path.endswith("k_proj/bias")


def test_every_parameter_moves_an_output(full_pair: Pair) -> None:
    model = full_pair.model
    # The same weights serve every size; this is the smallest that the grids allow.
    config = dataclasses.replace(model.config, image_size=STRIDE * model.config.perceiver.window_grid)
    gradient = jax.jit(jax.grad(objective), static_argnums=1)(model.params, config, picture(config.image_size))
    moved = {
        path: float(jnp.linalg.norm(leaf) / jnp.sqrt(leaf.size))
        for path, leaf in flatten_dict(gradient, sep="/").items()
    }
    assert len(moved) == 875
    assert all(np.isfinite(size) for size in moved.values())
    still = {path for path, size in moved.items() if size < 3e-5}
    assert still == {path for path in moved if shared_key_bias(path)}
