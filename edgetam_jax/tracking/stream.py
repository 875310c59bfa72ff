"""`track_step`: one frame at a time, for live video."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import UInt8

from edgetam_jax.model import Model, for_inference
from edgetam_jax.ops.pixels import Rule, as_image
from edgetam_jax.ops.tree import repeat, resolve_vectorize
from edgetam_jax.prompts import Prompts, check_against_video
from edgetam_jax.tracking.prompt_entries import prompts_at
from edgetam_jax.tracking.state import State, Tracks, check_for_state, make_tracks
from edgetam_jax.tracking.step import FrameInputs, TrackOptions, encode_frames, step
from edgetam_jax.types import Label


def track_step(
    model: Model,
    state: State,
    frame: Any,
    prompts: Prompts | None = None,
    *,
    preprocess: Rule = "video",
    vectorize: bool | None = None,
) -> tuple[State, Tracks]:
    """Tracks all objects on the next frame of a video.

    An object that has memory keeps its row of the state: build later prompts with `obj_ids=` the objects of all rows.

    Args:
        model: A model for videos, see `load`. With `model.folded()`, calls skip the check that its arrays are
            unchanged.
        state: The state that `init_state` or the last call returned. It is donated: its arrays cannot be used again.
        frame: [H, W, 3] uint8 RGB, the frame with the number `state.frame`.
        prompts: Prompts on this frame, with as many rows as the state; none by default.
        preprocess: How the frame is resized: "video" as the original resizes video, "image" as it resizes images, or
            "hf" as the Hugging Face port.
        vectorize: Computes objects at once instead of one by one. By default, except on CPU.

    Returns:
        The state for the next frame, and the frame's `Tracks`, with T = 1 and no state.

    Raises:
        CheckpointError: The model is for still images only.
        FrameError: The frame is not an image.
        PromptError: The prompts do not fit the frame or the state.
    """
    model.check_for_video()
    pixels = as_image(frame)
    if prompts is None:
        prompts = no_prompts(len(state.obj_ids))
    else:
        check_against_video(prompts, None, (pixels.shape[0], pixels.shape[1]))
        check_for_state(prompts, state, streaming=True)
    options = TrackOptions(preprocess=preprocess, vectorize=resolve_vectorize(vectorize, model.platform))
    return _track_step(for_inference(model), state, pixels, prompts, options)


@partial(jax.jit, static_argnames="options", donate_argnums=1)
def _track_step(
    model: Model, state: State, pixels: UInt8[Array, "height width 3"], prompts: Prompts, options: TrackOptions
) -> tuple[State, Tracks]:
    features = encode_frames(model, pixels, options.preprocess)
    frame_prompts = prompts_at(model, prompts, state.frame, pixels)
    inputs = FrameInputs(prompts=frame_prompts)
    banks, output = step(model, state.banks, features, state.frame, inputs, options=options)
    obj_ids = jnp.where(frame_prompts.valid, prompts.obj_ids, state.obj_ids)
    return State(banks, state.frame + 1, obj_ids), make_tracks(repeat(output.mask, 1), obj_ids, None)


@cache
def no_prompts(num_objects: int) -> Prompts:
    host: Any = np  # NumPy arrays, for JAX's would be computed on the device
    return Prompts(
        obj_ids=host.arange(num_objects, dtype=np.int32),
        frames=host.zeros((num_objects, 1), np.int32),
        valid=host.zeros((num_objects, 1), bool),
        points=host.zeros((num_objects, 1, 4, 2), np.float32),
        labels=host.full((num_objects, 1, 4), Label.ABSENT, np.int32),
        masks=host.zeros((num_objects, 1, 0, 0), bool),
        is_mask=host.zeros((num_objects, 1), bool),
    )
