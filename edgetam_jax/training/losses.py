"""SAM 2's losses. All are computed in float32, whatever the dtype of the network.

each = object_losses(prediction, masks, visible, multimask)   # of each object, frame and correction round
total = reduce_losses(each, valid, count)                     # total.total is differentiated
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Real

from edgetam_jax.errors import ConfigError
from edgetam_jax.types import MaskPrediction

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """The weight of each loss in the total. The defaults are SAM 2's.

    Attributes:
        focal: Focal loss of the mask.
        dice: Dice loss of the mask.
        iou: Error of the IoU estimate.
        score: Cross-entropy of the object score.
    """

    focal: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    score: float = 1.0

    def __post_init__(self) -> None:
        check_weights(self, "losses")


def check_weights(weights: Any, what: str) -> None:
    """Raises `ConfigError` unless all fields of a dataclass are finite and at least 0."""
    if not all(0 <= weight < float("inf") for weight in dataclasses.astuple(weights)):
        raise ConfigError(f"the weights of {what} are {weights}; expected 0 or more.")


class Losses(NamedTuple):
    focal: Float[Array, "*b"]  # of the supervised mask
    dice: Float[Array, "*b"]  # of the supervised mask
    iou: Float[Array, "*b"]  # mean error of the estimated IoUs
    score: Float[Array, "*b"]  # of the object score
    total: Float[Array, "*b"]  # the weighted sum


def object_losses(
    prediction: MaskPrediction,
    masks: Bool[Array, "*b h w"],
    visible: Bool[Array, "*b"],
    multimask: Bool[Array, "*b"],
    weights: LossWeights = LossWeights(),
) -> Losses:
    """The losses of each object on each frame, in each correction round.

    Where `multimask` holds, the three alternative masks are candidates; elsewhere only the first mask is (see
    `mask_decoder.select_mask`). Mask losses are those of the candidate with the least weighted focal and dice loss. The
    IoU loss is the mean absolute error of all candidates' estimates, compared with the IoU of the thresholded mask.
    These losses are 0 where the object is not visible; the score is supervised everywhere.

    Args:
        prediction: The decoder's output [...], before logits of objects judged absent are replaced, so that a visible
            object that the network misses still has a gradient.
        masks: The ground truth.
        visible: Whether the object is visible on the frame.
        multimask: Whether the prompt was ambiguous.
        weights: SAM 2's by default.
    """
    logits, ious, score = (x.astype(jnp.float32) for x in (prediction.logits, prediction.ious, prediction.score))
    masks = masks[..., None, :, :]
    is_alternative = jnp.arange(ious.shape[-1]) > 0
    candidates = multimask[..., None] == jnp.broadcast_to(is_alternative, ious.shape)
    focal, dice = focal_loss(logits, masks), dice_loss(logits, masks)
    best = jnp.argmin(jnp.where(candidates, weights.focal * focal + weights.dice * dice, jnp.inf), -1)
    iou_error = jnp.where(candidates, jnp.abs(ious - mask_iou(logits > 0, masks)), 0)
    focal, dice = (jnp.where(visible, jnp.take_along_axis(x, best[..., None], -1)[..., 0], 0) for x in (focal, dice))
    iou = jnp.where(visible, iou_error.sum(-1) / candidates.sum(-1), 0)
    presence = optax.sigmoid_binary_cross_entropy(score, visible)
    total = weights.focal * focal + weights.dice * dice + weights.iou * iou + weights.score * presence
    return Losses(focal, dice, iou, presence, total)


def reduce_losses(losses: Losses, valid: Bool[Array, "*b"], count: Real[Array, ""]) -> Losses:
    """Sums over all valid entries, divided by the number of objects `count`."""
    count = jnp.maximum(jnp.asarray(count, jnp.float32), 1)
    return jax.tree.map(lambda x: jnp.where(valid, x, 0).sum() / count, losses)


# The mask losses are ours, not optax's: with boolean masks they need one softplus and one sigmoid a pixel, while
# `optax.sigmoid_focal_loss` needs six transcendental functions and `optax.losses.dice_loss` wants float labels.


def focal_loss(logits: Float[Array, "*b h w"], masks: Bool[Array, "*#b h w"]) -> Float[Array, "*b"]:
    """The focal loss, averaged over the pixels of a mask."""
    wrong = jnp.where(masks, -logits, logits)
    weight = jnp.where(masks, FOCAL_ALPHA, 1 - FOCAL_ALPHA) * jax.nn.sigmoid(wrong) ** FOCAL_GAMMA
    return (weight * jax.nn.softplus(wrong)).mean((-2, -1))


def dice_loss(logits: Float[Array, "*b h w"], masks: Bool[Array, "*#b h w"]) -> Float[Array, "*b"]:
    """The soft dice loss of a mask, smoothed by one pixel."""
    probability = jax.nn.sigmoid(logits)
    intersection = jnp.where(masks, probability, 0).sum((-2, -1))
    return 1 - (2 * intersection + 1) / (probability.sum((-2, -1)) + masks.sum((-2, -1)) + 1)


def mask_iou(masks: Bool[Array, "*b h w"], truth: Bool[Array, "*#b h w"]) -> Float[Array, "*b"]:
    """The intersection over union of masks; 0 where both are empty."""
    union = (masks | truth).sum((-2, -1))
    return (masks & truth).sum((-2, -1)) / jnp.maximum(union, 1)
