"""A lesson: a network follows objects through clips as users would have it, is corrected, and pays for its errors.

    plan = make_plans(keys, examples.masks, course.user)
    lesson = take_lesson(model, examples, plan, keys, course)
    loss = reduce_losses(lesson.losses, valid, count).total

It is `step` that is differentiated, the same that `track` scans. Clips are a leading axis B.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

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
    """What became of O objects in B clips of T frames."""

    losses: Losses  # [T, B, O] summed over the rounds of prompting; 0 where nothing was asked
    ious: Array  # [T, B, O] of the last answers with the truth
    scores: Array  # [T, B, O] logit of the object's presence
    asked: Array  # [T, B, O] bool: were they asked for?
    visible: Array  # [T, B, O] bool
    embedding: Array  # [T, B, H, W, C] of the frames
    conditioned: Array  # [T, B, O, H, W, C] after memory attention


def make_plans(keys: Array, masks: Array, user: User) -> Plan:
    """A plan for every clip, from keys [B] and masks [B, T, O, S, S]."""
    return jax.vmap(lambda key, masks: make_plan(key, masks, user))(keys, masks)


def rollout(
    model: Model,
    examples: Example,
    plan: Plan,
    keys: Array,
    course: RolloutConfig,
    remat: bool = True,
) -> Rollout:
    """Tracks all clips [B, T, ...] from their prompts, with keys [B] for what users do at random on the way.

    `remat` computes each frame again on the way back.
    """
    clips, length, size, _ = examples.frames.shape[:4]
    numbers = jnp.arange(length)
    topics = FrameTargets(
        number=numbers,
        pixels=jnp.moveaxis(examples.frames, 1, 0),
        truth=jnp.moveaxis(examples.masks, 1, 0),
        target=jnp.moveaxis(shrink(examples.masks, course.mask_size or size), 1, 0),
        prompts=jax.vmap(partial(_prompts_on, plan.prompts))(numbers),
        corrected=jnp.moveaxis(plan.corrected, 1, 0),
        key=jax.vmap(lambda key: jax.random.split(key, length), out_axes=1)(keys),
    )
    visit = partial(_visit, model, course)
    if length == 1:
        _, lesson = visit(None, jax.tree.map(lambda x: x[0], topics))
        return jax.tree.map(lambda x: x[None], lesson)
    bank = memory.init(model.config, course.user.corrected_frames)
    banks = jax.tree.map(lambda x: jnp.broadcast_to(x, (clips, examples.valid.shape[1], *x.shape)), bank)
    return lax.scan(jax.checkpoint(visit) if remat else visit, banks, topics)[1]


def shrink(masks: Array, size: int) -> Array:
    """Masks [..., S, S] in another size: of each larger pixel the majority, else bilinear."""
    old = masks.shape[-1]
    if old == size:
        return masks
    share = jax.image.resize(masks.astype(jnp.float32), (*masks.shape[:-2], size, size), "linear", antialias=True)
    return share >= 0.5


def _prompts_on(prompts: Prompts, frame: Array) -> Prompts:
    """Of prompts [B, O, K, ...] those on one frame, [B, O, ...]."""
    here = prompts.valid & (prompts.frames == frame)
    index = jnp.argmax(here, -1)

    def pick(x: Array) -> Array:
        return jnp.take_along_axis(x, index.reshape(*index.shape, *[1] * (x.ndim - 2)), 2)[:, :, 0]

    picked = jax.tree.map(pick, prompts._replace(obj_ids=here, valid=here, is_mask=here & prompts.is_mask))
    return picked._replace(obj_ids=prompts.obj_ids)


def _visit(model: Model, course: RolloutConfig, banks: Bank | None, topic: FrameTargets) -> tuple[Bank | None, Rollout]:
    # Here, and not for the whole clip, so that the gradients of frames add up in float32.
    model = model.astype(course.dtype)
    features = encode_frames(model, topic.pixels)
    asked = topic.prompts.valid | topic.corrected

    def speak() -> tuple[StepOutput, Losses]:
        return prompted_outputs(model, course, features, banks, topic)

    if banks is None:  # a single frame: nobody is followed
        entry, costs = speak()
        costs = jax.tree.map(lambda x: jnp.where(asked, x, 0), costs)
    else:
        known = jax.vmap(jax.vmap(memory.has_memory))(banks)
        answers, costs = lax.cond(asked.any(), speak, lambda: zeros_like_output(speak))
        advance = partial(step, model, options=TrackOptions(vectorize=True, detail=True))
        given = FrameInputs(entries=PrecomputedEntries(answers, asked, asked))
        banks, entry = jax.vmap(advance, (0, 0, None, 0))(banks, features, topic.number, given)
        assert entry.aux is not None
        followed = frame_losses(entry.aux, topic, course.weights)
        costs = jax.tree.map(lambda a, b: jnp.where(asked, a, jnp.where(known, b, 0)), costs, followed)
        asked = asked | known
    assert entry.aux is not None
    lesson = Rollout(
        losses=costs,
        ious=mask_iou(enlarge(entry.mask.logits, topic.truth.shape[-1]) > 0, topic.truth),
        scores=entry.mask.score,
        asked=asked,
        visible=topic.truth.any((-2, -1)),
        embedding=features.image.embedding,
        conditioned=entry.aux.embedding,
    )
    return banks, lesson
