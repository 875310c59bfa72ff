"""A minimal network, a clip and prompts, on which tracking is compared with itself."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from edgetam_jax.config import (
    Config,
    DecoderConfig,
    MemoryAttentionConfig,
    MemoryEncoderConfig,
    PerceiverConfig,
    TrunkConfig,
)
from edgetam_jax.model import Model
from edgetam_jax.prompts import Prompt, Prompts
from edgetam_jax.tracking.state import State, Tracks
from edgetam_jax.tracking.stream import track_step
from edgetam_jax.types import NO_OBJECT

# As small as it gets: to compile is what takes time here. Both rings wrap after a few frames.
MINIMAL = Config(
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


def clip(seed: int) -> np.ndarray:
    """A picture that drifts to the right while its light changes."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (5, 6, 3), np.uint8)
    still = np.asarray(Image.fromarray(coarse).resize((2 * WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(float)
    light = rng.uniform(0.5, 1.5, (FRAMES, 1, 1, 3))
    return np.stack([np.clip(light[t] * still[:, 3 * t : 3 * t + WIDTH], 0, 255) for t in range(FRAMES)]).astype("u1")


def disk(cx: float, cy: float, radius: float) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (x - cx) ** 2 + (y - cy) ** 2 < radius**2


CLICK = Prompt(points=[[12, 14]], labels=[1], obj_id=3)
BOX = Prompt(box=[22, 12, 40, 28], obj_id=8)
MASK = Prompt(mask=disk(30, 20, 9), obj_id=8)
LATER = [CLICK, Prompt(points=[[20, 14], [40, 3]], labels=[1, 0], frame=5, obj_id=3), MASK]


def places(prompts: Sequence[Prompt]) -> Prompts:
    """In the shapes of two prompts an object and with masks, so that all tests share compiled programs."""
    spare = [Prompt(mask=MASK.mask, frame=f, obj_id=99) for f in (0, 1)]
    built = Prompts.build([*prompts, *spare])
    return jax.tree.map(lambda x: x[:-1], built)


def assert_same(got: Tracks, want: Tracks, rtol: float = RTOL) -> None:
    """Logits, scores and estimates; `rtol` of the largest value, or bit by bit if it is zero."""
    for name in ("logits", "scores", "ious"):
        g, w = np.asarray(getattr(got, name)), np.asarray(getattr(want, name))
        assert g.shape == w.shape
        absent = w == NO_OBJECT
        np.testing.assert_array_equal(g == NO_OBJECT, absent, err_msg=name)
        error, size = np.abs(g - w)[~absent].max(), np.abs(w[~absent]).max()
        assert error <= rtol * size, f"{name}: {error:.3g} of {size:.3g}"


def joined(pieces: Sequence[Tracks]) -> Tracks:
    logits, scores, ious = (
        jnp.concatenate([getattr(p, name) for p in pieces]) for name in ("logits", "scores", "ious")
    )
    return Tracks(logits, scores, ious, pieces[-1].obj_ids, pieces[-1].state)


def stream(model: Model, state: State, frames: Any, prompts: dict[int, Prompts]) -> tuple[State, list[Tracks]]:
    found = []
    for frame in frames:
        state, one = track_step(model, state, frame, prompts.get(int(state.frame)))
        found.append(one)
    return state, found


def first_prompts(prompts: Prompts) -> Prompts:
    """One prompt an object, as a step takes them, none of them a mask."""
    one = jax.tree.map(lambda x: x[:, :1] if x.ndim > 1 else x, prompts)
    return one._replace(masks=one.masks[:, :, :0, :0])
