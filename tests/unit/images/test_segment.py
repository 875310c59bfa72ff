"""Still images, the functions: what is batched together does not matter."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from edgetam_jax import ImagePrompts, Prompt, encode_image, segment
from edgetam_jax.errors import FrameError, PromptError
from edgetam_jax.images.segment import Segments
from edgetam_jax.model import Model
from edgetam_jax.types import NO_OBJECT, ImageFeatures
from tests.parity.pairs import normal, with_score_bias
from tests.support.oracle import TINY
from tests.support.tolerances import IOU_ATOL, MASK_LOGITS_ATOL, SCORE_ATOL, assert_close, assert_telling

SIZE = 60, 80
SIDE = TINY.mask_size


@pytest.fixture(autouse=True, scope="module")
def compiled_fast() -> None:
    """Bits are those of what users run, so programs that other modules compiled without optimization are dropped."""
    jax.clear_caches()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (2, 6, 8, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(x).resize(SIZE[::-1], Image.Resampling.BICUBIC)) for x in coarse])


@pytest.fixture(scope="module")
def features(model: Model, images: np.ndarray) -> ImageFeatures:
    nested = encode_image(model, images[None])
    assert nested.embedding.shape[:2] == (1, 2)
    return jax.tree.map(lambda x: x[0], nested)


def clicks(seed: int, count: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"points": rng.uniform(0, 60, (count, 2)), "labels": rng.integers(0, 2, count)}


RAGGED = [
    [
        Prompt(**clicks(0, 1)),
        Prompt(box=[5, 6, 40, 50]),
        Prompt(**clicks(1, 9)),
        Prompt(mask=5 * normal(2, SIDE, SIDE)),
        Prompt(**clicks(3, 2), mask=5 * normal(3, SIDE, SIDE)),
    ],
    [Prompt(**clicks(4, 2), box=[20, 10, 70, 50])],
]


def row(tree: Any, *index: int) -> Any:
    return jax.tree.map(lambda x: np.asarray(x[index]), tree)


@pytest.fixture(scope="module")
def batched(model: Model, features: ImageFeatures) -> Segments:
    return segment(model, features, ImagePrompts.build(RAGGED, SIZE))


def test_shapes(batched: Segments) -> None:
    assert batched.logits.shape == (2, 8, 3, SIDE, SIDE)
    assert batched.ious.shape == (2, 8, 3)
    assert batched.valid.tolist() == [5 * [True] + 3 * [False], [True] + 7 * [False]]
    valid = np.asarray(batched.valid)
    assert_telling("logits", np.asarray(batched.logits)[valid], both_signs=True)
    assert (np.asarray(batched.logits)[~valid] == NO_OBJECT).all()
    large = batched.masks(SIZE)
    assert large.shape == (2, 8, 3, *SIZE) and large.dtype == bool
    assert not large[0, 5:].any() and large[0, :5].any()


@pytest.mark.parametrize(("image", "index"), [(i, o) for i, row in enumerate(RAGGED) for o in range(len(row))])
def test_an_object_is_the_same_alone(
    model: Model, features: ImageFeatures, batched: Segments, image: int, index: int
) -> None:
    """Whatever it is batched with: other images, more objects, longer lists of points, masks. Bit by bit."""
    prompt = ImagePrompts.build([RAGGED[image][index]], SIZE)
    alone = segment(model, row(features, image), prompt)
    for name, got, want in zip(Segments._fields, row(batched, image, index), row(alone, 0), strict=True):
        np.testing.assert_array_equal(got, want, err_msg=name)


def test_at_once_is_one_after_the_other(model: Model, features: ImageFeatures, batched: Segments) -> None:
    got = segment(model, features, ImagePrompts.build(RAGGED, SIZE), vectorize=True)
    valid = np.asarray(batched.valid)
    np.testing.assert_array_equal(got.valid, valid)
    for name, atol in (("logits", MASK_LOGITS_ATOL), ("ious", IOU_ATOL), ("scores", SCORE_ATOL)):
        assert_close(name, np.asarray(getattr(got, name))[valid], np.asarray(getattr(batched, name))[valid], atol=atol)


def test_what_fills_a_batch_is_not_seen(model: Model, features: ImageFeatures, batched: Segments) -> None:
    prompts = ImagePrompts.build(RAGGED, SIZE)
    garbage = prompts._replace(
        points=jnp.where((prompts.labels == -2)[..., None], jnp.nan, prompts.points),
        masks=jnp.where(prompts.has_mask[..., None, None], prompts.masks, jnp.nan),
    )
    jax.tree.map(np.testing.assert_array_equal, segment(model, features, garbage), batched)


def test_the_objects_score_hides_no_mask(model: Model, features: ImageFeatures) -> None:
    prompts = ImagePrompts.build(RAGGED, SIZE)
    here, gone = (segment(with_score_bias(model, lambda b, by=by: b + by), features, prompts) for by in (50, -50))
    assert (here.scores[0, :5] > 0).all() and (gone.scores[0, :5] < 0).all()
    np.testing.assert_array_equal(here.logits, gone.logits)


def test_a_model_for_still_images_is_enough(model: Model, images: np.ndarray) -> None:
    parts = ("image_encoder", "sam_prompt_encoder", "sam_mask_decoder", "no_mem_embed")
    still = Model({name: model.params[name] for name in parts}, TINY)
    prompts = ImagePrompts.build([Prompt(**clicks(0, 1))], SIZE)
    shapes = jax.eval_shape(lambda: segment(still, encode_image(still, images[0]), prompts, False))
    assert shapes.logits.shape == (1, 1, SIDE, SIDE)


def test_images_of_a_batch_are_encoded_as_if_alone(model: Model, images: np.ndarray, features: ImageFeatures) -> None:
    for index, image in enumerate(images):
        for same in (image, jnp.asarray(image), image / 255, Image.fromarray(image)):
            jax.tree.map(np.testing.assert_array_equal, encode_image(model, same), row(features, index))
    assert_telling("embedding", features.embedding, both_signs=True)


def test_gradients(model: Model, features: ImageFeatures) -> None:
    """Of a mask's size by the place of the click; what only fills the shape has none."""
    prompts = ImagePrompts.build([Prompt(**clicks(0, 1))], SIZE)

    def size(points: jax.Array) -> jax.Array:
        found = segment(model, jax.tree.map(lambda x: x[0], features), prompts._replace(points=points))
        return jax.nn.sigmoid(found.logits[0, 0]).sum()

    gradient = np.asarray(jax.jit(jax.grad(size))(prompts.points))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[0, 0]).min() > 0 and not gradient[0, 1:].any()


def test_a_batch_without_masks(model: Model, features: ImageFeatures) -> None:
    prompts = ImagePrompts.build([[Prompt(**clicks(0, 1))]] * 2, SIZE)
    assert jax.eval_shape(segment, model, features, prompts).logits.shape == (2, 1, 3, SIDE, SIDE)


def test_wrong_batches(model: Model, features: ImageFeatures) -> None:
    click = Prompt(**clicks(0, 1))
    with pytest.raises(PromptError, match=r"leading axes \(\), the features of the images \(2,\)"):
        segment(model, features, ImagePrompts.build([click], SIZE))
    with pytest.raises(PromptError, match=r"leading axes \(3,\), the features of the images \(2,\)"):
        segment(model, features, ImagePrompts.build([[click]] * 3, SIZE))
    mask = Prompt(mask=np.ones((SIDE, SIDE // 2)))
    with pytest.raises(PromptError, match=r"masks are \(32, 16\), expected \(32, 32\)"):
        segment(model, features, ImagePrompts.build([[mask], []], SIZE))


@pytest.mark.parametrize(
    "images", [np.zeros((2, 60, 80), np.uint8), np.zeros((1, 2, 0, 9, 3), np.uint8), np.full((4, 4, 3), 2.0)]
)
def test_wrong_images(model: Model, images: Any) -> None:
    with pytest.raises(FrameError):
        encode_image(model, images)
