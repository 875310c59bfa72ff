"""Runs the published examples on a model and compares the results with the published numbers: `--verify PATH`."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from convert import hf_prompts, verify_video
from convert.goldens import GATE, CheckResult, decode_runs, format_numbers, load_goldens
from edgetam_jax.model import Model
from edgetam_jax.nn.mask_decoder import select_mask
from edgetam_jax.ops.pixels import preprocess
from edgetam_jax.types import ImageFeatures, Label

Check = dict[str, Any]  # an entry of goldens.json


class Prediction(NamedTuple):
    """The masks of one prompt on a still image.

    Attributes:
        logits: [M, h, w] at a quarter of the model's input size.
        ious: [M], the model's estimates of their IoU.
    """

    logits: np.ndarray
    ious: np.ndarray


def checks() -> list[Check]:
    """All published checks.

    Returns:
        Entries of goldens.json, those of still images first.
    """
    return [*load_goldens()["checks"], *load_goldens()["video_checks"]]


def check_title(check: Check) -> str:
    """The name of a check in reports.

    Args:
        check: An entry of goldens.json.

    Returns:
        The file and the prompt.
    """
    return f"{check.get('image') or check['video']}, {check['name']}"


def verify(model: Model, media: dict[str, np.ndarray]) -> Iterator[CheckResult]:
    """Compares a model with all published numbers.

    Args:
        model: The released weights.
        media: Images [H, W, 3] and videos [T, H, W, 3] by name, see `goldens.read_media`. Checks of others are not run.

    Yields:
        A result for each number.
    """
    published = load_goldens()["images"] | load_goldens()["videos"]
    for name in media.keys() - published.keys() - {GATE}:
        yield CheckResult(name, "one of " + ", ".join(published), "unknown picture", None)
    runner = CheckRunner(model, media)
    for check in checks():
        yield from runner.results(check)


class CheckRunner:
    """Runs checks on one model, in any order. Intermediate results that several checks need are computed once.

    Args:
        model: The released weights.
        media: Images [H, W, 3] and videos [T, H, W, 3] by name.
    """

    def __init__(self, model: Model, media: dict[str, np.ndarray]) -> None:
        self.model, self.media = model, media
        self._features = functools.cache(lambda name, rule: _encode(model, jnp.asarray(media[name]), rule))
        self._outputs: dict[str, Any] = {}

    def results(self, check: Check) -> list[CheckResult]:
        """Runs a check.

        Args:
            check: An entry of goldens.json.

        Returns:
            Its results. If it cannot be run, one result that says why.
        """
        if reason := self.skip_reason(check):
            return [CheckResult(check_title(check), _first_numbers(check), reason, None)]
        output = self._output(check)
        if "video" in check:
            results = verify_video.compare_logits(check, output)
        else:
            results = compare_prediction(check, output, self.media[check["image"]].shape[:2])
        return [result._replace(check=f"{check_title(check)}: {result.check}") for result in results]

    def skip_reason(self, check: Check) -> str | None:
        """Why a check cannot be run.

        Args:
            check: An entry of goldens.json.

        Returns:
            The reason, or None if the check can be run.
        """
        name = check.get("image") or check["video"]
        if name not in self.media:
            return f"needs {name}"
        if "video" in check and self.model.image_only:
            return "needs a checkpoint for videos"
        return None

    def _output(self, check: Check) -> Any:
        title = check_title(check)
        if title not in self._outputs:
            run = self._track if "video" in check else self._predict
            self._outputs[title] = run(check)
        return self._outputs[title]

    def _predict(self, check: Check) -> Prediction:
        name = check["image"]
        mask = _best_logits(self._output(_find_check(check, check["mask_from"]))) if "mask_from" in check else None
        return predict(self.model, self._features(name, check["preprocess"]), self.media[name].shape[:2], check, mask)

    def _track(self, check: Check) -> np.ndarray:
        sources = [_find_check(check, prompt["mask_from"]) for prompt in check["objects"] if "mask_from" in prompt]
        prompt_logits = self._output(sources[0])[0, 0] if sources else None
        return verify_video.track_check(self.model, self.media[check["video"]], check, prompt_logits)


def _find_check(check: Check, name: str) -> Check:
    """The check of this name for the same image or video."""
    kind = "video" if "video" in check else "image"
    return next(other for other in checks() if other["name"] == name and other.get(kind) == check[kind])


def predict(
    model: Model, features: ImageFeatures, size: tuple[int, int], check: Check, mask: np.ndarray | None
) -> Prediction:
    """Predicts the masks of a check's prompt, as the image predictors do.

    Args:
        model: The released weights.
        features: Features of the image, with the no-memory embedding added.
        size: Height and width of the image.
        check: An entry of goldens.json.
        mask: [h, w] logits of an earlier prediction, or None.

    Returns:
        Three masks, or one.
    """
    points, labels = list(check.get("points", [])), list(check.get("labels", []))
    if "box" in check:
        left, top, right, bottom = check["box"]
        points, labels = [[left, top], [right, bottom], *points], [Label.BOX_START, Label.BOX_END, *labels]
    tokens = hf_prompts.prompt_tokens(points, labels, size, model.config.image_size)
    masks = hf_prompts.segment(model, features, *tokens, None if mask is None else jnp.asarray(mask))
    if check["multimask"]:
        return Prediction(np.asarray(masks.logits[1:]), np.asarray(masks.ious[1:]))
    selected = select_mask(masks, False, model.config.decoder)
    return Prediction(np.asarray(selected.logits)[None], np.asarray(selected.iou)[None])


@functools.partial(jax.jit, static_argnums=2)
def _encode(model: Model, image: Array, rule: Any) -> ImageFeatures:
    features = model.encode_image(preprocess(image, model.config.image_size, rule))
    return features._replace(embedding=model.add_no_memory_embedding(features.embedding))


def compare_prediction(check: Check, prediction: Prediction, size: tuple[int, int]) -> Iterator[CheckResult]:
    """Compares a prediction with all numbers that are published for it.

    Args:
        check: An entry of goldens.json.
        prediction: The masks of its prompt.
        size: Height and width of the image.

    Yields:
        A result for the IoU estimates, the logits and the mask, where they are published.
    """
    tolerance = load_goldens()["tolerances"][check["preprocess"]]
    ious = np.sort(prediction.ious)[::-1] if check.get("order") == "sorted" else prediction.ious
    error = np.abs(ious - np.array(check["ious"])).max()
    yield CheckResult("IoU", format_numbers(check["ious"]), format_numbers(ious), bool(error <= tolerance["iou"]))
    if "logits" in check:
        expected = np.array(check["logits"])
        corner = _best_logits(prediction)[: expected.shape[0], : expected.shape[1]]
        passed = bool(np.abs(corner - expected).max() <= tolerance["logit"])
        want, got = (format_numbers(logits.ravel()[:3]) for logits in (expected, corner))
        yield CheckResult("logits of the corner", want, got, passed)
    if "mask" in check:
        expected = decode_runs(check["mask"], size)
        mask = np.asarray(jax.image.resize(jnp.asarray(_best_logits(prediction)), size, "linear", antialias=False)) > 0
        overlap = (mask & expected).sum() / max((mask | expected).sum(), 1)
        passed = bool(overlap > tolerance["mask_iou"])
        yield CheckResult("mask", f"> {tolerance['mask_iou']} overlap", f"{overlap:.4f}", passed)


def _best_logits(prediction: Prediction) -> np.ndarray:
    return prediction.logits[int(np.argmax(prediction.ious))]


def _first_numbers(check: Check) -> str:
    return format_numbers(check["ious"] if "ious" in check else np.ravel(check["logits"][0])[:3])
