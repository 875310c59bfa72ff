"""The benchmarks of parts of the network, of forms of its kernels, and profiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.forms import forms_of
from benchmarks.parts import parts_of, time_in_turns
from benchmarks.profile import FRAMES, by_line
from edgetam_jax.tracking.step import encode_frames, track_object
from tests.support.scene import MINIMAL
from tests.unit.training.network import tiny_model


@pytest.mark.slow
def test_parts_make_up_a_frame() -> None:
    parts = parts_of(tiny_model(0), "float32")
    (model, frame), (_, queries, past), *_ = (part.arguments for part in parts)
    features = jax.jit(encode_frames)(model, frame)
    output = jax.jit(track_object)(model, features, past)
    np.testing.assert_allclose(parts[-1].program(*parts[-1].arguments), output.memory.tokens, atol=1e-4)
    np.testing.assert_allclose(queries.tokens, features.queries.tokens, atol=1e-4)
    assert np.abs(output.memory.tokens).max() > 0.1


@pytest.mark.slow
def test_forms_compute_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """For all forms that run here; the others are printed."""
    forms = forms_of(MINIMAL, "float32")
    printed = capsys.readouterr().out
    assert len(forms) + printed.count("cuDNN's flash attention, float32: ") == 7
    outputs: dict[str, list[jax.Array]] = {}
    for form in forms:
        outputs.setdefault(form.name.partition(":")[0], []).append(form.program(*form.arguments))
    assert len(outputs) == 3
    for first, *others in outputs.values():
        assert others and np.abs(first).max() > 0.1
        for other in others:
            np.testing.assert_allclose(other, first, atol=1e-4)
    rows = time_in_turns(forms, rounds=2)
    assert [len(form.seconds) for form in forms] == [2] * len(forms)
    assert [row["part"] for row in rows] == [form.name for form in forms]


def test_a_profile_counts_the_calls_of_a_frame() -> None:
    @jax.jit
    def once(x: jax.Array) -> jax.Array:
        return x + 1

    @jax.jit
    def twice(x: jax.Array) -> jax.Array:
        return x @ x

    def work() -> None:
        jax.block_until_ready(twice(twice(once(jnp.ones((64, 64))))))

    kernels = [kernel for _, line in by_line(work) for kernel in line]
    first, second = (
        [kernel for kernel in kernels if kernel.name == f"PjitFunction({name})"] for name in ("once", "twice")
    )
    calls = [sum(kernel.calls for kernel in some) for some in (first, second)]
    assert calls[1] == 2 * calls[0] and 1 <= calls[0] < FRAMES
    assert sum(kernel.milliseconds for kernel in second) > 0
