"""Plain convolutions, and comparisons that the tests of the network's layers share."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax import Array, lax

from tests.support.shapes import examples
from tests.support.tolerances import COMPONENT_RTOL

fast = examples(6)  # at least as many as there are cases of a test in the default profile
channels = st.integers(1, 9)
batches = st.sampled_from(((), (2,), (1, 3)))


def close(got: Any, want: Any, rtol: float = COMPONENT_RTOL) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=rtol * np.abs(want).max())


def plain_conv(x: Any, kernel: Any, stride: int = 1, groups: int = 1, pad: tuple[int, int] | None = None) -> Array:
    """XLA's convolution, by default padded by half the kernel's size."""
    pad = (kernel.shape[0] // 2,) * 2 if pad is None else pad
    lead = x.shape[:-3]
    y = lax.conv_general_dilated(
        jnp.asarray(x).reshape(-1, *x.shape[-3:]),
        kernel,
        (stride, stride),
        (pad, pad),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return y.reshape(*lead, *y.shape[1:])
