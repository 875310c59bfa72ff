"""What is compared: each part of the network, with the same inputs to ours and to a reference.

The objects of a batch differ: in their prompts, and in whether the network finds them. The tests assert these
comparisons; `benchmarks.parity` prints them.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from edgetam_jax.config import Config
from edgetam_jax.types import ImageFeatures, Label, Memory, ObjectPrediction
from tests.parity.networks import Clicks, Network, Ours
from tests.parity.pairs import normal
from tests.parity.references import Original
from tests.support.tolerances import (
    COMPONENT_RTOL,
    IOU_ATOL,
    MASK_LOGITS_ATOL,
    MEMORY_ATOL,
    POINTER_ATOL,
    SCORE_ATOL,
    assert_close,
)

OBJECTS = 4
LABELS = {
    "no prompt": (),
    "one click": (Label.POSITIVE,),
    "one negative click": (Label.NEGATIVE,),
    "three clicks": (Label.POSITIVE, Label.NEGATIVE, Label.POSITIVE),
    "box": (Label.BOX_START, Label.BOX_END),
    "box and click": (Label.BOX_START, Label.BOX_END, Label.NEGATIVE),
    "mask": (),
    "click and mask": (Label.POSITIVE,),
}
KINDS = tuple(LABELS)


class Comparison(NamedTuple):
    name: str
    got: ArrayLike
    want: ArrayLike
    atol: float | None = None  # else COMPONENT_RTOL of the reference's largest value
    both_signs: bool = False

    def check(self) -> None:
        assert_close(self.name, self.got, self.want, atol=self.atol, both_signs=self.both_signs)

    @property
    def bar(self) -> float:
        return self.atol or COMPONENT_RTOL * float(np.abs(np.asarray(self.want)).max())


class Scene(NamedTuple):
    """A picture in both networks' hands."""

    ours: Ours
    reference: Network
    got: ImageFeatures
    want: ImageFeatures

    @property
    def config(self) -> Config:
        return self.ours.model.config


def make_scene(ours: Ours, reference: Any, seed: int = 0) -> Scene:
    pixels = picture(ours.model.config.image_size, seed)
    return Scene(ours, reference, ours.encode_image(pixels), reference.encode_image(pixels))


def picture(size: int, seed: int = 0) -> np.ndarray:
    """Normalised pixels with structure at all scales: large blobs, edges, and grain."""
    rng = np.random.default_rng(seed)
    cells = size // 4, 16, 1
    layers = [np.kron(rng.normal(size=(size // n, size // n, 3)), np.ones((n, n, 1))) for n in cells]
    return (sum(layers) / 3**0.5).astype(np.float32)[None]


def embeddings(scene: Scene) -> np.ndarray:
    """One an object, as memory would make it."""
    clean = np.asarray(scene.got.embedding)
    return clean + 0.5 * normal(1, OBJECTS, *clean.shape[1:])


def clicks(config: Config, kind: str) -> Clicks:
    """Prompts of one kind, at other places for each object; boxes have their corners where they belong."""
    rng = np.random.default_rng(KINDS.index(kind))
    labels = np.tile(np.array(LABELS[kind], np.int32), (OBJECTS, 1))
    points = rng.uniform(0, config.image_size, (OBJECTS, labels.shape[1], 2)).astype(np.float32)
    if Label.BOX_START in LABELS[kind]:
        points[:, :2].sort(1)
    mask = 10 * rng.normal(size=(OBJECTS, config.mask_size, config.mask_size)).astype(np.float32)
    return Clicks(points, labels, mask if "mask" in kind else None)


def image_features(scene: Scene) -> Iterator[Comparison]:
    for name, got, want in zip(ImageFeatures._fields, scene.got, scene.want, strict=True):
        yield Comparison(name, got, want, both_signs=True)


def prompt_encoding(scene: Scene, kind: str = "click and mask") -> Iterator[Comparison]:
    asked = clicks(scene.config, kind)
    got, want = scene.ours.encode_prompt(asked), scene.reference.encode_prompt(asked)
    for name, g, w in zip(got._fields, got, want, strict=True):
        yield Comparison(name, g, w, both_signs=True)


def prompts(scene: Scene, kind: str, multimask: bool) -> Iterator[Comparison]:
    """The decoder's answer, when it finds some of the objects and others not."""
    asked, embedding = clicks(scene.config, kind), embeddings(scene)
    want = scene.want._replace(embedding=embedding)
    with some_present(scene, scene.reference.segment_object(want, asked, multimask).score) as scene:
        want = scene.reference.segment_object(want, asked, multimask)
        got = scene.ours.segment_object(scene.got._replace(embedding=embedding), asked, multimask)
    assert 0 < int((want.score > 0).sum()) < OBJECTS
    if not multimask:
        clear = ~on_edge(scene, scene.got._replace(embedding=embedding), asked)
        assert clear.sum() >= 2
        got, want = (ObjectPrediction(*(np.asarray(x)[clear] for x in output)) for output in (got, want))
    yield from sightings(got, want)


def on_edge(scene: Scene, features: ImageFeatures, asked: Clicks) -> np.ndarray:
    """Objects for whom one or two pixels, whose logits are within rounding of +-delta, decide which mask is shown."""
    decoder, pixels = scene.config.decoder, scene.config.mask_size**2
    return np.abs(scene.ours.stability(features, asked) - decoder.stability_threshold) < 4 / pixels


@contextlib.contextmanager
def some_present(scene: Scene, scores: np.ndarray) -> Iterator[Scene]:
    """Shifts both networks' object scores so that zero falls into the widest gap between the reference's `scores`."""
    bias = scene.reference.score_bias
    before = bias.clone()
    ordered = np.sort(scores)
    gap = int(np.argmax(np.diff(ordered)))
    bias.sub_(float(ordered[gap : gap + 2].mean()))
    try:
        yield scene._replace(ours=scene.ours.with_score_bias(bias.numpy().copy()))
    finally:
        bias.copy_(before)


def sightings(got: ObjectPrediction, want: ObjectPrediction) -> Iterator[Comparison]:
    yield Comparison("mask logits", got.logits, want.logits, MASK_LOGITS_ATOL, both_signs=True)
    yield Comparison("IoU", got.iou, want.iou, IOU_ATOL)
    yield Comparison("score", got.score, want.score, SCORE_ATOL)
    yield Comparison("pointer", got.pointer, want.pointer, POINTER_ATOL)


def given_masks(size: int) -> np.ndarray:
    """Two disks, a half plane, and nothing."""
    y, x = np.mgrid[:size, :size] / size
    disks = [(x - c) ** 2 + (y - 0.4) ** 2 < 0.05 for c in (0.2, 0.5)]
    return np.stack([*disks, x > 0.6, x > 2]).astype(np.float32)


def given_mask(scene: Scene) -> Iterator[Comparison]:
    masks = given_masks(scene.config.image_size)
    assert isinstance(scene.reference, Original)
    got, want = scene.ours.use_mask_as_output(scene.got, masks), scene.reference.use_mask_as_output(scene.want, masks)
    yield from (comparison for comparison in sightings(got, want) if comparison.name != "IoU")  # all are 1


def mask_logits(config: Config) -> np.ndarray:
    """Two objects' masks, the second object being absent."""
    coarse = normal(2, 2, config.embedding_size, config.embedding_size)
    logits = np.kron(10 * coarse, np.ones((4, 4))).astype(np.float32)
    logits[1] = -1024
    return logits


def memory(scene: Scene, from_prompt: bool) -> Iterator[Comparison]:
    """From a mask to memory tokens."""
    arguments = scene.want.embedding, mask_logits(scene.config), from_prompt
    for name, method in {"memory map": "memory_map", "memory tokens": "encode_memory"}.items():
        got, want = (getattr(network, method)(*arguments) for network in (scene.ours, scene.reference))
        yield Comparison(name, got, want, MEMORY_ATOL, both_signs=True)


def remembering(scene: Scene, frames: int, objects: int = 1) -> Iterator[Comparison]:
    """A frame seen through memory: one frame and its pointer, or more of both up to a full bank."""
    config = scene.config
    pointers = 1 if frames == 1 else config.pointers * frames // config.memory_frames
    rows = np.random.default_rng(13).permuted(np.tile(np.arange(config.memory_frames), (objects, 1)), axis=1)
    bank = Memory(
        frames=normal(3, objects, config.memory_frames, config.perceiver.tokens, config.memory_dim),
        rows=rows.astype(np.int32),
        frames_valid=np.tile(np.arange(config.memory_frames) < frames, (objects, 1)),
        pointers=normal(4, objects, config.pointers, config.hidden_dim),
        pointers_valid=np.tile(np.arange(config.pointers) < pointers, (objects, 1)),
    )
    embedding = np.broadcast_to(np.asarray(scene.want.embedding), (objects, *scene.want.embedding.shape[1:]))
    got, want = (network.attend(embedding, bank) for network in (scene.ours, scene.reference))
    yield Comparison("attended", got, want, both_signs=True)


def two_frames(scene: Scene) -> Iterator[Comparison]:
    """Click on one frame, remember, find on the next: each network goes on with its own results.

    The mask is remembered as a tracked one: made black and white as a prompted one, a single pixel within rounding of
    zero turns over and changes the memory a thousand times more than rounding does.
    """
    asked, nothing = clicks(scene.config, "one click"), clicks(scene.config, "no prompt")
    first = [_clean(scene.ours, scene.got), _clean(scene.reference, scene.want)]
    with some_present(scene, scene.reference.segment_object(first[1], asked, True).score) as shifted:
        got, want = (n.segment_object(f, asked, True) for n, f in zip(shifted[:2], first, strict=True))
    yield from _named("first frame", got, want)
    other = picture(scene.config.image_size, seed=1)
    second = [
        _next_frame(scene.ours, scene.config, scene.got, got, other),
        _next_frame(scene.reference, scene.config, scene.want, want, other),
    ]
    with some_present(scene, scene.reference.segment_object(second[1], nothing, True).score) as shifted:
        got, want = (n.segment_object(f, nothing, True) for n, f in zip(shifted[:2], second, strict=True))
    yield from _named("next frame", got, want)


def _named(frame: str, got: ObjectPrediction, want: ObjectPrediction) -> Iterator[Comparison]:
    for comparison in sightings(got, want):
        if comparison.name != "IoU":  # on the next frame close to 1 for all objects
            yield comparison._replace(name=f"{frame}, {comparison.name}")


def _clean(network: Network, features: ImageFeatures) -> ImageFeatures:
    return features._replace(embedding=_each(network.add_no_memory_embedding(features.embedding)))


def _next_frame(
    network: Network, config: Config, features: ImageFeatures, seen: ObjectPrediction, pixels: np.ndarray
) -> ImageFeatures:
    """Of `pixels`, with what is remembered of the frame before mixed in."""
    tokens = network.encode_memory(_each(features.embedding), seen.logits, False)
    bank = Memory(
        frames=np.asarray(tokens)[:, None],
        rows=np.full((OBJECTS, 1), config.memory_frames - 1, np.int32),
        frames_valid=np.ones((OBJECTS, 1), bool),
        pointers=np.asarray(seen.pointer)[:, None],
        pointers_valid=np.ones((OBJECTS, 1), bool),
    )
    following = network.encode_image(pixels)
    return following._replace(embedding=network.attend(_each(following.embedding), bank))


def _each(embedding: ArrayLike) -> np.ndarray:
    """A frame's embedding, once for every object."""
    embedding = np.asarray(embedding)
    return np.broadcast_to(embedding, (OBJECTS, *embedding.shape[1:]))
