"""Vectors as the database stores them: little-endian float16, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODE = np.dtype("<f2")
"""Storage format of one number of a vector."""

UNIT_TOLERANCE = 2e-3
"""Tolerance of a unit vector's length: float16 has 11 significant bits, and sums of float32 lose less."""


def pack_vectors(vectors: NDArray[np.float32]) -> list[bytes]:
    """Return each row of ``vectors`` (N, D) as ``2 * D`` bytes.

    Raises:
        ValueError: not a matrix, or a row is not finite or not of length 1 within ``UNIT_TOLERANCE``. Such a row would
            displace true neighbours in every search and never be found itself.
    """
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ValueError(f"vectors must be (N, D) with D > 0, not {vectors.shape}")
    require_unit_length(vectors)
    codes = np.ascontiguousarray(vectors, dtype=CODE)
    return [row.tobytes() for row in codes]


def require_unit_length(vectors: NDArray[np.float32]) -> None:
    """Raise ``ValueError`` that names the first row of ``vectors`` (N, D) that is not a unit vector."""
    lengths = np.linalg.norm(vectors.astype(np.float64, copy=False), axis=1)
    # Written so that NaN fails too, as it compares false with everything.
    wrong = np.flatnonzero(~(np.abs(lengths - 1.0) <= UNIT_TOLERANCE))
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"vector {row} of {len(vectors)} has length {lengths[row]:.6g}, not 1")


def unpack_vectors(joined: bytes | memoryview, vector_size: int) -> NDArray[np.float32]:
    """Return packed vectors, joined end to end, as (N, ``vector_size``) float32.

    Raises:
        ValueError: the bytes are not a whole number of vectors.
    """
    return np.frombuffer(joined, dtype=CODE).reshape(-1, vector_size).astype(np.float32)
