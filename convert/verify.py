"""Numbers published for the released weights, against what this network says: `--verify IMAGE`.

`goldens.json` holds them. Checks under "hf" come from tests of the Hugging Face port (and its manual), those under
"image" from the original's image predictor on a CPU. An image is known by its content, or by its name and size; the
one called "gate" is drawn here. Tolerances leave room for other image decoders and for GPUs with reduced precision.
"""

import functools
import hashlib
import importlib.resources
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from edgetam_jax.errors import FrameError
from edgetam_jax.model import Model
from edgetam_jax.nn.edgetam import EdgeTAM
from edgetam_jax.nn.mask_decoder import choose
from edgetam_jax.preprocess import pil_rgb, preprocess
from edgetam_jax.types import ImageFeatures, Label, MaskPrediction, PromptTokens

GATE_SIZE = (1200, 800)
GATE_SQUARES = {  # top left corner: colour
    (37, 41): (255, 0, 255),
    (1149, 58): (0, 255, 255),
    (601, 397): (255, 255, 0),
    (71, 757): (255, 0, 0),
    (1003, 731): (0, 0, 255),
}
ZERO_TOKEN = -10  # label with which the port fills up ragged prompts: a token of zeros, which is attended


class Row(NamedTuple):
    check: str
    expected: str
    got: str
    passed: bool | None  # None: not run


class Prediction(NamedTuple):
    logits: np.ndarray  # [M, h, w]
    ious: np.ndarray  # [M]


@functools.cache
def goldens() -> dict[str, Any]:
    return json.loads(importlib.resources.files("convert").joinpath("goldens.json").read_text())


def read_images(paths: Iterable[pathlib.Path]) -> dict[str, np.ndarray]:
    """Images by the names that the checks have for them; unknown ones by their path. "gate" is always there."""
    return {"gate": gate_image(), **dict(_recognise(path) for path in paths)}


def verify(model: Model, images: dict[str, np.ndarray]) -> Iterator[Row]:
    """One row a number; what the given images do not allow is listed as not run."""
    for name in images.keys() - goldens()["images"].keys() - {"gate"}:
        yield Row(name, "one of " + ", ".join(goldens()["images"]), "unknown image", None)
    features = functools.cache(lambda name, rule: _encode(model, jnp.asarray(images[name]), rule))
    done: dict[str, Prediction] = {}
    for check in goldens()["checks"]:
        name, image = check["image"], images.get(check["image"])
        title = f"{name}, {check['name']}"
        if image is None:
            yield Row(title, _numbers(check["ious"]), f"needs {name}", None)
            continue
        mask = _best(done[check["mask_from"]]) if "mask_from" in check else None
        prediction = predict(model, features(name, check["preprocess"]), image.shape[:2], check, mask)
        done[check["name"]] = prediction
        for row in judge(check, prediction, image.shape[:2]):
            yield row._replace(check=f"{title}: {row.check}")
    for name in goldens()["videos"]:
        yield Row(f"bedroom.mp4, {name}", "", "needs video", None)


def _recognise(path: pathlib.Path) -> tuple[str, np.ndarray]:
    from PIL import Image

    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with Image.open(path) as file:
            image = pil_rgb(file)
    except OSError as error:
        raise FrameError(f"{path} cannot be read as an image: {error}") from error
    for name, known in goldens()["images"].items():
        if digest == known.get("sha256"):
            return name, image
    known = goldens()["images"].get(path.name)
    if known is not None and known.get("size", [*image.shape[1::-1]]) == [*image.shape[1::-1]]:
        return path.name, image
    return str(path), image


def gate_image() -> np.ndarray:
    """Small coloured squares on gray: small objects, near borders, on an image that is not square."""
    width, height = GATE_SIZE
    image = np.full((height, width, 3), 128, np.uint8)
    for (x, y), colour in GATE_SQUARES.items():
        image[y : y + 12, x : x + 12] = colour
    return image


def predict(
    model: Model, features: ImageFeatures, size: tuple[int, int], check: dict[str, Any], mask: np.ndarray | None
) -> Prediction:
    """The masks that the image predictors return for a prompt in pixels of an image of `size` (height, width)."""
    points, labels = list(check.get("points", [])), list(check.get("labels", []))
    if "box" in check:
        left, top, right, bottom = check["box"]
        points, labels = [[left, top], [right, bottom], *points], [Label.BOX_START, Label.BOX_END, *labels]
    scale = model.config.image_size / np.array(size[::-1], np.float32)
    coords = jnp.asarray(np.array([*points, [0, 0]], np.float32) * scale)
    tokens = jnp.asarray([*labels, Label.NOT_A_POINT], jnp.int32)
    answer = _segment(model, features, coords, tokens, None if mask is None else jnp.asarray(mask))
    if check["multimask"]:
        return Prediction(np.asarray(answer.logits[1:]), np.asarray(answer.ious[1:]))
    chosen = choose(answer, False, model.config.decoder)
    return Prediction(np.asarray(chosen.logits)[None], np.asarray(chosen.iou)[None])


@functools.partial(jax.jit, static_argnums=2)
def _encode(model: Model, image: Array, rule: Any) -> ImageFeatures:
    features = model.apply("encode_image", preprocess(image, model.config.image_size, rule))
    return features._replace(embedding=model.apply("without_memory", features.embedding))


@jax.jit
def _segment(model: Model, features: ImageFeatures, points: Array, labels: Array, mask: Array | None) -> MaskPrediction:
    def run(network: EdgeTAM) -> MaskPrediction:
        encoder = network.sam_prompt_encoder
        tokens = encoder.points(points, labels).tokens
        tokens = jnp.where((labels == ZERO_TOKEN)[:, None], 0, tokens)
        dense = encoder.no_mask() if mask is None else encoder.mask(mask)
        prompt = PromptTokens(tokens, jnp.ones(labels.shape, bool))
        return network.sam_mask_decoder(features, dense, encoder.dense_position(), prompt)

    return cast(MaskPrediction, EdgeTAM(model.config).apply({"params": model.params}, method=run))


def judge(check: dict[str, Any], prediction: Prediction, size: tuple[int, int]) -> Iterator[Row]:
    """Compares one prediction with all that is known of it."""
    tolerance = goldens()["tolerances"][check["preprocess"]]
    ious = np.sort(prediction.ious)[::-1] if check.get("order") == "sorted" else prediction.ious
    error = np.abs(ious - np.array(check["ious"])).max()
    yield Row("IoU", _numbers(check["ious"]), _numbers(ious), bool(error <= tolerance["iou"]))
    if "logits" in check:
        expected = np.array(check["logits"])
        corner = _best(prediction)[: expected.shape[0], : expected.shape[1]]
        passed = bool(np.abs(corner - expected).max() <= tolerance["logit"])
        yield Row("logits of the corner", _numbers(expected.ravel()[:3]), _numbers(corner.ravel()[:3]), passed)
    if "mask" in check:
        expected = decode_runs(check["mask"], size)
        mask = np.asarray(jax.image.resize(jnp.asarray(_best(prediction)), size, "linear", antialias=False)) > 0
        overlap = (mask & expected).sum() / max((mask | expected).sum(), 1)
        yield Row("mask", f"> {tolerance['mask_iou']} overlap", f"{overlap:.4f}", bool(overlap > tolerance["mask_iou"]))


def decode_runs(runs: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """A mask from the lengths of its runs, row by row, background first."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size)


def table(rows: Iterable[Row]) -> str:
    """Rows as aligned text, and a line that counts them."""
    rows = list(rows)
    status = {True: "pass", False: "FAIL", None: "skip"}
    lines = [("check", "expected", "got", "result"), *((*row[:3], status[row.passed]) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    text = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3]]) for line in lines
    ]
    counts = {name: sum(row.passed is value for row in rows) for value, name in status.items()}
    return "\n".join([*text, f"{counts['pass']} passed, {counts['FAIL']} failed, {counts['skip']} not run"])


def _best(prediction: Prediction) -> np.ndarray:
    return prediction.logits[int(np.argmax(prediction.ious))]


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)
