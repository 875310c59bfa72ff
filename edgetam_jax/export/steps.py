"""The functions that are exported: pure functions of a model and of named arrays, which return named arrays.

They only compose functions of `tracking`, the same that `track_step` calls.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, UInt8

from edgetam_jax.export.names import BANK, FEATURES, IMAGE_FEATURES, NEXT
from edgetam_jax.model import Model
from edgetam_jax.nn.edgetam import EdgeTAM
from edgetam_jax.nn.memory_attention import FrameQueries
from edgetam_jax.ops.pixels import preprocess
from edgetam_jax.ops.tree import where
from edgetam_jax.tracking import memory
from edgetam_jax.tracking.memory import Bank, Slots
from edgetam_jax.tracking.step import (
    FrameFeatures,
    FrameInputs,
    FramePrompts,
    absent_output,
    encode_frames,
    encode_memory,
    no_points,
    step,
)
from edgetam_jax.types import MASK_LOGIT, ImageFeatures, Label, ObjectPrediction, PromptInputs

Arrays = dict[str, Array]


def bank_arrays(bank: Bank) -> Arrays:
    """The arrays of a memory bank by name."""
    values = *bank.conditioning, bank.conditioning_pointers, *bank.recent, *bank.pointers
    return dict(zip(BANK, values, strict=True))


def bank_of(arrays: Arrays) -> Bank:
    """The inverse of `bank_arrays`."""
    values = [arrays[name] for name in BANK]
    return Bank(Slots(*values[:3]), values[3], Slots(*values[4:7]), Slots(*values[7:]))


def encode(model: Model, arrays: Arrays) -> Arrays:
    """The features of a frame that has the size of the model's input already."""
    image: UInt8[Array, "S S 3"] = arrays["image"]
    if model.image_only:
        features = model.encode_image(preprocess(image, model.config.image_size, "video"))
        return dict(zip(IMAGE_FEATURES, features, strict=True))
    features, queries = encode_frames(model, image)
    return dict(zip(FEATURES, (*features, *queries), strict=True))


def decode_image(model: Model, arrays: Arrays) -> Arrays:
    """The four masks for a prompt on a still image; the first for prompts without ambiguity."""
    features = ImageFeatures(*(arrays[name] for name in IMAGE_FEATURES))
    features = features._replace(embedding=model.add_no_memory_embedding(features.embedding))
    prompt = PromptInputs(arrays["points"], close_points(arrays["labels"]), arrays["mask"], arrays["has_mask"][0])
    prediction = model.segment(features, prompt)
    return {"logits": prediction.logits, "ious": prediction.ious, "score": prediction.score[None]}


def close_points(labels: Array) -> Array:
    """Labels [..., P] with the token that ends a list of points in the first place that is not used.

    Those who call an exported program need not know that token.
    """
    used = (labels != Label.ABSENT).sum(-1, keepdims=True)
    places = jnp.arange(labels.shape[-1]).reshape((1,) * (labels.ndim - 1) + (-1,))
    return jnp.where(places == used, jnp.int32(Label.NOT_A_POINT), labels)


def track_objects(model: Model, arrays: Arrays) -> Arrays:
    """One frame of tracking for all objects, by the `step` that all other tracking calls."""
    features = _frame_features(arrays)
    labels, mask = arrays["labels"], arrays["mask"] > 0
    is_mask = mask.any((-2, -1))
    prompts = FramePrompts(
        arrays["points"], close_points(labels), mask, is_mask, is_mask | (labels >= Label.NEGATIVE).any(-1)
    )
    frame = arrays["frame"][0]
    banks, output = step(model, bank_of(arrays), features, frame, FrameInputs(prompts=prompts))
    return _outputs(*output.mask, banks, arrays["frame"])


def track_object(model: Model, arrays: Arrays) -> Arrays:
    """The same for one object as a program without branches, which all formats can hold.

    `step` would compute the decoder twice there: for a mask prompt and for anything else. Here what the decoder is
    given is selected, and it is computed once.
    """
    features, bank, frame = _frame_features(arrays), bank_of(arrays), arrays["frame"][0]
    mask = (arrays["mask"].astype(jnp.float32) > 0).astype(jnp.float32)  # LiteRT compares no uint8
    is_mask = (mask > 0).any()
    prompted = is_mask | (arrays["labels"] >= Label.NEGATIVE).any()
    present = memory.has_memory(bank) | prompted

    raw = features.image.embedding
    conditioned = model.condition_on_memory(features.queries, memory.read(bank, frame, 1, model.config))
    embedding = where(prompted, where(is_mask, raw, model.add_no_memory_embedding(raw)), conditioned)
    prediction = _predict(model, features.image._replace(embedding=embedding), arrays, mask, is_mask, prompted)
    output = encode_memory(model, features, prediction, from_prompt=prompted)

    recent = memory.write_recent(bank, frame, output.memory)
    bank = where(present, where(prompted, memory.write_conditioning(recent, frame, output.memory), recent), bank)
    logits, iou, score = where(present, output.mask, absent_output(model).mask)
    return _outputs(logits, iou[None], score[None], bank, arrays["frame"])


def _predict(
    model: Model,
    features: ImageFeatures,
    arrays: Arrays,
    mask: Float[Array, "S S"],
    is_mask: Bool[Array, ""],
    prompted: Bool[Array, ""],
) -> ObjectPrediction:
    """The prediction from points, from memory, or for a mask, as `use_mask_as_output` gives it."""
    given = arrays["points"], close_points(arrays["labels"])
    points, labels = where(prompted & ~is_mask, given, no_points(len(arrays["labels"])))
    prompt = PromptInputs(points, labels, model.apply(_downsample_mask, mask), is_mask)
    multimask = ~is_mask & ((labels >= Label.NEGATIVE).sum() <= 1)
    prediction = model.select_mask(model.segment(features, prompt), multimask)
    side = model.config.mask_size
    logits = jax.image.resize(MASK_LOGIT * (2 * mask - 1), (side, side), "linear", antialias=True)
    return where(
        is_mask, prediction._replace(logits=logits, iou=jnp.ones(()), score=jnp.full((), MASK_LOGIT)), prediction
    )


def _downsample_mask(network: EdgeTAM, mask: Float[Array, "S S"]) -> Float[Array, "h w"]:
    return network.mask_downsample(mask[..., None])[..., 0]


def _frame_features(arrays: Arrays) -> FrameFeatures:
    embedding, stride4, stride8, tokens, queries = (arrays[name] for name in FEATURES)
    return FrameFeatures(ImageFeatures(embedding, stride4, stride8), FrameQueries(tokens, queries))


def _outputs(logits: Array, iou: Array, score: Array, bank: Bank, frame: Array) -> Arrays:
    following = {**bank_arrays(bank), "frame": frame + 1}
    return {"logits": logits, "iou": iou, "score": score} | {NEXT + name: x for name, x in following.items()}
