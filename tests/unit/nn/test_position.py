"""Position encodings against formulas written out one number at a time, and the properties they exist for."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_jax.nn.position import (
    fourier_encoding,
    fourier_grid,
    pair_order,
    rotary_angles,
    rotate,
    sine_encoding,
)
from tests.parity.pairs import normal
from tests.support.shapes import examples, shapes

SIZES = shapes((1, 3, 8), st.integers(1, 12))
WIDTHS = shapes((4, 16), st.sampled_from((4, 8, 16, 64)))
fast = examples(15)


@fast
@given(size=SIZES, features=WIDTHS, data=st.data())
def test_sine_encoding(size: int, features: int, data: st.DataObject) -> None:
    y, x, channel = (data.draw(st.integers(0, n - 1)) for n in (size, size, features))
    half = features // 2
    place = y if channel < half else x
    pair, odd = divmod(channel % half, 2)
    angle = 2 * math.pi * (place + 1) / (size + 1e-6) / 10000 ** (2 * pair / half)
    expected = math.cos(angle) if odd else math.sin(angle)
    encoding = sine_encoding(size, features)
    assert encoding.shape == (size, size, features)
    np.testing.assert_allclose(encoding[y, x, channel], expected, atol=2e-6)


@fast
@given(half=shapes((1, 8), st.integers(1, 16)), seed=st.integers(0, 99))
def test_fourier_encoding(half: int, seed: int) -> None:
    coords, matrix = np.random.default_rng(seed).uniform(size=(3, 2)).astype(np.float32), normal(seed, 2, half)
    got = fourier_encoding(jnp.asarray(coords), jnp.asarray(matrix))
    for row, (x, y) in zip(np.asarray(got), coords.astype(float), strict=True):
        angle = 2 * math.pi * ((2 * x - 1) * matrix[0].astype(float) + (2 * y - 1) * matrix[1].astype(float))
        np.testing.assert_allclose(row, [*np.sin(angle), *np.cos(angle)], atol=1e-5)


def test_fourier_grid() -> None:
    """The same at the centres of cells, of which the last in the first row is at x = 7 / 8 and y = 1 / 8."""
    matrix = jnp.asarray(normal(3, 2, 8))
    grid, centres = fourier_grid(4, matrix), (np.arange(4) + 0.5) / 4
    want = fourier_encoding(jnp.asarray(np.stack(np.meshgrid(centres, centres), -1), jnp.float32), matrix)
    np.testing.assert_allclose(grid, want, atol=5e-6)
    np.testing.assert_allclose(grid[0, 3], fourier_encoding(jnp.array([7 / 8, 1 / 8]), matrix), atol=5e-6)


@fast
@given(size=SIZES, features=WIDTHS, data=st.data())
def test_rotary_angles(size: int, features: int, data: st.DataObject) -> None:
    y, x, pair = (data.draw(st.integers(0, n - 1)) for n in (size, size, features // 2))
    quarter = features // 4
    expected = (x if pair < quarter else y) * 10000 ** (-4 * (pair % quarter) / features)
    np.testing.assert_allclose(rotary_angles(size, features)[y * size + x, pair], expected, rtol=1e-5)


@fast
@given(size=SIZES, features=WIDTHS, seed=st.integers(0, 99))
def test_rotation_keeps_lengths(size: int, features: int, seed: int) -> None:
    x = normal(seed, size * size, features)
    turned = rotate(jnp.asarray(x), rotary_angles(size, features))
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5)
    np.testing.assert_array_equal(turned[0], x[0])  # the first place is turned by nothing


@fast
@given(features=WIDTHS, seed=st.integers(0, 99), data=st.data())
def test_scores_depend_on_relative_place_alone(features: int, seed: int, data: st.DataObject) -> None:
    size = 9
    query, key = normal(seed, 2, features).astype(float)
    step = data.draw(st.tuples(st.integers(-4, 4), st.integers(-4, 4)))

    def score(y: int, x: int) -> float:
        """Of a query at (y, x) for a key one step away."""
        both = np.zeros((size * size, features), np.float32)
        places = y * size + x, (y + step[0]) * size + x + step[1]
        turned = [
            np.asarray(rotate(jnp.asarray(both + vector, jnp.float32), rotary_angles(size, features)))[place]
            for vector, place in zip((query, key), places, strict=True)
        ]
        return float(turned[0].astype(float) @ turned[1])

    inside = st.tuples(*(st.integers(max(0, -s), size - 1 - max(0, s)) for s in step))
    one, other = data.draw(inside), data.draw(inside)
    np.testing.assert_allclose(score(*one), score(*other), rtol=1e-4, atol=1e-4 * features)


def test_scores_depend_on_relative_place() -> None:
    """Else the test above could be satisfied by no rotation at all."""
    vectors = jnp.ones((9, 8))
    turned = rotate(vectors, rotary_angles(3, 8))
    scores = np.asarray(turned @ turned.T)
    assert np.ptp(scores[0]) > 1


@pytest.mark.parametrize("features", [16, 256])
def test_rotation_is_the_originals(features: int) -> None:
    """There the two members of a pair stand side by side, as one complex number."""
    torch = pytest.importorskip("torch")
    from tests.support import oracle  # noqa: F401  (declares what the original needs to be imported)

    encoding = pytest.importorskip("sam2.modeling.position_encoding")
    size = 5
    q, k = normal(0, 1, 1, size * size, features), normal(1, 1, 1, size * size, features)
    table = encoding.compute_axial_cis(dim=features, end_x=size, end_y=size)
    want = encoding.apply_rotary_enc(torch.from_numpy(q), torch.from_numpy(k), freqs_cis=table)
    order = pair_order(features)
    for x, expected in zip((q, k), want, strict=True):
        got = rotate(jnp.asarray(x[..., order]), rotary_angles(size, features))
        np.testing.assert_allclose(got, expected.numpy()[..., order], atol=2e-6)
