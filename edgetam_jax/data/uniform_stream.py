"""Uniform random numbers for compiled functions that need many of them."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import erfinv
from numpy.typing import ArrayLike


class UniformStream:
    """Returns parts of N uniform numbers drawn at once, because XLA takes long to compile each call of `jax.random`."""

    def __init__(self, numbers: Array) -> None:
        self._numbers, self._used = numbers, 0

    def __call__(self, *shape: int, low: ArrayLike = 0.0, high: ArrayLike = 1.0) -> Array:
        """The next numbers, uniform between `low` and `high`: [*shape]."""
        count = int(np.prod(shape))
        first, self._used = self._used, self._used + count
        if self._used > self._numbers.size:
            raise ValueError(f"{self._used} numbers are needed, {self._numbers.size} were drawn; draw more.")
        low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        return self._numbers[first : self._used].reshape(shape) * (high - low) + low

    def normal(self, *shape: int) -> Array:
        """Normal numbers of mean 0 and standard deviation 1: [*shape]."""
        above = np.nextafter(np.float32(-1), np.float32(0))  # the inverse of -1 is not finite
        return erfinv(self(*shape, low=above)) * np.float32(np.sqrt(2))

    def integer(self, low: ArrayLike, high: ArrayLike) -> Array:
        """An integer from `low` to `high`, both included: [] int32."""
        return to_int(self(), low, high)

    def choice(self, options: Sequence[int], weights: Sequence[float] | None = None) -> Array:
        """One of the options: [] int32."""
        probabilities = np.ones(len(options)) if weights is None else np.asarray(weights)
        edges = np.cumsum(probabilities / probabilities.sum())[:-1]
        return jnp.asarray(np.asarray(options, np.int32))[(self() >= edges.astype(np.float32)).sum()]

    def bernoulli(self, p: float) -> Array:
        """True with probability `p`: [] bool."""
        return self() < p


def to_int(number: Array, low: ArrayLike, high: ArrayLike) -> Array:
    """Maps a number in 0..1 to an integer from `low` to `high`, both included."""
    low, high = jnp.asarray(low), jnp.asarray(high)
    return jnp.minimum(low + (number * (high - low + 1)).astype(jnp.int32), high)  # the product may round up
