import numpy as np
import pytest

from tests.support.tolerances import NO_OBJECT, assert_close

WANT = np.linspace(-2.0, 4.0, 12).reshape(3, 4)


def test_equal_arrays_pass_and_the_error_is_returned() -> None:
    assert assert_close("same", WANT, WANT) == 0.0
    assert assert_close("near", WANT + 2e-5, WANT) == pytest.approx(2e-5)
    assert assert_close("near", WANT + 0.4, WANT, atol=0.5) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("got", "message"),
    [
        (WANT + 5e-5, "largest error 5e-05 exceeds 4e-05"),
        (WANT[:1], "shape"),
        (np.where(WANT == 4.0, np.nan, WANT), "1 values are not finite"),
    ],
)
def test_wrong_arrays_fail(got: np.ndarray, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_close("wrong", got, WANT)


@pytest.mark.parametrize(
    ("want", "message"),
    [
        (np.full(9, 3.0), "constant"),
        (np.zeros(9), "zero everywhere"),
        (np.full(9, NO_OBJECT), "absent everywhere"),
        (np.array([1.0, np.inf]), "not finite"),
        (np.arange(1.0, 9.0), "positive"),
        (np.array([NO_OBJECT, 1.0, 2.0]), "positive"),
        (np.zeros((0, 2)), "empty"),
    ],
)
def test_references_that_tell_nothing_fail(want: np.ndarray, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_close("reference", want, want, both_signs=True)
