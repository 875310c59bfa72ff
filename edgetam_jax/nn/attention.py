"""Scaled dot-product attention with a key mask, and the multi-head module of the two-way transformer."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from edgetam_jax.nn.layers import Linear, einsum

ABSENT = -1e30  # finite, so that a row without any key gives no NaN; exp(ABSENT - max) is exactly 0


def softmax(scores: Array, mask: Array | None = None) -> Array:
    """Softmax over the last axis; where `mask` is False the weight is exactly 0 and the score is never seen."""
    if mask is not None:
        scores = jnp.where(mask, scores, ABSENT)
    return nn.softmax(scores, -1)


def scores_of(q: Array, k: Array) -> Array:
    """How well queries [..., N, C] match keys [..., K, C]: [..., N, K], in float32."""
    return jnp.matmul(q, k.mT, preferred_element_type=jnp.float32)


class Attention(nn.Module):
    """Multi-head attention of queries [..., N, C] to keys and values [..., K, C], inside `inner` channels."""

    features: int
    heads: int
    inner: int

    def setup(self) -> None:
        self.q_proj = Linear(self.features, self.inner)
        self.k_proj = Linear(self.features, self.inner)
        self.v_proj = Linear(self.features, self.inner)
        self.out_proj = Linear(self.inner, self.features)

    def __call__(self, q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
        """`mask` [..., K] marks the keys that exist."""
        q, k, v = self._heads(self.q_proj(q)), self._heads(self.k_proj(k)), self._heads(self.v_proj(v))
        scores = einsum("...qhd,...khd->...hqk", q * q.shape[-1] ** -0.5, k)
        weights = softmax(scores, None if mask is None else mask[..., None, None, :]).astype(v.dtype)
        out = einsum("...hqk,...khd->...qhd", weights, v).astype(v.dtype)
        return self.out_proj(out.reshape(*out.shape[:-2], self.inner))

    def _heads(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.heads, self.inner // self.heads)
