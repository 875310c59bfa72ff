"""Still images: an image is encoded once, then asked about any number of objects, any number of times.

Both functions are pure and take batches. Objects do not see each other, nor what fills a batch up to its shape.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from edgetam_jax.errors import PromptError
from edgetam_jax.images.prompts import SMALLEST_ROOM, ImagePrompts, Size
from edgetam_jax.model import Model
from edgetam_jax.nn.edgetam import MASK_LOGIT, NO_OBJECT
from edgetam_jax.nn.mask_decoder import select_mask
from edgetam_jax.ops.pixels import Rule, as_frames, as_image
from edgetam_jax.ops.pixels import preprocess as normalised
from edgetam_jax.ops.resize import resize_logits
from edgetam_jax.ops.tree import cond_or_select, map_or_vmap, resolve_vectorize
from edgetam_jax.prompts import bucket
from edgetam_jax.types import ImageFeatures, Label, PromptInputs

ALTERNATIVES = 3  # masks of a prompt that can mean several things
ENCODED_AT_ONCE = 8  # images, except on CPU


class Segments(NamedTuple):
    """M masks of each object: three alternatives, or one."""

    logits: Array  # [..., O, M, h, w] at a quarter of the model's input size
    ious: Array  # [..., O, M] the network's estimate of each mask's quality
    scores: Array  # [..., O] logit: is the object in the image at all? Masks are given in either case
    valid: Array  # [..., O] bool: False where the batch is only filled up

    def masks(self, size: Size) -> Array:
        """[..., O, M, height, width] bool at the image's size."""
        return resize_logits(self.logits, size) > 0


def encode_image(model: Model, images: Any, *, preprocess: Rule = "image") -> ImageFeatures:
    """One image or images [..., H, W, 3] of uint8 (else see `as_image` and `as_frames`) to what `segment` needs.

    The embedding is raw, as it is for video.
    """
    shape = getattr(images, "shape", ())
    if len(shape) > 3 and 0 not in shape:
        pixels = as_frames(images.reshape(-1, *shape[-3:]))
        pixels = pixels.reshape(*shape[:-3], *pixels.shape[1:])
    else:
        pixels = as_image(images)
    # Two programs, so that images of a new size compile only the small one.
    return _encode(model, _prepare(pixels, model.config.image_size, preprocess))


@partial(jax.jit, static_argnums=(1, 2))
def _prepare(images: Array, size: int, rule: Rule) -> Array:
    return normalised(images, size, rule)


@jax.jit
def _encode(model: Model, pixels: Array) -> ImageFeatures:
    encode = completed(model).encode_image
    lead = pixels.shape[:-3]
    if not lead:
        return encode(pixels)
    # On CPU a batch is no faster, and takes memory for each image.
    group = None if jax.default_backend() == "cpu" else ENCODED_AT_ONCE
    features = lax.map(encode, pixels.reshape(-1, *pixels.shape[-3:]), batch_size=group)
    return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), features)


@jax.jit
def decoder_embedding(model: Model, embedding: Array) -> Array:
    """An image's embedding as the decoder expects it."""
    return completed(model).add_no_memory_embedding(embedding)


def segment(
    model: Model,
    features: ImageFeatures,
    prompts: ImagePrompts,
    multimask: bool = True,
    *,
    vectorize: bool | None = None,
) -> Segments:
    """Masks of all prompted objects [..., O] on the images whose `features` [...] `encode_image` returned.

    With `multimask` three alternatives each, for prompts that can mean several things, such as one click. Without it
    one: the decoder's first mask, or the best alternative where that one is unstable.

    `vectorize` computes objects at once rather than one after the other. One after the other, the default on CPU,
    an object's result is the same to the last bit whatever it is batched with; at once, to rounding.
    """
    lead, images = prompts.valid.shape[:-1], features.embedding.shape[:-3]
    if lead != images:
        raise PromptError(f"the prompts are about images {lead}, the features of images {images}; expected the same.")
    side = model.config.mask_size
    if prompts.masks.shape[-2:] not in ((0, 0), (side, side)):
        raise PromptError(
            f"the prompts' masks are {prompts.masks.shape[-2:]}, this model's {(side, side)} (height, width); "
            "give logits at a quarter of its input size, such as it returns."
        )
    return _segment(model, features, prompts, bool(multimask), resolve_vectorize(vectorize))


@partial(jax.jit, static_argnums=(3, 4))
def _segment(
    model: Model, features: ImageFeatures, prompts: ImagePrompts, multimask: bool, vectorize: bool
) -> Segments:
    features = features._replace(embedding=decoder_embedding(model, features.embedding))
    model = completed(model)

    def one_image(features: ImageFeatures, prompts: ImagePrompts) -> Segments:
        def one_object(prompt: ImagePrompts) -> Segments:
            return _one(model, features, prompt, multimask, vectorize)

        return map_or_vmap(one_object, vectorize)(prompts)

    lead = prompts.valid.shape[:-1]
    if not lead:
        return one_image(features, prompts)
    flat = jax.tree.map(lambda x: x.reshape(math.prod(lead), *x.shape[len(lead) :]), (features, prompts))
    return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), map_or_vmap(one_image, vectorize)(*flat))


def _rooms(places: int) -> list[int]:
    """Numbers of points that objects are computed with, each with the smallest that holds its own.

    Then the points of other objects do not even change how an object's sums are rounded.
    """
    rooms = [places]
    while rooms[0] > SMALLEST_ROOM:
        rooms.insert(0, bucket(rooms[0] // 2, SMALLEST_ROOM))
    return rooms


def _one(model: Model, features: ImageFeatures, prompt: ImagePrompts, multimask: bool, vectorize: bool) -> Segments:
    """One object; nothing is computed where there is none, unless objects are computed at once and share one shape."""

    def answer(room: int) -> Callable[[], Segments]:
        fitting = prompt._replace(points=prompt.points[:room], labels=prompt.labels[:room])
        return lambda: _answer(model, features, fitting, multimask)

    def nothing() -> Segments:
        masks, side = ALTERNATIVES if multimask else 1, model.config.mask_size
        logits = jnp.full((masks, side, side), NO_OBJECT, jnp.float32)
        return Segments(logits, jnp.zeros(masks), jnp.full((), -MASK_LOGIT, jnp.float32), jnp.zeros((), bool))

    places = len(prompt.labels)
    if vectorize:
        return cond_or_select(prompt.valid, answer(places), nothing, vectorize=True)
    rooms = _rooms(places)
    given = prompt.labels != Label.ABSENT
    last = jnp.max(jnp.where(given, jnp.arange(1, places + 1), 0))
    fitting = 1 + jnp.searchsorted(jnp.array(rooms), last)
    return lax.switch(jnp.where(prompt.valid, fitting, 0), [nothing, *map(answer, rooms)])


def _answer(model: Model, features: ImageFeatures, prompt: ImagePrompts, multimask: bool) -> Segments:
    size, side = model.config.image_size, model.config.mask_size
    mask, has_mask = prompt.masks, prompt.has_mask
    if not mask.size:  # constants, so that no mask is encoded
        mask, has_mask = jnp.zeros((side, side)), jnp.zeros((), bool)
    points = jnp.where((prompt.labels == Label.ABSENT)[..., None], 0, prompt.points * size)
    found = model.segment(features, PromptInputs(points, prompt.labels, mask, has_mask))
    if multimask:
        return Segments(found.logits[-ALTERNATIVES:], found.ious[-ALTERNATIVES:], found.score, prompt.valid)
    chosen = select_mask(found, False, model.config.decoder)
    return Segments(chosen.logits[None], chosen.iou[None], chosen.score, prompt.valid)


def completed(model: Model) -> Model:
    """The model with two vectors that a checkpoint for still images lacks. Flax asks for them; nothing reads them."""
    config = model.config
    unread = {
        "maskmem_tpos_enc": jnp.zeros((config.memory_frames, 1, 1, config.memory_dim)),
        "no_obj_ptr": jnp.zeros((1, config.hidden_dim)),
    }
    return Model({**unread, **model.params}, config)
