"""Scaled dot-product attention with a key mask, and the multi-head module of the two-way transformer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Bool, Float, Float32

from edgetam_jax.nn.kernels import einsum, matmul
from edgetam_jax.nn.layers import Linear

MASKED_SCORE = -1e30  # finite, so that a row without any key gives no NaN; exp(MASKED_SCORE - max) is exactly 0


def softmax(scores: Float[Array, "*b k"], mask: Bool[Array, "..."] | None = None) -> Float[Array, "*b k"]:
    """Softmax over the last axis. Where `mask` [..., K] is False, the weight is exactly 0, whatever the score is."""
    if mask is not None:
        scores = jnp.where(lax.broadcast_to_rank(mask, scores.ndim), scores, MASKED_SCORE)
    return _softmax(scores)


_softmax = jax.jit(nn.softmax)  # one function of the program for each shape


def dot_product_scores(q: Float[Array, "... q c"], k: Float[Array, "... k c"]) -> Float32[Array, "... q k"]:
    """The dot products of queries and keys, in float32.

    Written as `q @ k.mT`, XLA on CPU would turn bfloat16 factors into float32, which takes twice as long.
    """
    return einsum("...qc,...kc->...qk", q, k)


class Attention(nn.Module):
    """Multi-head attention of queries [..., Q, C] to keys and values [..., K, C], with `inner` channels in all heads.

    One side is an image and the other a few tokens. Only the tokens are projected, and the image's projections are
    multiplied with theirs. This is exact, half the work, and a few wide products in place of narrow ones per head. The
    bias of the keys is not used: it adds the same number to all scores of a query, which does not change the softmax.
    """

    features: int
    heads: int
    inner: int

    def setup(self) -> None:
        self.q_proj = Linear(self.features, self.inner)
        self.k_proj = Linear(self.features, self.inner)
        self.v_proj = Linear(self.features, self.inner)
        self.out_proj = Linear(self.inner, self.features)

    def __call__(
        self,
        q: Float[Array, "*b q c"],
        k: Float[Array, "*b k c"],
        v: Float[Array, "*b k c"],
        mask: Bool[Array, "*b k"] | None = None,
    ) -> Float[Array, "*b q c"]:
        """`mask` is True for the keys that exist."""
        return self._many_queries(q, k, v, mask) if q.shape[-2] > k.shape[-2] else self._few_queries(q, k, v, mask)

    def _few_queries(self, q: Array, k: Array, v: Array, mask: Array | None) -> Array:
        """Attends to the keys and values without projecting them."""
        q = self._split_heads(self.q_proj(q) * self._scale)
        # Queries in the space of the unprojected keys.
        key_queries = einsum("...qhd,chd->...hqc", q, self._split_heads(self.k_proj.kernel)).astype(k.dtype)
        scores = dot_product_scores(rearrange(key_queries, "... h q c -> ... (h q) c"), k)
        weights = softmax(scores, None if mask is None else mask[..., None, :])
        mixed = rearrange(matmul(weights.astype(v.dtype), v), "... (h q) c -> ... h q c", h=self.heads)
        out = einsum("...hqc,chd->...qhd", mixed, self._split_heads(self.v_proj.kernel)).astype(v.dtype)
        out = rearrange(out, "... q h d -> ... q (h d)")
        return self.out_proj(out + lax.broadcast_to_rank(self.v_proj.bias, out.ndim))

    def _many_queries(self, q: Array, k: Array, v: Array, mask: Array | None) -> Array:
        """Attends from the queries without projecting them, to values that are already projected to the output."""
        k = self._split_heads(matmul(k, self.k_proj.kernel) * self._scale)
        v = self._split_heads(self.v_proj(v))
        # Keys in the space of the unprojected queries.
        query_keys = einsum("...khd,chd->...hkc", k, self._split_heads(self.q_proj.kernel)).astype(q.dtype)
        scores = dot_product_scores(q, rearrange(query_keys, "... h k c -> ... (h k) c"))
        bias_scores = einsum("...khd,hd->...hk", k, self._split_heads(self.q_proj.bias))
        scores = rearrange(scores, "... q (h k) -> ... q h k", h=self.heads) + bias_scores[..., None, :, :]
        weights = softmax(scores, None if mask is None else mask[..., None, None, :])
        out_kernel = rearrange(self.out_proj.kernel, "(h d) c -> h d c", h=self.heads)
        values = rearrange(einsum("...khd,hdc->...hkc", v, out_kernel).astype(v.dtype), "... h k c -> ... (h k) c")
        out = matmul(rearrange(weights, "... q h k -> ... q (h k)").astype(v.dtype), values)
        return out + lax.broadcast_to_rank(self.out_proj.bias, out.ndim)

    @property
    def _scale(self) -> float:
        return (self.inner // self.heads) ** -0.5

    def _split_heads(self, x: Float[Array, "*b inner"]) -> Float[Array, "*b h d"]:
        return rearrange(x, "... (h d) -> ... h d", h=self.heads)
