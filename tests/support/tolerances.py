"""The one table of tolerances, and the comparison that every parity test makes. All in float32."""

from typing import Any

import numpy as np

# One module alone: the error, as a share of the reference's largest value.
COMPONENT_RTOL = 1e-5

# The whole network, absolute, at the full image size, where mask logits span about +-35.
MASK_LOGITS_ATOL = 1e-3
IOU_ATOL = 1e-5
SCORE_ATOL = 1e-4
POINTER_ATOL = 1e-4
MEMORY_ATOL = 1e-4
TRACKED_LOGITS_ATOL = 2e-3  # after memory has gone through several frames
REFINED_IOU_ATOL = 5e-5  # from a mask as a prompt, on the tiny network: rounding in the image's features shows more
FLIPPED_PIXELS = 3  # of a mask; their logits lie at the threshold

NO_OBJECT = -1024.0  # the mask logit where the object is absent


def assert_close(
    name: str, got: Any, want: Any, *, atol: float | None = None, rtol: float = COMPONENT_RTOL, both_signs: bool = False
) -> float:
    """Holds `got` against the reference `want`, and returns the largest error.

    The bar is `atol` where given, else `rtol` of the reference's largest value. A reference that any wrong network
    could match (constant, not finite, or with `both_signs` all of one sign) fails first.
    """
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"{name}: shape {got.shape}, reference {want.shape}"
    assert_telling(name, want, both_signs=both_signs)
    assert np.isfinite(got).all(), f"{name}: {np.count_nonzero(~np.isfinite(got))} values are not finite"
    error = np.abs(got - want)
    bar = rtol * np.abs(want).max() if atol is None else atol
    worst = np.unravel_index(error.argmax(), error.shape)
    assert error.max() <= bar, (
        f"{name}: largest error {error.max():.3g} exceeds {bar:.3g} at {tuple(map(int, worst))}: "
        f"got {got[worst]:.7g}, reference {want[worst]:.7g}; reference spans {want.min():.4g} to {want.max():.4g}"
    )
    return float(error.max())


def assert_telling(name: str, want: Any, *, both_signs: bool = False) -> None:
    """Fails unless a reference output could tell a right network from a wrong one."""
    want = np.asarray(want, np.float64)
    assert want.size, f"{name}: the reference is empty"
    assert np.isfinite(want).all(), f"{name}: the reference is not finite"
    assert not (want == NO_OBJECT).all(), f"{name}: the reference is absent everywhere"
    size = np.abs(want).max()
    assert size > 0, f"{name}: the reference is zero everywhere"
    if want.size > 1:
        assert want.std() > 1e-3 * size, f"{name}: the reference is constant, {want.flat[0]:.6g}"
    if both_signs:
        present = want[want != NO_OBJECT]
        share = (present > 0).mean()
        assert 0.001 < share < 0.999, f"{name}: {share:.2%} of the reference is positive, so signs go untested"
