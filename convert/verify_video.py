"""The published examples of tracking."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convert import port
from convert.goldens import Row, goldens, numbers
from edgetam_jax.model import Model
from edgetam_jax.tracking import session_jit as programs
from edgetam_jax.tracking.predictor import VideoPredictor
from edgetam_jax.tracking.session import PromptOutput, Session, TrackedObject


def track(model: Model, frames: np.ndarray, check: Mapping[str, Any], before: np.ndarray | None = None) -> np.ndarray:
    """Mask logits [T, O, H, W] at the size of the frames, all objects prompted on the first.

    `before` are the logits [H, W] of which an object's mask prompt is made. What users can say goes through the public
    methods; what only the port says goes into the session as the answer that the port gives.
    """
    predictor = VideoPredictor(model, preprocess=check["preprocess"])
    session = predictor.init_state(frames)
    features = programs.encode_frames(model, frames[0], check["preprocess"])
    for prompt in check["objects"]:
        if "mask_from" in prompt:
            assert before is not None
            side = model.config.image_size
            mask = jax.image.resize(jnp.asarray(before), (side, side), "linear", antialias=True) >= 0.5
            _accept(session, prompt["id"], port.given_mask_entry(model, features, mask.astype(jnp.float32)))
        elif port.ZERO_TOKEN in prompt.get("labels", ()):
            points = port.tokens_of(prompt["points"], prompt["labels"], session.size, model.config.image_size)
            _accept(session, prompt["id"], port.filled_up_entry(model, features, *points))
        else:
            said = {key: prompt[key] for key in ("points", "labels", "box") if key in prompt}
            predictor.add_new_points_or_box(session, 0, prompt["id"], **said)
    return np.stack([logits[:, 0] for _, _, logits in predictor.propagate_in_video(session, 0)])


def _accept(session: Session, obj_id: int, entry: Any) -> None:
    session.objects[obj_id] = TrackedObject(prompt_outputs={0: PromptOutput(entry, conditioning=True)})
    session.grow()


def judge(check: Mapping[str, Any], logits: np.ndarray) -> Iterator[Row]:
    """A row a frame and object."""
    tolerance = goldens()["tolerances"][check["preprocess"]]["logit"]
    for frame, row in enumerate(check["logits"]):
        for place, corner in enumerate(row):
            expected = np.array(corner)
            got = logits[frame, place, : expected.shape[0], : expected.shape[1]]
            passed = bool(np.abs(got - expected).max() <= tolerance)
            name = f"object {check['objects'][place]['id']}, frame {frame}: logits of the corner"
            yield Row(name, numbers(expected.ravel()[:3]), numbers(got.ravel()[:3]), passed)
