"""Where arrays live: batches cut over all devices of all hosts, everything else on each of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float

from jaxsep.batches import Batch

__all__ = ["all_devices", "check_batch_size", "gather", "place", "replicate"]


def all_devices() -> Mesh:
    """All devices of all hosts, along the batch."""
    return Mesh(np.array(jax.devices()), ("batch",))


def check_batch_size(n_excerpts: int, mesh: Mesh, *, accumulate: int) -> None:
    """Refuses a host's part of a batch that its devices cannot share equally, in every part of it.

    Raises:
        ValueError: the devices do not divide it.
    """
    n_devices = mesh.devices.size // jax.process_count() * accumulate
    if n_excerpts % n_devices:
        parts = f" x {accumulate} parts" if accumulate > 1 else ""
        raise ValueError(
            f"batch size: expected a multiple of {n_devices} a host (its devices{parts}), got {n_excerpts}"
        )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """A tree of arrays, equal on all hosts, on every device; always as copies."""
    sharding = NamedSharding(mesh, PartitionSpec())

    def put(leaf: Any) -> jax.Array:
        leaf = np.array(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    # A CPU's device may use NumPy's memory as its own, and a donated state would write to it: hence the copy.
    return _copy(jax.tree.map(put, tree))


@jax.jit
def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


def place(batch: Batch, mesh: Mesh) -> Batch:
    """A host's part of a batch on its devices; stems already moved to where they belong."""
    batch = _moved(batch)
    sharding = NamedSharding(mesh, PartitionSpec("batch"))

    def put(part: Any) -> jax.Array:
        # What was made on a device is not taken to the host and back.
        if isinstance(part, jax.Array) and jax.process_count() == 1:
            return jax.device_put(part, sharding)
        return jax.make_array_from_process_local_data(sharding, part)

    return jax.tree.map(put, batch)


def _moved(batch: Batch) -> Batch:
    """Carry out ``origin`` here: between devices, stems are dear to move."""
    if batch.origin is None:
        return batch
    stems = batch.stems
    if (batch.origin != np.arange(len(stems))[:, None]).any():
        stems = stems[batch.origin, np.arange(stems.shape[1])[None]]
    return batch._replace(stems=stems, origin=None)


def gather(values: Float[np.ndarray, "mine target"], n_all: int) -> Float[np.ndarray, "all target"]:
    """Rows of all hosts, of which host ``i`` has the rows ``i, i + n_hosts, ...``; float64, bit for bit."""
    n_hosts = jax.process_count()
    if n_hosts == 1:
        return values
    padded = np.zeros((-(-n_all // n_hosts), values.shape[1]))
    padded[: len(values)] = values
    # As integers: floats would be rounded to JAX's single precision on the way.
    gathered = multihost_utils.process_allgather(padded.view(np.uint32))
    rows = np.asarray(gathered).view(np.float64)  # (host, row, target)
    return np.swapaxes(rows, 0, 1).reshape(-1, values.shape[1])[:n_all]
