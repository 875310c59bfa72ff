"""Run-length encoding in both of COCO's formats."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_jax.errors import EdgeTAMError
from edgetam_jax.ops.rle import counts_of_edges, rle_area, rle_compress, rle_decode, rle_encode
from tests.support.shapes import examples


def test_runs_go_down_the_columns_and_start_with_background() -> None:
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)
    assert rle_encode(mask) == {"size": [2, 3], "counts": [2, 3, 1]}
    assert rle_encode(~mask) == {"size": [2, 3], "counts": [0, 2, 3, 1]}
    assert rle_encode(np.zeros((2, 3))) == {"size": [2, 3], "counts": [6]}
    assert rle_encode(np.ones((2, 3))) == {"size": [2, 3], "counts": [0, 6]}


@examples(50)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 1), st.integers(0, 1000))
def test_round_trip(height: int, width: int, density: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < density
    rle = rle_encode(mask)
    np.testing.assert_array_equal(rle_decode(rle), mask)
    assert rle_area(rle) == mask.sum()
    text = rle_compress(rle)
    np.testing.assert_array_equal(rle_decode(text), mask)
    assert rle_compress(text) == text


# As pycocotools writes them: counts of one and of many characters, that rise and fall, and a full mask.
KNOWN = [
    ([2, 3], [2, 3, 1], "231"),
    ([2, 3], [0, 2, 3, 1], "023O"),
    ([2, 3], [6], "6"),
    ([2, 3], [0, 6], "06"),
    ([40, 50], [7, 15, 16, 31, 32, 33, 1, 1, 1000, 864], "7?`0`0`02QOPOWo0oj0"),
]


@pytest.mark.parametrize(("size", "counts", "text"), KNOWN)
def test_known_strings(size: list[int], counts: list[int], text: str) -> None:
    rle, compressed = {"size": size, "counts": counts}, {"size": size, "counts": text}
    assert rle_compress(rle) == compressed
    for written in (compressed, {"size": size, "counts": text.encode()}):
        np.testing.assert_array_equal(rle_decode(written), rle_decode(rle))


@pytest.mark.parametrize("density", [0.001, 0.1, 0.5])
def test_strings_are_pycocotools(density: float) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    for size in ((37, 53), (480, 640), (1, 70000)):
        mask = random.random(size) < density
        want = coco.encode(np.asfortranarray(mask, np.uint8))
        assert rle_compress(rle_encode(mask)) == {"size": list(size), "counts": want["counts"].decode()}
        np.testing.assert_array_equal(rle_decode(want), mask)


@examples(60)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3), st.integers(0, 3), st.floats(0, 1), st.integers(0, 99))
def test_counts_of_edges(h: int, w: int, right: int, below: int, density: float, seed: int) -> None:
    """A mask in an image that is larger on some sides or on all."""
    random = np.random.default_rng(seed)
    x, y = (int(n) for n in random.integers(0, 3, 2))
    image = np.zeros((y + h + below, x + w + right), bool)
    image[y : y + h, x : x + w] = random.random((h, w)) < density
    spare = int(random.integers(1, 4))  # padding rows and columns
    mask = np.pad(image[y : y + h, x : x + w], ((1, spare), (0, spare - 1)))
    edges = (mask[1:] != mask[:-1]).T
    assert counts_of_edges(edges, (x, y), image.shape).tolist() == rle_encode(image)["counts"]


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"size": [2, 3], "counts": [2, 3]}, "add up to 5"),
        ({"size": [2, 3], "counts": [8, -2]}, "add up"),
        ({"size": [2, 3], "counts": "25"}, "add up"),
        ({"size": [2, 3], "counts": "~"}, "invalid characters"),
        ({"size": [2, 3], "counts": "é"}, "not a run-length encoding"),
        ({"size": [2, 3], "counts": "6P"}, "ends inside"),
        ({"size": [2, 3], "counts": "PPPPPPPPPP1"}, "seven"),
        ({"counts": [6]}, "size"),
        ({"size": [2, 3], "counts": ["a"]}, "not a run-length encoding"),
    ],
)
def test_bad_run_lengths(rle: dict, message: str) -> None:
    for function in (rle_decode, rle_compress, rle_area):
        with pytest.raises(EdgeTAMError, match=message):
            function(rle)


def test_masks_are_encoded_one_by_one() -> None:
    with pytest.raises(EdgeTAMError, match=r"\[H, W\]"):
        rle_encode(np.zeros((1, 2, 3)))
