"""A rollout: tracking objects through clips with a simulated user, and the losses of every prediction.

    plan = make_plans(keys, examples.masks, config.user)
    result = rollout(model, examples, plan, keys, config)
    loss = reduce_losses(result.losses, result.tracked, count).total

Training differentiates `tracking.step.step`, the function that `track` scans. Clips are a leading axis B.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from edgetam_jax.data.example import Example
from edgetam_jax.data.simulated_user import Plan, User, make_plan
from edgetam_jax.model import Model
from edgetam_jax.ops.tree import zeros_like_output
from edgetam_jax.prompts import Prompts
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank
from edgetam_jax.tracking.step import (
    FrameInputs,
    PrecomputedEntries,
    StepOutput,
    TrackOptions,
    encode_frames,
    step,
)
from edgetam_jax.training.interaction import FrameTargets, RolloutConfig, enlarge, frame_losses, prompted_outputs
from edgetam_jax.training.losses import Losses, mask_iou


class Rollout(NamedTuple):
    """The results for O objects in B clips of T frames."""

    losses: Losses  # [T, B, O] summed over the correction rounds; 0 where the object is not tracked yet
    ious: Float[Array, "T B O"]  # of the last prediction with the ground truth
    scores: Float[Array, "T B O"]  # logit of the object's presence
    tracked: Bool[Array, "T B O"]  # whether the object was prompted or corrected on this frame or an earlier one
    visible: Bool[Array, "T B O"]
    embedding: Float[Array, "T B H W C"]  # of the frames
    conditioned: Float[Array, "T B O H W C"]  # after memory attention


def make_plans(keys: Key[Array, "B"], masks: Bool[Array, "B T O s s"], user: User) -> Plan:
    """A plan for every clip."""
    return jax.vmap(lambda key, masks: make_plan(key, masks, user))(keys, masks)


def rollout(
    model: Model,
    examples: Example,
    plan: Plan,
    keys: Key[Array, "B"],
    config: RolloutConfig,
    remat: bool = True,
) -> Rollout:
    """Tracks the objects of all clips from their prompts.

    Args:
        model: The network.
        examples: Clips [B, T, ...].
        plan: The prompts of all clips, and the frames that are corrected.
        keys: Random keys for the corrections of each clip.
        config: The simulated user, the losses and the dtype.
        remat: Whether the backward pass computes each frame again instead of storing its activations.
    """
    clips, length, size, _ = examples.frames.shape[:4]
    frame_indices = jnp.arange(length)
    loss_masks = shrink(examples.masks, config.mask_size or size)
    targets = FrameTargets(
        frame_idx=frame_indices,
        frames=rearrange(examples.frames, "b t ... -> t b ..."),
        masks=rearrange(examples.masks, "b t ... -> t b ..."),
        loss_masks=rearrange(loss_masks, "b t ... -> t b ..."),
        prompts=jax.vmap(partial(_prompts_on_frame, plan.prompts))(frame_indices),
        corrected=rearrange(plan.corrected, "b t o -> t b o"),
        key=jax.vmap(lambda key: jax.random.split(key, length), out_axes=1)(keys),
    )
    body = partial(_rollout_frame, model, config)
    if length == 1:
        _, result = body(None, jax.tree.map(lambda x: x[0], targets))
        return jax.tree.map(lambda x: x[None], result)
    bank = memory.init(model.config, config.user.corrected_frames)
    banks = jax.tree.map(lambda x: jnp.broadcast_to(x, (clips, examples.valid.shape[1], *x.shape)), bank)
    return lax.scan(jax.checkpoint(body) if remat else body, banks, targets)[1]


def shrink(masks: Bool[Array, "*b s s"], size: int) -> Bool[Array, "*b {size} {size}"]:
    """Resizes masks: a pixel is set where at least half of the area that it averages is."""
    old = masks.shape[-1]
    if old == size:
        return masks
    share = jax.image.resize(masks.astype(jnp.float32), (*masks.shape[:-2], size, size), "linear", antialias=True)
    return share >= 0.5


def _prompts_on_frame(prompts: Prompts, frame_idx: Int[Array, ""]) -> Prompts:
    """The prompts [B, O, ...] on one frame, out of prompts [B, O, K, ...]."""
    here = prompts.valid & (prompts.frames == frame_idx)
    index = jnp.argmax(here, -1)

    def pick(x: Array) -> Array:
        return jnp.take_along_axis(x, jnp.expand_dims(index, tuple(range(2, x.ndim))), 2)[:, :, 0]

    picked = jax.tree.map(pick, prompts._replace(obj_ids=here, valid=here, is_mask=here & prompts.is_mask))
    return picked._replace(obj_ids=prompts.obj_ids)


def _rollout_frame(
    model: Model, config: RolloutConfig, banks: Bank | None, targets: FrameTargets
) -> tuple[Bank | None, Rollout]:
    """The body of the scan over frames: the banks after a frame, and its results [B, O, ...].

    The one frame of a still image needs no banks.
    """
    # Cast here, and not once for the whole clip, so that the gradients of frames are summed in float32.
    model = model.astype(config.dtype)
    features = encode_frames(model, targets.frames)
    prompted = targets.prompts.valid | targets.corrected

    def interact() -> tuple[StepOutput, Losses]:
        return prompted_outputs(model, config, features, banks, targets)

    if banks is None:
        output, losses = interact()
        losses = jax.tree.map(lambda x: jnp.where(prompted, x, 0), losses)
        tracked = prompted
    else:
        has_memory = jax.vmap(jax.vmap(memory.has_memory))(banks)
        entries, losses = lax.cond(prompted.any(), interact, lambda: zeros_like_output(interact))
        track_frame = partial(step, model, options=TrackOptions(vectorize=True, detail=True))
        inputs = FrameInputs(entries=PrecomputedEntries(entries, prompted, prompted))
        banks, output = jax.vmap(track_frame, (0, 0, None, 0))(banks, features, targets.frame_idx, inputs)
        assert output.aux is not None
        from_memory = frame_losses(output.aux, targets, config.weights)
        losses = jax.tree.map(
            lambda a, b: jnp.where(prompted, a, jnp.where(has_memory, b, 0)),
            losses,
            from_memory,
        )
        tracked = prompted | has_memory
    assert output.aux is not None
    result = Rollout(
        losses=losses,
        ious=mask_iou(enlarge(output.mask.logits, targets.masks.shape[-1]) > 0, targets.masks),
        scores=output.mask.score,
        tracked=tracked,
        visible=targets.masks.any((-2, -1)),
        embedding=features.image.embedding,
        conditioned=output.aux.embedding,
    )
    return banks, result
