"""One interface for all implementations of the network, and ours behind it. The others are in `references`.

Arrays are numpy's or JAX's, channels last, in the shapes that `edgetam_jax.types` names.
"""

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from edgetam_jax.model import Model
from edgetam_jax.nn.edgetam import EdgeTAM
from edgetam_jax.nn.mask_decoder import stability
from edgetam_jax.types import ImageFeatures, Label, Memory, ObjectPrediction, PromptInputs
from tests.parity.pairs import run, with_score_bias

ROOM = 5  # points that ours are padded to, one shape for all kinds of prompts


class Clicks(NamedTuple):
    """What is said about each of O objects; a box is two points."""

    points: np.ndarray  # [O, P, 2]
    labels: np.ndarray  # [O, P]
    mask: np.ndarray | None = None  # [O, h, w] logits


class Encoded(NamedTuple):
    """Prompts as the mask decoder sees them."""

    tokens: Any  # [O, P, C]
    dense: Any  # [O, H, W, C]
    position: Any  # [H, W, C]


class Network(Protocol):
    score_bias: Any  # of the object score, a tensor that the tests shift

    def encode_image(self, pixels: ArrayLike) -> ImageFeatures: ...
    def add_no_memory_embedding(self, embedding: ArrayLike) -> Any: ...
    def attend(self, embedding: ArrayLike, memory: Memory) -> Any:
        """[O, H, W, C]; the same entries of the memory are valid for all objects."""
        ...

    def encode_prompt(self, clicks: Clicks) -> Encoded: ...
    def segment_object(self, features: ImageFeatures, clicks: Clicks, multimask: bool) -> ObjectPrediction:
        """For an embedding an object, [O, H, W, C]."""
        ...

    def memory_map(self, embedding: ArrayLike, logits: ArrayLike, from_prompt: bool) -> Any: ...
    def encode_memory(self, embedding: ArrayLike, logits: ArrayLike, from_prompt: bool) -> Any: ...


class Ours(NamedTuple):
    model: Model

    @property
    def score_bias(self) -> Any:
        return self.model.params["sam_mask_decoder"]["pred_obj_score_head"]["layers_2"]["bias"]

    def with_score_bias(self, bias: np.ndarray) -> "Ours":
        return Ours(with_score_bias(self.model, lambda _: bias))

    def encode_image(self, pixels: ArrayLike) -> ImageFeatures:
        return run(self.model, "encode_image", pixels)

    def add_no_memory_embedding(self, embedding: ArrayLike) -> Any:
        return run(self.model, "add_no_memory_embedding", embedding)

    def attend(self, embedding: ArrayLike, memory: Memory) -> Any:
        return run(self.model, "condition_on_memory", run(self.model, "self_attend", embedding), memory)

    def encode_prompt(self, clicks: Clicks) -> Encoded:
        return run(self.model, _encode_prompt, clicks._replace(labels=_closed(clicks), points=_padded(clicks, 1)))

    def segment_object(self, features: ImageFeatures, clicks: Clicks, multimask: bool) -> ObjectPrediction:
        return run(self.model, "segment_object", features, self.prompt(clicks), np.asarray(multimask))

    def stability(self, features: ImageFeatures, clicks: Clicks) -> np.ndarray:
        """Of each object's first mask."""
        logits = run(self.model, "segment", features, self.prompt(clicks)).logits[:, 0]
        return np.asarray(stability(logits, self.model.config.decoder.stability_delta))

    def prompt(self, clicks: Clicks) -> PromptInputs:
        """With the tokens that the original adds, and filled up to a fixed shape with points that are absent."""
        objects, count = clicks.labels.shape
        closing = 1 if count else 2
        fill = [Label.NOT_A_POINT] * closing + [Label.ABSENT] * (ROOM - closing - count)
        size = self.model.config.mask_size
        return PromptInputs(
            points=_padded(clicks, len(fill)),
            labels=np.concatenate([clicks.labels, np.tile(np.array(fill, np.int32), (objects, 1))], 1),
            mask=np.zeros((objects, size, size), np.float32) if clicks.mask is None else clicks.mask,
            has_mask=np.full(objects, clicks.mask is not None),
        )

    def use_mask_as_output(self, features: ImageFeatures, masks: ArrayLike) -> ObjectPrediction:
        return run(self.model, "use_mask_as_output", features, masks)

    def memory_map(self, embedding: ArrayLike, logits: ArrayLike, from_prompt: bool) -> Any:
        return run(self.model, _memory_map, embedding, logits, np.asarray(from_prompt))

    def encode_memory(self, embedding: ArrayLike, logits: ArrayLike, from_prompt: bool) -> Any:
        return run(self.model, "encode_memory", embedding, logits, np.asarray(from_prompt))


def _padded(clicks: Clicks, count: int) -> np.ndarray:
    return np.pad(clicks.points, ((0, 0), (0, count), (0, 0)), constant_values=7.0)


def _closed(clicks: Clicks) -> np.ndarray:
    return np.pad(clicks.labels, ((0, 0), (0, 1)), constant_values=Label.NOT_A_POINT)


def _encode_prompt(network: EdgeTAM, clicks: Clicks) -> Encoded:
    encoder = network.sam_prompt_encoder
    assert clicks.mask is not None
    return Encoded(
        encoder.points(jnp.asarray(clicks.points), jnp.asarray(clicks.labels)).tokens,
        encoder.mask(jnp.asarray(clicks.mask)),
        encoder.dense_position(),
    )


def _memory_map(network: EdgeTAM, *args: Any) -> Any:
    return network.memory_encoder(*args)
