"""Where the arrays of a run lie: batches divided over all devices, parameters on each of them, or divided as well."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"  # of the mesh


def make_mesh() -> Mesh:
    """One axis over the devices of all processes."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def shard_batch(mesh: Mesh, tree: Any) -> Any:
    """What this process has of a batch [B, ...] as its part of the whole."""
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def shardings(mesh: Mesh, tree: Any, divided: bool) -> Any:
    """Of packed parameters and of all that has their shapes."""

    def one(x: Any) -> NamedSharding:
        if divided and x.ndim and len(x) % mesh.size == 0:
            return NamedSharding(mesh, PartitionSpec(AXIS))
        return replicated(mesh)

    return jax.tree.map(one, tree)
