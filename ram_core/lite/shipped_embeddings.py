"""Embeddings that come with the package: of the names and definitions of the classes of ``lite``.

Embedding them takes twenty seconds on two cores: the first job in a new data folder would wait for it, and the first
search by text for a part. ``python -m ram_core.lite.ship_embeddings`` makes the file again, and a test holds it
against what the encoder computes.
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
    """Return (len(texts), D) unit vectors, or None where the package does not have them all from this encoder.

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
    """The row of each text by the text's digest, and the rows; None, and nothing read, for another encoder."""
    try:
        with np.load(PATH, allow_pickle=False) as kept:
            if kept["encoder"].tobytes().hex() != encoder_sha256:
                return None
            return {digest.tobytes(): i for i, digest in enumerate(kept["digests"])}, kept["vectors"]
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise CheckpointError(f"{PATH} is missing or damaged ({type(error).__name__}); install ramq again") from error


def digest_of(text: str) -> bytes:
    """Return what a text is found by."""
    return hashlib.sha256(text.encode()).digest()[:16]
