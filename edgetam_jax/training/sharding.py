"""How the arrays of a run are distributed: batches over all devices, parameters replicated or sharded as well."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"  # the only axis of the mesh


def make_mesh() -> Mesh:
    """A mesh of one axis, over the devices of all processes."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array of which every device has a full copy."""
    return NamedSharding(mesh, PartitionSpec())


def shard_batch(mesh: Mesh, tree: Any) -> Any:
    """Shards the leading axis of a batch [B, ...]. Each process passes its own part."""
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def flat_shardings(mesh: Mesh, tree: Any, sharded: bool) -> Any:
    """The sharding of each array in a tree of flat parameters, optimizer state and scalars.

    With `sharded`, each vector whose length is a multiple of the number of devices is divided over them.
    """

    def one(x: Any) -> NamedSharding:
        if sharded and x.ndim and len(x) % mesh.size == 0:
            return NamedSharding(mesh, PartitionSpec(AXIS))
        return replicated(mesh)

    return jax.tree.map(one, tree)
