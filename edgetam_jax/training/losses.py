"""What a prediction costs: SAM 2's recipe. All in float32, whatever the network computes in.

each = losses(prediction, truth, visible, multimask)   # per object, frame and round
total = reduce_losses(each, valid, count)              # what is differentiated is total.total
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from edgetam_jax.errors import ConfigError
from edgetam_jax.types import MaskPrediction

ALPHA, GAMMA = 0.25, 2  # of the focal loss on masks


@dataclasses.dataclass(frozen=True)
class LossWeights:
    focal: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    score: float = 1.0

    def __post_init__(self) -> None:
        check_weights(self, "losses")


def check_weights(weights: Any, what: str) -> None:
    if not all(0 <= weight < float("inf") for weight in dataclasses.astuple(weights)):
        raise ConfigError(f"the weights of {what} are {weights}; expected 0 or more.")


class Losses(NamedTuple):
    focal: Array  # [...] of the supervised mask
    dice: Array  # [...] of the supervised mask
    iou: Array  # [...] of the estimates of all masks on offer
    score: Array  # [...] of the object's presence
    total: Array  # [...] their weighted sum


def losses(
    prediction: MaskPrediction,
    truth: Bool[Array, "*b h w"],
    visible: Bool[Array, "*b"],
    multimask: Bool[Array, "*b"],
    weights: LossWeights = LossWeights(),
) -> Losses:
    """Of each object [...] on each frame, in each round of prompting.

    Where `multimask` holds, the three alternatives are on offer, elsewhere the first mask (see `mask_decoder.choose`).
    Of those on offer, the best is supervised: the one with the least focal and dice loss. The estimates of all are, by
    their distance from the IoU of the mask thresholded. All this only where the object is `visible`; its score is
    supervised everywhere. `prediction.logits` are the decoder's own, not replaced where it sees no object, so that an
    object that it misses still teaches it.
    """
    logits, ious, score = (x.astype(jnp.float32) for x in (prediction.logits, prediction.ious, prediction.score))
    masks = truth[..., None, :, :]
    offered = jnp.where(multimask[..., None], jnp.arange(ious.shape[-1]) > 0, jnp.arange(ious.shape[-1]) == 0)
    focal, dice = focal_loss(logits, masks), dice_loss(logits, masks)
    best = jnp.argmin(jnp.where(offered, weights.focal * focal + weights.dice * dice, jnp.inf), -1)
    off = jnp.where(offered, jnp.abs(ious - mask_iou(logits > 0, masks)), 0)
    focal, dice = (jnp.where(visible, jnp.take_along_axis(x, best[..., None], -1)[..., 0], 0) for x in (focal, dice))
    iou = jnp.where(visible, off.sum(-1) / offered.sum(-1), 0)
    presence = cross_entropy(score, visible)
    total = weights.focal * focal + weights.dice * dice + weights.iou * iou + weights.score * presence
    return Losses(focal, dice, iou, presence, total)


def reduce_losses(each: Losses, valid: Bool[Array, "*b"], count: Float[Array, ""]) -> Losses:
    """Sums over all that is `valid`, frames and rounds too, for each of `count` objects."""
    count = jnp.maximum(jnp.asarray(count, jnp.float32), 1)
    return jax.tree.map(lambda x: jnp.where(valid, x, 0).sum() / count, each)


def focal_loss(logits: Float[Array, "*b h w"], truth: Bool[Array, "*#b h w"]) -> Float[Array, "*b"]:
    """Cross-entropy that pixels share by how wrong they are, mean over the mask."""
    wrong = jax.nn.sigmoid(jnp.where(truth, -logits, logits))
    loss = jnp.where(truth, ALPHA, 1 - ALPHA) * wrong**GAMMA * cross_entropy(logits, truth)
    return loss.mean((-2, -1))


def dice_loss(logits: Float[Array, "*b h w"], truth: Bool[Array, "*#b h w"]) -> Float[Array, "*b"]:
    share = jax.nn.sigmoid(logits)
    shared = jnp.where(truth, share, 0).sum((-2, -1))
    return 1 - (2 * shared + 1) / (share.sum((-2, -1)) + truth.sum((-2, -1)) + 1)


def cross_entropy(logits: Float[Array, "*b"], truth: Bool[Array, "*#b"]) -> Float[Array, "*b"]:
    return jax.nn.softplus(jnp.where(truth, -logits, logits))


def mask_iou(masks: Bool[Array, "*b h w"], truth: Bool[Array, "*#b h w"]) -> Float[Array, "*b"]:
    """0 where both are empty."""
    union = (masks | truth).sum((-2, -1))
    return (masks & truth).sum((-2, -1)) / jnp.maximum(union, 1)
