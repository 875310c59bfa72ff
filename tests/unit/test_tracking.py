"""`track` and `track_step` under every transformation and in every way of calling them: the same numbers."""

import gc
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from edgetam_jax import track as track_module
from edgetam_jax import tracking
from edgetam_jax.config import (
    Config,
    DecoderConfig,
    MemoryAttentionConfig,
    MemoryEncoderConfig,
    PerceiverConfig,
    TrunkConfig,
)
from edgetam_jax.errors import PromptError
from edgetam_jax.model import Model
from edgetam_jax.nn.edgetam import NO_OBJECT
from edgetam_jax.prompts import Prompt, Prompts
from edgetam_jax.track import State, Tracks, init_state, track, track_step
from tests import oracle
from tests.parity.pairs import make_pair

# As small as it gets: to compile is what takes time here. Both rings wrap after a few frames.
SMALL = Config(
    image_size=64,
    hidden_dim=16,
    memory_dim=8,
    memory_frames=3,
    pointers=4,
    trunk=TrunkConfig(widths=(8, 8, 8, 8), depths=(1, 1, 1, 1)),
    decoder=DecoderConfig(layers=1, heads=2, mlp_dim=16, iou_dim=16),
    memory_attention=MemoryAttentionConfig(layers=1, mlp_dim=16),
    memory_encoder=MemoryEncoderConfig(fuser_layers=1),
    perceiver=PerceiverConfig(layers=1, latents=4, window_grid=2),
)
FRAMES, HEIGHT, WIDTH = 8, 36, 48
SLOTS = 2
RTOL = 1e-5


@pytest.fixture(scope="module")
def model() -> Model:
    """Random in every tensor; objects are found on most frames and lost on some, see `test_the_tracks_are_telling`."""
    original = oracle.randomize(oracle.build_original(SMALL), seed=0)
    original.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.add_(0.5)
    return jax.tree.map(jnp.asarray, make_pair(original, SMALL).model)


def clip(seed: int) -> np.ndarray:
    """A picture that drifts to the right while its light changes."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (5, 6, 3), np.uint8)
    still = np.asarray(Image.fromarray(coarse).resize((2 * WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(float)
    light = rng.uniform(0.5, 1.5, (FRAMES, 1, 1, 3))
    return np.stack([np.clip(light[t] * still[:, 3 * t : 3 * t + WIDTH], 0, 255) for t in range(FRAMES)]).astype("u1")


@pytest.fixture(scope="module")
def frames() -> jax.Array:
    return jnp.asarray(clip(0))


def disk(cx: float, cy: float, radius: float) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (x - cx) ** 2 + (y - cy) ** 2 < radius**2


CLICK = Prompt(points=[[12, 14]], labels=[1], obj_id=3)
MASK = Prompt(mask=disk(30, 20, 9), obj_id=8)
LATER = [CLICK, Prompt(points=[[20, 14], [40, 3]], labels=[1, 0], frame=5, obj_id=3), MASK]


def places(prompts: Sequence[Prompt]) -> Prompts:
    """In the shapes of two prompts an object and with masks, so that all tests share compiled programs."""
    spare = [Prompt(mask=MASK.mask, frame=f, obj_id=99) for f in (0, 1)]
    built = Prompts.build([*prompts, *spare])
    return jax.tree.map(lambda x: x[:-1], built)


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return places(LATER)


@pytest.fixture(scope="module")
def first(prompts: Prompts) -> Prompts:
    """On the first frame only, where those who watch frames come know as much as those who have them all."""
    return places([CLICK, MASK])


@pytest.fixture(scope="module")
def tracks(frames: jax.Array, prompts: Prompts, model: Model) -> Tracks:
    return track(frames, prompts, model)


def assert_same(got: Tracks, want: Tracks, rtol: float = RTOL) -> None:
    """Logits, scores and estimates; `rtol` of the largest value, or bit by bit if it is zero."""
    for name in ("logits", "scores", "ious"):
        g, w = np.asarray(getattr(got, name)), np.asarray(getattr(want, name))
        assert g.shape == w.shape
        absent = w == NO_OBJECT
        np.testing.assert_array_equal(g == NO_OBJECT, absent, err_msg=name)
        error, size = np.abs(g - w)[~absent].max(), np.abs(w[~absent]).max()
        assert error <= rtol * size, f"{name}: {error:.3g} of {size:.3g}"


def test_the_tracks_are_telling(tracks: Tracks) -> None:
    """The other tests compare with these: they differ from frame to frame, and both objects come and go."""
    scores, logits = np.asarray(tracks.scores), np.asarray(tracks.logits)
    assert scores.shape == (FRAMES, 2) and logits.shape == (FRAMES, 2, 16, 16)
    print(np.round(scores.T, 2))
    assert ((scores > 0).mean(0) > 0.3).all() and ((scores < 0).any(0)).all()
    present = logits[scores > 0]
    assert (present > 0).any() and (present < 0).any()
    assert np.unique(scores[:, 0]).size == FRAMES


def test_jit_of_everything(frames: jax.Array, prompts: Prompts, model: Model, tracks: Tracks) -> None:
    assert_same(jax.jit(lambda f, p, m: track(f, p, m))(frames, prompts, model), tracks)
