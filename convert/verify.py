"""What this network says to the published examples: `--verify PATH`."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from convert import port, verify_video
from convert.goldens import GATE, Row, decode_runs, goldens, numbers
from edgetam_jax.model import Model
from edgetam_jax.nn.mask_decoder import select_mask
from edgetam_jax.ops.pixels import preprocess
from edgetam_jax.types import ImageFeatures, Label

Check = dict[str, Any]  # an entry of goldens.json, as it stands there


class Prediction(NamedTuple):
    logits: np.ndarray  # [M, h, w]
    ious: np.ndarray  # [M]


def checks() -> list[Check]:
    return [*goldens()["checks"], *goldens()["video_checks"]]


def title(check: Check) -> str:
    return f"{check.get('image') or check['video']}, {check['name']}"


def verify(model: Model, media: dict[str, np.ndarray]) -> Iterator[Row]:
    """One row a number; what the given images and videos do not allow is listed as not run."""
    known = goldens()["images"] | goldens()["videos"]
    for name in media.keys() - known.keys() - {GATE}:
        yield Row(name, "one of " + ", ".join(known), "unknown picture", None)
    examples = Examples(model, media)
    for check in checks():
        yield from examples.rows(check)


class Examples:
    """The checks on one model, in any order; what several of them need is computed once."""

    def __init__(self, model: Model, media: dict[str, np.ndarray]) -> None:
        self.model, self.media = model, media
        self._features = functools.cache(lambda name, rule: _encode(model, jnp.asarray(media[name]), rule))
        self._done: dict[str, Any] = {}

    def rows(self, check: Check) -> list[Row]:
        """All that is known of a check beside what the network says; one row that says why, if it cannot be run."""
        if reason := self.missing(check):
            return [Row(title(check), _first_numbers(check), reason, None)]
        answer = self._answer(check)
        if "video" in check:
            rows = verify_video.judge(check, answer)
        else:
            rows = judge(check, answer, self.media[check["image"]].shape[:2])
        return [row._replace(check=f"{title(check)}: {row.check}") for row in rows]

    def missing(self, check: Check) -> str | None:
        """What a check needs and does not have."""
        name = check.get("image") or check["video"]
        if name not in self.media:
            return f"needs {name}"
        if "video" in check and "memory_attention" not in self.model.params:
            return "needs a checkpoint for videos"
        return None

    def _answer(self, check: Check) -> Any:
        key = title(check)
        if key not in self._done:
            run = self._track if "video" in check else self._predict
            self._done[key] = run(check)
        return self._done[key]

    def _predict(self, check: Check) -> Prediction:
        name = check["image"]
        mask = _best(self._answer(_named(check, check["mask_from"]))) if "mask_from" in check else None
        return predict(self.model, self._features(name, check["preprocess"]), self.media[name].shape[:2], check, mask)

    def _track(self, check: Check) -> np.ndarray:
        earlier = [_named(check, prompt["mask_from"]) for prompt in check["objects"] if "mask_from" in prompt]
        before = self._answer(earlier[0])[0, 0] if earlier else None
        return verify_video.track(self.model, self.media[check["video"]], check, before)


def _named(check: Check, name: str) -> Check:
    """Another check of the same picture."""
    kind = "video" if "video" in check else "image"
    return next(other for other in checks() if other["name"] == name and other.get(kind) == check[kind])


def predict(
    model: Model, features: ImageFeatures, size: tuple[int, int], check: Check, mask: np.ndarray | None
) -> Prediction:
    """The masks that the image predictors return for a prompt in pixels of an image of `size` (height, width)."""
    points, labels = list(check.get("points", [])), list(check.get("labels", []))
    if "box" in check:
        left, top, right, bottom = check["box"]
        points, labels = [[left, top], [right, bottom], *points], [Label.BOX_START, Label.BOX_END, *labels]
    tokens = port.tokens_of(points, labels, size, model.config.image_size)
    answer = port.segment(model, features, *tokens, None if mask is None else jnp.asarray(mask))
    if check["multimask"]:
        return Prediction(np.asarray(answer.logits[1:]), np.asarray(answer.ious[1:]))
    chosen = select_mask(answer, False, model.config.decoder)
    return Prediction(np.asarray(chosen.logits)[None], np.asarray(chosen.iou)[None])


@functools.partial(jax.jit, static_argnums=2)
def _encode(model: Model, image: Array, rule: Any) -> ImageFeatures:
    features = model.encode_image(preprocess(image, model.config.image_size, rule))
    return features._replace(embedding=model.add_no_memory_embedding(features.embedding))


def judge(check: Check, prediction: Prediction, size: tuple[int, int]) -> Iterator[Row]:
    """Compares one prediction with all that is known of it."""
    tolerance = goldens()["tolerances"][check["preprocess"]]
    ious = np.sort(prediction.ious)[::-1] if check.get("order") == "sorted" else prediction.ious
    error = np.abs(ious - np.array(check["ious"])).max()
    yield Row("IoU", numbers(check["ious"]), numbers(ious), bool(error <= tolerance["iou"]))
    if "logits" in check:
        expected = np.array(check["logits"])
        corner = _best(prediction)[: expected.shape[0], : expected.shape[1]]
        passed = bool(np.abs(corner - expected).max() <= tolerance["logit"])
        yield Row("logits of the corner", numbers(expected.ravel()[:3]), numbers(corner.ravel()[:3]), passed)
    if "mask" in check:
        expected = decode_runs(check["mask"], size)
        mask = np.asarray(jax.image.resize(jnp.asarray(_best(prediction)), size, "linear", antialias=False)) > 0
        overlap = (mask & expected).sum() / max((mask | expected).sum(), 1)
        yield Row("mask", f"> {tolerance['mask_iou']} overlap", f"{overlap:.4f}", bool(overlap > tolerance["mask_iou"]))


def _best(prediction: Prediction) -> np.ndarray:
    return prediction.logits[int(np.argmax(prediction.ious))]


def _first_numbers(check: Check) -> str:
    return numbers(check["ious"] if "ious" in check else np.ravel(check["logits"][0])[:3])
