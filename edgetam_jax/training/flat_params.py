"""Parameters as a few long vectors, while they are trained.

A network has hundreds of arrays, and XLA compiles what an optimizer does to each of them anew: with as many vectors as
there are ways to move, compiling a step takes half the time.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from edgetam_jax.model import Params

MULTIPLE = 1024  # of a vector's length, so that devices divide it evenly

Packed = Mapping[str, Array]  # vectors by the names of their groups


@dataclasses.dataclass(frozen=True)
class Packing:
    shapes: Mapping[tuple[str, ...], tuple[int, ...]]  # by path
    groups: Mapping[str, tuple[tuple[str, ...], ...]]  # the paths in each vector, in their order

    def pack(self, tree: Params) -> Packed:
        flat: dict[Any, Any] = flatten_dict(tree)
        packed = {}
        for name, paths in self.groups.items():
            vector = jnp.concatenate([jnp.ravel(flat[path]) for path in paths])
            packed[name] = jnp.pad(vector, (0, -len(vector) % MULTIPLE))
        return packed

    def unpack(self, packed: Packed) -> Params:
        flat = {}
        for name, paths in self.groups.items():
            sizes = [math.prod(self.shapes[path]) for path in paths]
            starts = itertools.accumulate(sizes, initial=0)
            for path, start, size in zip(paths, starts, sizes, strict=False):
                flat[path] = packed[name][start : start + size].reshape(self.shapes[path])
        return unflatten_dict(flat)


def make_packing(params: Params, group_of: Mapping[tuple[str, ...], str]) -> Packing:
    """Of parameters, or their shapes, and the group of each path."""
    flat: dict[Any, Any] = flatten_dict(params)
    groups: dict[str, list[tuple[str, ...]]] = {}
    for path in sorted(flat):
        groups.setdefault(group_of[path], []).append(path)
    return Packing({path: x.shape for path, x in flat.items()}, {name: tuple(groups[name]) for name in sorted(groups)})
