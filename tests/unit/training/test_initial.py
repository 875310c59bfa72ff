"""What networks start from: a plain trunk, prompts that look where they point, memory as large as what it joins."""

import re

import jax
import numpy as np

from convert.layouts import flat
from edgetam_jax.model import init_params
from edgetam_jax.training.initial import GAIN, fit_memory, initial_params
from tests.scene import MINIMAL
from tests.unit.training.network import tiny_model


def test_what_starts_differently() -> None:
    both = jax.jit(lambda key: (initial_params(MINIMAL, key), init_params(MINIMAL, key)))
    start, plain = map(flat, jax.device_get(both(jax.random.key(0))))
    changed = {name for name, x in plain.items() if not np.array_equal(x, start[name])}
    keys = {name for name in changed if name.endswith("k_proj/kernel")}
    assert len(keys) == 3  # in the one layer both ways, and once in the end
    for name in keys:
        assert "_image" in name or "_token" in name
        np.testing.assert_array_equal(start[name], start[name.replace("k_proj", "q_proj")])
        np.testing.assert_allclose(start[name], GAIN * plain[name], rtol=1e-6)
    closed = {name for name, x in start.items() if name.startswith("image_encoder/trunk") and not x.any()} & changed
    assert closed == {name for name in plain if re.search(r"(channel_mixer|ffn)/conv2/bn/scale$", name)} != set()
    rest = changed - keys - closed - {name.replace("k_proj", "q_proj") for name in keys}
    assert rest == {name for name in plain if name.endswith("/gamma")} != set()


def test_memory_is_scaled_and_the_rest_is_not() -> None:
    model = tiny_model()
    before, after = flat(model.params), flat(fit_memory(model.params, 4.0))
    factors = {name: np.unique(np.round(after[name] / x, 5)) for name, x in before.items() if x.any()}
    assert all(len(factor) == 1 for factor in factors.values())
    of = {name: float(factor[0]) for name, factor in factors.items() if factor[0] != 1}
    assert set(of.values()) == {4.0, 0.25}
    assert [name for name, factor in of.items() if factor == 0.25] == ["memory_encoder/pix_feat_proj/kernel"]
    grown = {name for name, factor in of.items() if factor == 4}
    assert {"memory_attention/norm/scale", "memory_attention/layers_0/cross_attn_image/out_proj/kernel"} < grown
    assert all(name.startswith("memory_attention/") for name in grown)
