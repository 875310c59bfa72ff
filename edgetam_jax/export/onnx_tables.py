"""Position tables, which are large but made from little: sums of products of a column and a row for each channel.

As such sums they take little room in a file. onnxruntime computes them once, when it loads the file.
"""

import math

import numpy as np

SMALLEST = 8192  # elements
TERMS = 2  # a sine of a sum is two products; rotations and the sine encoding are one
TOLERANCE = 3e-7  # of the largest value, about the rounding of float32


def as_products(array: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Columns [n, 1, C] and rows [1, n, C] whose products sum up to a table [n * n, C] or [n, n, C], or None."""
    if array.dtype != np.float32 or array.size < SMALLEST or array.ndim not in (2, 3):
        return None
    side = math.isqrt(math.prod(array.shape[:-1]))
    if array.shape[:-1] not in ((side, side), (side * side,)) or side < 2 * TERMS + 1:
        return None
    table = array.reshape(side, side, -1).astype(np.float64)
    if not _has_low_rank(table[..., 0]):  # most weights end here
        return None
    u, s, v = np.linalg.svd(np.moveaxis(table, -1, 0), full_matrices=False)
    terms = TERMS if (s[:, 1] > TOLERANCE * s[:, 0]).any() else 1
    products = [
        ((u[:, :, i] * s[:, i : i + 1]).T[:, None].astype(np.float32), v[:, i].T[None].astype(np.float32))
        for i in range(terms)
    ]
    error = np.abs(sum(column * row for column, row in products) - table).max()
    return products if error <= TOLERANCE * np.abs(table).max() else None


def _has_low_rank(matrix: np.ndarray) -> bool:
    values = np.linalg.svd(matrix, compute_uv=False)
    return bool(values[TERMS] <= 1e-5 * values[0])
