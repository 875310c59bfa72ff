"""Where the arrays of a run lie: batches divided over all devices, parameters on each of them, or divided as well."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

SMALL = 1 << 14  # numbers; what has fewer is not worth dividing


def make_mesh() -> Mesh:
    """One axis, "data", over the devices of all processes."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def everywhere(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh, tree: Any) -> Any:
    """What this process has of a batch [B, ...] as its part of the whole."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def shardings(mesh: Mesh, tree: Any, divided: bool) -> Any:
    """Of parameters and of all that has their shapes. Divided along their longest axis that the devices divide."""

    def one(x: Any) -> NamedSharding:
        axes = [axis for axis in np.argsort(x.shape)[::-1] if x.shape[axis] % mesh.size == 0]
        if not divided or x.size < SMALL or not axes:
            return everywhere(mesh)
        return NamedSharding(mesh, PartitionSpec(*[None] * int(axes[0]), "data"))

    return jax.tree.map(one, tree)
