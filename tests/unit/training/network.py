"""A minimal network with random parameters, and clips to train it on."""

import dataclasses
import functools

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from edgetam_jax.config import Config, MemoryEncoderConfig, TrunkConfig
from edgetam_jax.data.example import Example
from edgetam_jax.model import Model, Params, param_shapes
from tests.support.scene import MINIMAL

SIZE = MINIMAL.image_size
TINY = dataclasses.replace(
    MINIMAL,
    trunk=TrunkConfig(widths=(8, 8, 8, 8), depths=(1, 0, 0, 0)),
    memory_encoder=MemoryEncoderConfig(fuser_layers=0),
)


@functools.cache
def tiny_model(seed: int = 0) -> Model:
    """A model whose outputs depend on all of its inputs, and which finds most objects. Nothing is compiled."""
    return Model(draw_params(TINY, seed), TINY)


def draw_params(config: Config, seed: int = 0) -> Params:
    """Random parameters of a size that keeps outputs finite."""
    rng = np.random.default_rng(seed)

    def draw(path: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
        if path[-1] in ("var", "scale"):
            values = rng.uniform(0.5, 1.5, shape)
        elif path[-1] == "kernel":
            values = rng.standard_normal(shape) * np.prod(shape[:-1]) ** -0.5
        else:
            values = 0.3 * rng.standard_normal(shape)
        if path[-3:] == ("pred_obj_score_head", "layers_2", "bias"):
            values = values + 1
        return values.astype(np.float32)

    shapes = flatten_dict(_shapes(config))
    return unflatten_dict({path: draw(path, x.shape) for path, x in shapes.items()})


@functools.cache
def _shapes(config: Config) -> Params:
    return param_shapes(config)


def clips(count: int, length: int, seed: int = 0) -> Example:
    """Clips [B, T, ...] of two objects: a disk that moves to the right, and a square, which is absent from the first
    frame of every second clip."""
    rng = np.random.default_rng(seed)
    frames = np.empty((count, length, SIZE, SIZE, 3), np.uint8)
    masks = np.zeros((count, length, 2, SIZE, SIZE), bool)
    y, x = np.mgrid[:SIZE, :SIZE]
    for clip, t in np.ndindex(count, length):
        masks[clip, t, 0] = (x - 20 - 6 * t) ** 2 + (y - 18 - 4 * clip) ** 2 < 100
        masks[clip, t, 1] = (abs(x - 30) < 9) & (abs(y - 44) < 10) & (t > 0 or clip % 2 == 0)
        colors = rng.integers(0, 255, (3, 3))
        frames[clip, t] = colors[masks[clip, t, 0] + 2 * (masks[clip, t, 1] & ~masks[clip, t, 0])]
        frames[clip, t] //= 2
        frames[clip, t] += rng.integers(0, 99, (SIZE, SIZE, 3), np.uint8)
    return Example(frames, masks, np.ones((count, 2), bool))
