"""Scaled dot-product attention with a key mask, and the multi-head module of the two-way transformer."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from edgetam_jax.nn.layers import Linear, einsum, matmul

ABSENT = -1e30  # finite, so that a row without any key gives no NaN; exp(ABSENT - max) is exactly 0


def softmax(scores: Array, mask: Array | None = None) -> Array:
    """Softmax over the last axis; where `mask` is False the weight is exactly 0 and the score is never seen."""
    if mask is not None:
        scores = jnp.where(mask, scores, ABSENT)
    return nn.softmax(scores, -1)


def scores_of(q: Array, k: Array) -> Array:
    """How well queries [..., N, C] match keys [..., K, C]: [..., N, K], in float32.

    Written as `q @ k.mT`, it would make XLA on CPU turn bfloat16 factors into float32, and take twice as long.
    """
    return einsum("...nc,...kc->...nk", q, k)


class Attention(nn.Module):
    """Multi-head attention of queries [..., Q, C] to keys and values [..., K, C], inside `inner` channels.

    Where one side is an image and the other a few tokens, only the tokens are projected: what would project the image
    is applied to them. That is as exact, half the work, and a few wide products in place of narrow ones for each head.
    The keys' bias is not used: it adds the same to all scores of a query, and softmax does not see that.
    """

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
        return self._many_queries(q, k, v, mask) if q.shape[-2] > k.shape[-2] else self._few_queries(q, k, v, mask)

    def _few_queries(self, q: Array, k: Array, v: Array, mask: Array | None) -> Array:
        """Keys and values as they are."""
        *lead, count, _ = q.shape
        q = self._heads(self.q_proj(q) * self._scale)
        wanted = einsum("...qhd,chd->...hqc", q, self._heads(self.k_proj.kernel)).astype(k.dtype)
        scores = scores_of(wanted.reshape(*lead, -1, self.features), k)  # [..., heads * Q, K]
        weights = softmax(scores, None if mask is None else mask[..., None, :])
        found = matmul(weights.astype(v.dtype), v).reshape(*lead, self.heads, count, self.features)
        found = einsum("...hqc,chd->...qhd", found, self._heads(self.v_proj.kernel)).astype(v.dtype)
        return self.out_proj(found.reshape(*lead, count, self.inner) + self.v_proj.bias)

    def _many_queries(self, q: Array, k: Array, v: Array, mask: Array | None) -> Array:
        """Queries as they are, and values that are what they add to the output."""
        *lead, count, _ = k.shape
        k, v = self._heads(matmul(k, self.k_proj.kernel) * self._scale), self._heads(self.v_proj(v))
        wanted = einsum("...khd,chd->...hkc", k, self._heads(self.q_proj.kernel)).astype(q.dtype)
        scores = scores_of(q, wanted.reshape(*lead, -1, self.features)).reshape(*q.shape[:-1], self.heads, count)
        scores = scores + einsum("...khd,hd->...hk", k, self._heads(self.q_proj.bias))[..., None, :, :]
        weights = softmax(scores, None if mask is None else mask[..., None, None, :])  # [..., Q, heads, K]
        out = self.out_proj.kernel.reshape(self.heads, -1, self.features)
        given = einsum("...khd,hdc->...hkc", v, out).astype(v.dtype).reshape(*lead, -1, self.features)
        return matmul(weights.reshape(*q.shape[:-1], -1).astype(v.dtype), given) + self.out_proj.bias

    @property
    def _scale(self) -> float:
        return (self.inner // self.heads) ** -0.5

    def _heads(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.heads, self.inner // self.heads)
