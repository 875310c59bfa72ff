"""Parameters as a few long vectors while they are trained.

A network has hundreds of arrays, and XLA compiles the optimizer's update of each one separately. With one vector for
each parameter group, a training step compiles in half the time.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from edgetam_jax.model import Params

MULTIPLE = 1024  # the length of each vector is padded to a multiple of this, so that devices divide it evenly

ParamPath = tuple[str, ...]
FlatParams = Mapping[str, Float[Array, "_"]]  # one vector a parameter group, by the group's name


@dataclasses.dataclass(frozen=True)
class FlatLayout:
    """Which parameter is where in which vector."""

    shapes: Mapping[ParamPath, tuple[int, ...]]
    groups: Mapping[str, tuple[ParamPath, ...]]  # the parameters in each vector, in order

    def flatten(self, tree: Params) -> FlatParams:
        """Concatenates the parameters of each group, padded with zeros."""
        leaves: dict[Any, Any] = flatten_dict(tree)
        vectors = {}
        for name, paths in self.groups.items():
            vector = jnp.concatenate([jnp.ravel(leaves[path]) for path in paths])
            vectors[name] = jnp.pad(vector, (0, -len(vector) % MULTIPLE))
        return vectors

    def unflatten(self, vectors: FlatParams) -> Params:
        """The inverse of `flatten`."""
        leaves = {}
        for name, paths in self.groups.items():
            sizes = [math.prod(self.shapes[path]) for path in paths]
            starts = itertools.accumulate(sizes[:-1], initial=0)
            for path, start, size in zip(paths, starts, sizes, strict=True):
                leaves[path] = vectors[name][start : start + size].reshape(self.shapes[path])
        return unflatten_dict(leaves)


def make_layout(params: Params, group_of: Mapping[ParamPath, str]) -> FlatLayout:
    """The layout of parameters, or of their shapes, given the name of each parameter's group."""
    leaves: dict[Any, Any] = flatten_dict(params)
    groups: dict[str, list[ParamPath]] = {}
    for path in sorted(leaves):
        groups.setdefault(group_of[path], []).append(path)
    shapes = {path: x.shape for path, x in leaves.items()}
    return FlatLayout(shapes, {name: tuple(groups[name]) for name in sorted(groups)})
