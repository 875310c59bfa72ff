"""Tiles of pixels as channels, and back."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgetam_jax.nn.tiles import depth_to_space, space_to_depth, tiled, untiled
from tests.parity.pairs import normal
from tests.support.shapes import shapes
from tests.unit.nn.plain import batches, channels, fast


@fast
@given(
    shapes(
        [((), 1, 3, 2, 1), ((2,), 2, 5, 1, 3), ((1, 3), 4, 2, 3, 2)],
        st.tuples(batches, st.integers(1, 4), channels, st.integers(1, 3), st.integers(1, 3)),
    )
)
def test_tiles_come_back(case: tuple) -> None:
    lead, block, width, rows, columns = case
    x = normal(0, *lead, block * rows, block * columns, width)
    packed = space_to_depth(jnp.asarray(x), block)
    assert packed.shape == (*lead, rows, columns, block * block * width)
    np.testing.assert_array_equal(packed[..., 0, 0, :width], x[..., 0, 0, :])
    np.testing.assert_array_equal(packed[..., -1, -1, -width:], x[..., -1, -1, :])
    np.testing.assert_array_equal(depth_to_space(packed, block), x)


@fast
@given(
    shapes(
        [((), 0, 3, 2, 1), ((2,), 1, 5, 1, 3), ((1, 3), 2, 2, 2, 2), ((), 3, 1, 1, 2)],
        st.tuples(batches, st.integers(0, 3), channels, st.integers(1, 2), st.integers(1, 3)),
    )
)
def test_tiles_of_tiles_come_back(case: tuple) -> None:
    lead, levels, width, rows, columns = case
    x = normal(0, *lead, 2**levels * rows, 2**levels * columns, width)
    packed = tiled(jnp.asarray(x), levels)
    assert packed.shape == (*lead, rows, columns, *levels * (4,), width)
    corner = x[..., : 2**levels, : 2**levels, :]
    first, last = levels * (0,), levels * (3,)
    np.testing.assert_array_equal(packed[(..., 0, 0, *first, slice(None))], corner[..., 0, 0, :])
    np.testing.assert_array_equal(packed[(..., 0, 0, *last, slice(None))], corner[..., -1, -1, :])
    if levels:  # the outermost tile is the first of its axes
        np.testing.assert_array_equal(
            packed[(..., 0, 0, 1, *first[1:], slice(None))], corner[..., 0, 2 ** (levels - 1), :]
        )
    np.testing.assert_array_equal(untiled(packed, levels), x)
