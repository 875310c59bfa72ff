"""Attention with masked keys, and memory attention with empty slots."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetam_jax.nn.attention import Attention, softmax
from edgetam_jax.nn.memory_attention import FrameQueries, MemoryAttention
from edgetam_jax.types import Memory
from tests.parity.pairs import normal
from tests.support.checkpoints import SMALL
from tests.support.shapes import examples, shapes

fast = examples(15)
lengths = shapes((2, 7), st.integers(2, 9))
masks = lengths.flatmap(lambda n: st.lists(st.booleans(), min_size=n, max_size=n).filter(any))
wild = st.floats(-(2.0**100), 2.0**100, width=32)


@fast
@given(mask=masks, garbage=wild | st.just(float("nan")) | st.just(float("inf")), seed=st.integers(0, 99))
def test_absent_keys_have_no_weight(mask: list[bool], garbage: float, seed: int) -> None:
    valid = np.array(mask)
    scores = np.where(valid, normal(seed, 4, len(mask)), np.float32(garbage))
    weights = np.asarray(softmax(jnp.asarray(scores), jnp.asarray(valid)))
    assert (weights[:, ~valid] == 0).all()
    exact = np.exp(scores[:, valid].astype(float))
    np.testing.assert_allclose(weights[:, valid], exact / exact.sum(-1, keepdims=True), rtol=1e-5)


def test_no_key_at_all_gives_no_nan() -> None:
    weights = softmax(jnp.full((2, 3), jnp.nan), jnp.zeros(3, bool))
    assert bool(jnp.isfinite(weights).all())


@pytest.fixture(scope="module")
def attention() -> tuple:
    module = Attention(features=12, heads=3, inner=6)
    params = module.init(jax.random.key(0), *(jnp.zeros((2, 12)),) * 3)
    return params, jax.jit(module.apply)


@fast
@given(mask=masks, seed=st.integers(0, 99))
def test_absent_keys_might_as_well_not_be_there(attention: tuple, mask: list[bool], seed: int) -> None:
    params, apply = attention
    valid, q, kv = np.array(mask), normal(seed, 5, 12), normal(seed + 1, len(mask), 12)
    got = apply(params, q, kv, kv, valid)
    np.testing.assert_allclose(got, apply(params, q, kv[valid], kv[valid]), atol=1e-5)
    other = np.where(valid[:, None], kv, normal(seed + 2, *kv.shape))
    np.testing.assert_array_equal(got, apply(params, q, other, other, valid))


@fast
@given(mask=masks, count=shapes((1, 5, 12), st.integers(1, 12)), seed=st.integers(0, 99))
def test_is_multi_head_attention(attention: tuple, mask: list[bool], count: int, seed: int) -> None:
    """However many queries: fewer than keys, as many, more."""
    params, apply = attention
    params = jax.tree.map(lambda x: normal(seed, *x.shape), params)
    q, k, v = normal(seed, count, 12), normal(seed + 1, len(mask), 12), normal(seed + 2, len(mask), 12)

    def heads(x: np.ndarray, name: str) -> np.ndarray:
        linear = params["params"][name]
        return (x @ linear["kernel"] + linear["bias"]).astype(float).reshape(len(x), 3, 2).swapaxes(0, 1)

    scores = heads(q, "q_proj") @ heads(k, "k_proj").swapaxes(1, 2) / np.sqrt(2)
    weights = np.exp(scores - scores.max(-1, keepdims=True)) * np.array(mask)
    mixed = weights / weights.sum(-1, keepdims=True) @ heads(v, "v_proj")
    out = params["params"]["out_proj"]
    expected = mixed.swapaxes(0, 1).reshape(count, 6) @ out["kernel"] + out["bias"]
    np.testing.assert_allclose(apply(params, q, k, v, np.array(mask)), expected, atol=1e-4)


@fast
@given(mask=masks, seed=st.integers(0, 99))
def test_keys_have_no_order(attention: tuple, mask: list[bool], seed: int) -> None:
    params, apply = attention
    valid, q, k, v = np.array(mask), normal(seed, 5, 12), normal(1, len(mask), 12), normal(2, len(mask), 12)
    order = np.random.default_rng(seed).permutation(len(mask))
    np.testing.assert_allclose(
        apply(params, q, k, v, valid), apply(params, q, k[order], v[order], valid[order]), atol=1e-5
    )


def memory(seed: int, valid_frames: np.ndarray, valid_pointers: np.ndarray) -> Memory:
    frames = len(valid_frames)
    return Memory(
        frames=normal(seed, frames, SMALL.perceiver.tokens, SMALL.memory_dim),
        rows=np.random.default_rng(seed).integers(0, SMALL.memory_frames, frames).astype(np.int32),
        frames_valid=valid_frames,
        pointers=normal(seed + 1, len(valid_pointers), SMALL.hidden_dim),
        pointers_valid=valid_pointers,
    )


@pytest.fixture(scope="module")
def attend() -> tuple:
    module = MemoryAttention(SMALL)
    queries = FrameQueries(*jnp.asarray(normal(0, 2, SMALL.embedding_size**2, SMALL.hidden_dim)))
    temporal = jnp.asarray(normal(1, SMALL.memory_frames, SMALL.memory_dim))
    start = memory(2, np.ones(4, bool), np.ones(3, bool))
    embedding = jnp.zeros((SMALL.embedding_size, SMALL.embedding_size, SMALL.hidden_dim))
    init = functools.partial(module.init, method=lambda m, x, *rest: m(m.self_attend(x), *rest))
    params = jax.jit(init)(jax.random.key(0), embedding, start, temporal)
    return jax.jit(lambda memory: module.apply(params, queries, memory, temporal)), start


@examples(8)
@given(
    frames=st.lists(st.booleans(), min_size=4, max_size=4).filter(any),
    pointers=st.lists(st.booleans(), min_size=3, max_size=3),
    garbage=wild | st.just(float("nan")),
)
def test_empty_slots_change_nothing(attend: tuple, frames: list[bool], pointers: list[bool], garbage: float) -> None:
    apply, _ = attend
    clean = memory(3, np.array(frames), np.array(pointers))
    dirty = clean._replace(
        frames=np.where(clean.frames_valid[:, None, None], clean.frames, np.float32(garbage)),
        rows=np.where(clean.frames_valid, clean.rows, 0),
        pointers=np.where(clean.pointers_valid[:, None], clean.pointers, np.float32(garbage)),
    )
    np.testing.assert_array_equal(apply(clean), apply(dirty))


def test_the_order_of_slots_changes_nothing(attend: tuple) -> None:
    apply, start = attend
    frames, pointers = np.array([2, 0, 3, 1]), np.array([1, 2, 0])
    turned = start._replace(frames=start.frames[frames], rows=start.rows[frames], pointers=start.pointers[pointers])
    np.testing.assert_allclose(apply(turned), apply(start), atol=1e-5)
    assert np.abs(np.asarray(apply(start._replace(rows=start.rows[frames])) - apply(start))).max() > 1e-3


def test_valid_slots_matter(attend: tuple) -> None:
    apply, start = attend
    for change in (
        start._replace(frames=start.frames + np.eye(4, dtype=np.float32)[3][:, None, None]),
        start._replace(pointers=start.pointers + np.eye(3, dtype=np.float32)[2][:, None]),
        start._replace(frames_valid=np.array([True, True, True, False])),
        start._replace(pointers_valid=np.array([True, True, False])),
    ):
        assert np.abs(np.asarray(apply(change) - apply(start))).max() > 1e-3
