"""One mask for one `Prompt`: what a user who clicks on an image wants to see."""

from typing import Any

import numpy as np
from PIL import Image

from edgetam_jax.images.predictor import ImagePredictor
from edgetam_jax.prompts import Prompt
from edgetam_jax.types import MASK_LOGIT


def predict_best_mask(predictor: ImagePredictor, prompt: Prompt) -> tuple[np.ndarray, float]:
    """The mask with the highest estimated IoU.

    Args:
        predictor: Its image is set.
        prompt: Points, a box or a mask of one object, or a mask together with points or a box.

    Returns:
        The mask [H, W] bool at the size of the image, and the network's estimate of its IoU.
    """
    # A single point is ambiguous (a part or the whole object), so the network predicts several masks for it.
    is_single_point = prompt.box is None and prompt.mask is None and len(np.asarray(prompt.labels)) == 1
    masks, ious, _ = predictor.predict(
        prompt.points,
        prompt.labels,
        prompt.box,
        None if prompt.mask is None else _mask_input(prompt.mask, predictor.model.config.mask_size),
        multimask_output=is_single_point,
    )
    best = int(np.argmax(ious))
    return masks[best] > 0, float(ious[best])


def _mask_input(mask: Any, size: int) -> np.ndarray:
    """A mask [H, W] as the logits [1, size, size] that `predict` takes as `mask_input`."""
    resized = Image.fromarray(np.asarray(mask)).convert("L").resize((size, size), Image.Resampling.BOX)
    coverage = np.asarray(resized) / 255
    return ((2 * coverage - 1) * MASK_LOGIT).astype(np.float32)[None]
