"""Embeddings of texts that do not change, such as names of tags. They are computed once per machine."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ram_core.recognition import ShipsEmbeddings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ram_core.recognition import TextEncoder

_log = logging.getLogger(__name__)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N, D) rows scaled to unit length."""
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def cached_embeddings(
    encoder: TextEncoder, texts: Sequence[str], cache_dir: Path | str | None = None
) -> NDArray[np.float32]:
    """Embed texts once per machine: cached in a file named by the hash of encoder and texts, unless ramq ships them.

    Args:
        encoder: the encoder.
        texts: N texts.
        cache_dir: folder of the file; default: ``~/.cache/ramq``.

    Returns:
        (N, D) float32, each row of unit length.
    """
    if isinstance(encoder, ShipsEmbeddings) and (shipped := encoder.shipped(texts)) is not None:
        return shipped
    digest = hashlib.sha256(encoder.sha256.encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    folder = Path(cache_dir) if cache_dir is not None else Path.home() / ".cache" / "ramq"
    path = folder / f"embeddings-{digest.hexdigest()[:32]}.npy"
    shape = (len(texts), encoder.vector_size)
    if (kept := _read_embeddings(path, shape)) is not None:
        return kept
    embeddings = encoder.encode(texts)
    try:
        _write_atomically(path, embeddings)
    except OSError as error:
        _log.warning("embeddings could not be kept, the next start computes them again: %s", error)
    return embeddings


def _read_embeddings(path: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """Return the content of the file, or None if it is missing or damaged."""
    try:
        kept: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, EOFError) as error:
        _log.warning("%s is damaged and is computed again: %s", path, error)
        return None
    if kept.shape != shape or kept.dtype != np.float32 or not np.allclose(np.linalg.norm(kept, axis=1), 1, atol=1e-3):
        _log.warning("%s does not contain unit vectors of shape %s and is computed again", path, shape)
        return None
    return kept


def _write_atomically(path: Path, array: NDArray[np.float32]) -> None:
    """Write a file atomically: readers and other writers see the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".embeddings-")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.save(stream, array, allow_pickle=False)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
