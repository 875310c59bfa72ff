"""Functions for still images: `encode_image` runs the image encoder once, `segment` decodes any number of prompts.

Both are pure and take batches of images. Objects are independent of each other and of the rows that pad a batch.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Bool, Float, UInt8

from edgetam_jax.errors import PromptError
from edgetam_jax.images.prompts import MIN_POINTS, ImagePrompts, Size
from edgetam_jax.model import Model, for_inference
from edgetam_jax.nn.mask_decoder import select_mask
from edgetam_jax.ops.pixels import Rule, as_frames, as_image
from edgetam_jax.ops.pixels import preprocess as normalize
from edgetam_jax.ops.resize import resize_logits
from edgetam_jax.ops.tree import cond_or_select, map_or_vmap, resolve_vectorize
from edgetam_jax.prompts import bucket
from edgetam_jax.types import MASK_LOGIT, NO_OBJECT, ImageFeatures, Label, PromptInputs

NUM_MULTIMASKS = 3  # alternative masks of an ambiguous prompt
ENCODER_BATCH = 8  # images that are encoded together where `vectorize` holds


class Segments(NamedTuple):
    """The masks that `segment` returns: M for each object, where M is 3 with `multimask` and else 1.

    Attributes:
        logits: Mask logits `[..., O, M, h, w]` at a quarter of the model's input size, float32.
        ious: The model's estimate of each mask's IoU `[..., O, M]`, in 0..1.
        scores: Object score logits `[..., O]`: positive where the model sees the object in the image. Masks are given
            in either case.
        valid: Booleans `[..., O]`, False for rows that only pad the batch.
    """

    logits: Float[Array, "*b o m h w"]
    ious: Float[Array, "*b o m"]
    scores: Float[Array, "*b o"]
    valid: Bool[Array, "*b o"]

    def masks(self, size: Size) -> Bool[Array, "*b o m height width"]:
        """Boolean masks at the image's size.

        Args:
            size: Height and width of the image.

        Returns:
            Booleans `[..., O, M, height, width]`: where the resized logits are positive.
        """
        return resize_logits(self.logits, size) > 0


def encode_image(
    model: Model, images: Any, *, preprocess: Rule = "image", vectorize: bool | None = None
) -> ImageFeatures:
    """Runs the image encoder. The features serve any number of calls of `segment`.

    Args:
        model: The model, see `load`.
        images: One image `[H, W, 3]` or a batch of one size `[..., H, W, 3]`, uint8 RGB. One image may also be
            grayscale, a float array of 0..1 or a PIL image.
        preprocess: Resizing rule: `"image"` as SAM 2's image predictor, `"video"` as its video predictor, `"hf"` as the
            Hugging Face processor.
        vectorize: Whether the images of a batch are encoded together, up to 8 at a time. By default they are, except on
            CPU, where it is no faster and takes memory for each image.

    Returns:
        `ImageFeatures` with the leading axes of `images`. As for video, the embedding does not include the
        no-memory embedding yet; `segment` adds it.

    Raises:
        FrameError: If `images` has another shape or type, or `preprocess` is none of the rules.
    """
    shape = getattr(images, "shape", ())
    if len(shape) > 3 and 0 not in shape:
        pixels = as_frames(rearrange(images, "... h w c -> (...) h w c"))
        pixels = pixels.reshape(*shape[:-3], *pixels.shape[1:])
    else:
        pixels = as_image(images)
    batch_size = ENCODER_BATCH if resolve_vectorize(vectorize, model.platform) else None
    # Two programs, so that images of a new size compile only the small one.
    return _encode(for_inference(model), _preprocess(pixels, model.config.image_size, preprocess), batch_size)


@partial(jax.jit, static_argnums=(1, 2))
def _preprocess(images: UInt8[Array, "*b h w 3"], size: int, rule: Rule) -> Float[Array, "*b size size 3"]:
    return normalize(images, size, rule)


@partial(jax.jit, static_argnums=2)
def _encode(model: Model, pixels: Float[Array, "*b s s 3"], batch_size: int | None) -> ImageFeatures:
    lead = pixels.shape[:-3]
    if not lead:
        return model.encode_image(pixels)
    return _unflatten(lax.map(model.encode_image, _flatten(pixels, len(lead)), batch_size=batch_size), lead)


@jax.jit
def decoder_embedding(model: Model, embedding: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """An image's embedding as the mask decoder expects it: with the no-memory embedding added."""
    return model.add_no_memory_embedding(embedding)


def segment(
    model: Model,
    features: ImageFeatures,
    prompts: ImagePrompts,
    multimask: bool = True,
    *,
    vectorize: bool | None = None,
) -> Segments:
    """Decodes the masks of all prompted objects.

    Args:
        model: The model that encoded the images.
        features: What `encode_image` returned, with the images' leading axes `[...]`.
        prompts: The prompts of O objects on each image `[..., O]`, see `ImagePrompts.build`.
        multimask: Whether each object gets three alternative masks, for prompts that are ambiguous, such as one click.
            Otherwise it gets one: the decoder's first mask, or the best alternative where that one is unstable.
        vectorize: Whether objects are computed together rather than one after the other. By default they are, except on
            CPU. One after the other, an object's result is bit for bit the same whatever it is batched with; together,
            it is the same up to rounding.

    Returns:
        `Segments` with leading axes `[..., O]`.

    Raises:
        PromptError: If the leading axes of `features` and `prompts` differ, or mask prompts do not have the size of
            the model's mask logits.
    """
    lead, images = prompts.valid.shape[:-1], features.embedding.shape[:-3]
    if lead != images:
        raise PromptError(
            f"the prompts have leading axes {lead}, the features of the images {images}; expected the same."
        )
    side = model.config.mask_size
    if prompts.masks.shape[-2:] not in ((0, 0), (side, side)):
        raise PromptError(
            f"the prompts' masks are {prompts.masks.shape[-2:]}, expected {(side, side)} (height, width) for this "
            "model: logits at a quarter of its input size, such as it returns."
        )
    vectorize = resolve_vectorize(vectorize, model.platform)
    return _segment(for_inference(model), features, prompts, bool(multimask), vectorize)


@partial(jax.jit, static_argnums=(3, 4))
def _segment(
    model: Model, features: ImageFeatures, prompts: ImagePrompts, multimask: bool, vectorize: bool
) -> Segments:
    features = features._replace(embedding=decoder_embedding(model, features.embedding))

    def segment_image(features: ImageFeatures, prompts: ImagePrompts) -> Segments:
        def segment_object(prompt: ImagePrompts) -> Segments:
            return _segment_object(model, features, prompt, multimask, vectorize)

        return map_or_vmap(segment_object, vectorize)(prompts)

    lead = prompts.valid.shape[:-1]
    if not lead:
        return segment_image(features, prompts)
    flat = _flatten((features, prompts), len(lead))
    return _unflatten(map_or_vmap(segment_image, vectorize)(*flat), lead)


def _flatten(tree: Any, axes: int) -> Any:
    """Merges the leading axes of every leaf into one."""
    return jax.tree.map(lambda x: x.reshape(math.prod(x.shape[:axes]), *x.shape[axes:]), tree)


def _unflatten(tree: Any, lead: tuple[int, ...]) -> Any:
    """Splits the leading axis of every leaf into the axes `lead`."""
    return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), tree)


def _segment_object(
    model: Model, features: ImageFeatures, prompt: ImagePrompts, multimask: bool, vectorize: bool
) -> Segments:
    """The masks of one object. Rows that are not valid skip the decoder, unless all rows are computed together."""

    def decode(num_points: int) -> Callable[[], Segments]:
        cropped = prompt._replace(points=prompt.points[:num_points], labels=prompt.labels[:num_points])
        return lambda: _decode(model, features, cropped, multimask)

    def empty() -> Segments:
        masks, side = NUM_MULTIMASKS if multimask else 1, model.config.mask_size
        logits = jnp.full((masks, side, side), NO_OBJECT, jnp.float32)
        return Segments(logits, jnp.zeros(masks), jnp.full((), -MASK_LOGIT, jnp.float32), jnp.zeros((), bool))

    capacity = len(prompt.labels)
    if vectorize:
        return cond_or_select(prompt.valid, decode(capacity), empty, vectorize=True)
    sizes = _point_sizes(capacity)
    num_points = jnp.max(jnp.where(prompt.labels != Label.ABSENT, jnp.arange(1, capacity + 1), 0))
    smallest = 1 + jnp.searchsorted(jnp.array(sizes), num_points)
    return lax.switch(jnp.where(prompt.valid, smallest, 0), [empty, *map(decode, sizes)])


def _point_sizes(capacity: int) -> list[int]:
    """The numbers of points that the decoder is compiled for; each object uses the smallest that holds its points.

    So the rounding of an object's sums does not depend on how many points the other objects of the batch have.
    """
    sizes = [capacity]
    while sizes[0] > MIN_POINTS:
        sizes.insert(0, bucket(sizes[0] // 2, MIN_POINTS))
    return sizes


def _decode(model: Model, features: ImageFeatures, prompt: ImagePrompts, multimask: bool) -> Segments:
    size, side = model.config.image_size, model.config.mask_size
    mask, has_mask = prompt.masks, prompt.has_mask
    if not mask.size:  # constants, so that the compiler removes the mask's encoder
        mask, has_mask = jnp.zeros((side, side)), jnp.zeros((), bool)
    points = jnp.where((prompt.labels == Label.ABSENT)[..., None], 0, prompt.points * size)
    prediction = model.segment(features, PromptInputs(points, prompt.labels, mask, has_mask))
    if multimask:
        logits, ious = prediction.logits[-NUM_MULTIMASKS:], prediction.ious[-NUM_MULTIMASKS:]
        return Segments(logits, ious, prediction.score, prompt.valid)
    selected = select_mask(prediction, False, model.config.decoder)
    return Segments(selected.logits[None], selected.iou[None], selected.score, prompt.valid)
