"""Runs the published examples of tracking and compares the results with the published numbers."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convert import hf_prompts
from convert.goldens import CheckResult, format_numbers, load_goldens
from edgetam_jax.model import Model
from edgetam_jax.tracking import session_jit
from edgetam_jax.tracking.predictor import VideoPredictor
from edgetam_jax.tracking.session import PromptOutput, Session, TrackedObject


def track_check(
    model: Model, frames: np.ndarray, check: Mapping[str, Any], prompt_logits: np.ndarray | None = None
) -> np.ndarray:
    """Mask logits [T, O, H, W] at the size of the frames, for objects that are all prompted on the first frame.

    A check with a mask prompt needs `prompt_logits` [H, W], the logits from which the mask is made. Prompts that the
    public methods support go through them. For those that only the port supports, its output is put into the session.
    """
    predictor = VideoPredictor(model, preprocess=check["preprocess"])
    session = predictor.init_state(frames)
    features = session_jit.encode_frames(model, frames[0], check["preprocess"])
    for prompt in check["objects"]:
        if "mask_from" in prompt:
            assert prompt_logits is not None
            side = model.config.image_size
            mask = jax.image.resize(jnp.asarray(prompt_logits), (side, side), "linear", antialias=True) >= 0.5
            output = hf_prompts.mask_prompt_output(model, features, mask.astype(jnp.float32))
            _set_prompt_output(session, prompt["id"], output)
        elif hf_prompts.ZERO_TOKEN in prompt.get("labels", ()):
            points = hf_prompts.prompt_tokens(prompt["points"], prompt["labels"], session.size, model.config.image_size)
            output = hf_prompts.padded_points_output(model, features, *points)
            _set_prompt_output(session, prompt["id"], output)
        else:
            arguments = {key: prompt[key] for key in ("points", "labels", "box") if key in prompt}
            predictor.add_new_points_or_box(session, 0, prompt["id"], **arguments)
    return np.stack([logits[:, 0] for _, _, logits in predictor.propagate_in_video(session, 0)])


def _set_prompt_output(session: Session, obj_id: int, output: Any) -> None:
    session.objects[obj_id] = TrackedObject(prompt_outputs={0: PromptOutput(output, conditioning=True)})
    session.grow()


def compare_logits(check: Mapping[str, Any], logits: np.ndarray) -> Iterator[CheckResult]:
    """Yields a result for each frame and object."""
    tolerance = load_goldens()["tolerances"][check["preprocess"]]["logit"]
    for frame, corners in enumerate(check["logits"]):
        for index, corner in enumerate(corners):
            expected = np.array(corner)
            got = logits[frame, index, : expected.shape[0], : expected.shape[1]]
            passed = bool(np.abs(got - expected).max() <= tolerance)
            name = f"object {check['objects'][index]['id']}, frame {frame}: logits of the corner"
            yield CheckResult(name, format_numbers(expected.ravel()[:3]), format_numbers(got.ravel()[:3]), passed)
