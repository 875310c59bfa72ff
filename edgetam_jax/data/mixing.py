"""Batches of which some examples are synthetic and the others from datasets."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from edgetam_jax.data.example import Example
from edgetam_jax.data.pipeline import Batches
from edgetam_jax.data.synthetic.batches import SyntheticBatches
from edgetam_jax.errors import CheckpointError


class MixedBatches:
    """An endless iterator like `Batches`, over one host's part of every batch.

    After n batches, the largest whole number of examples below n * size * share came from datasets. A batch therefore
    has one of two numbers of synthetic examples, for each of which their program is compiled once.
    """

    def __init__(self, synthetic: SyntheticBatches, data: Batches, size: int, share: float) -> None:
        """Mixes two sources.

        Args:
            synthetic: At least `size` examples a batch, of which the first ones are used.
            data: A batch has one example.
            size: Examples of a batch.
            share: The share of the examples that come from `data`, 0 to 1.
        """
        self._synthetic, self._data, self._size, self._share, self._taken = synthetic, data, size, share, 0

    def __next__(self) -> Example:
        count = self._read_until(self._taken + 1) - self._read_until(self._taken)
        parts: list[Example] = [next(self._data) for _ in range(count)]
        if count < self._size:
            parts.insert(0, self._synthetic.take(self._taken, self._size - count))
        self._taken += 1
        fields: Any = (jnp.concatenate(list(map(jnp.asarray, field))) for field in zip(*parts, strict=True))
        return Example(*fields)

    def get_state(self) -> dict[str, Any]:
        """The state after the batches that were taken."""
        data = {name: value for name, value in self._data.get_state().items() if name != "batches"}
        return self._synthetic.get_state() | {"batches": self._taken, "data": data, "share": self._share}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues after the batch at which a state was taken.

        Raises:
            CheckpointError: The state is of another bank, other data or other weights.
        """
        if state.get("share") != self._share:
            raise CheckpointError(
                f"the share of examples from datasets is {self._share}, and that of the run was {state.get('share')}. "
                "Continue with the weights of that run, or start a new one."
            )
        self._synthetic.set_state(state)
        self._data.set_state({**state["data"], "batches": self._read_until(state["batches"])})
        self._taken = state["batches"]

    def close(self) -> None:
        """Stops the threads that read datasets."""
        self._data.close()

    def _read_until(self, batches: int) -> int:
        """The examples that come from datasets in so many batches."""
        return int(np.floor(batches * self._size * self._share))
