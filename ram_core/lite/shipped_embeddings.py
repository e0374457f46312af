"""Embeddings that are part of the package: of the names and definitions of the tags of ``lite``.

Computing them takes twenty seconds on two cores. The first job in a new data folder would wait for all of it, the first
text search for a part. ``python -m ram_core.lite.ship_embeddings`` writes the file, and a test compares it with the
encoder's output.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ram_core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PATH = Path(__file__).with_name("shipped_embeddings.npz")


def shipped_embeddings(encoder_sha256: str, texts: Sequence[str]) -> NDArray[np.float32] | None:
    """Return (len(texts), D) unit vectors, or None if the package does not have all of them from this encoder.

    Raises:
        CheckpointError: the package's file is missing or damaged.
    """
    table = _table(encoder_sha256)
    if table is None:
        return None
    rows, vectors = table
    found = [rows.get(digest_of(text)) for text in texts]
    if None in found:
        return None
    return vectors[np.array(found, dtype=np.int64)]


@functools.cache
def _table(encoder_sha256: str) -> tuple[dict[bytes, int], NDArray[np.float32]] | None:
    """Return the row of each text by its digest, and the rows; None, without reading them, for another encoder."""
    try:
        with np.load(PATH, allow_pickle=False) as kept:
            if kept["encoder"].tobytes().hex() != encoder_sha256:
                return None
            return {digest.tobytes(): i for i, digest in enumerate(kept["digests"])}, kept["vectors"]
    except Exception as error:  # numpy and zipfile raise many kinds of errors for a damaged file
        raise CheckpointError(f"{PATH} is missing or damaged ({type(error).__name__}); install ramq again") from error


def digest_of(text: str) -> bytes:
    """Return the key of a text in the table."""
    return hashlib.sha256(text.encode()).digest()[:16]
