"""Features of whole pictures: what a generation has kept of them, or their vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from ram_core.embeddings import unit
from storage.results import features, generations
from storage.results.packing import unpack_vectors
from workers.messages import teaches_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.feature_files import FeatureFiles
    from storage.results.features import Kept

Kind = Literal["kept", "vector"]


class Pictures:
    """Reads features of pictures.

    Args:
        session: a transaction.
        files: of kept features.
        generation_id: of recognition.
        kind: ``kept``: those that are kept for heads, such as the pooled ones of ``lite``; ``vector``: the vectors.
    """

    def __init__(self, session: Session, files: FeatureFiles, generation_id: int, kind: Kind) -> None:
        generation = generations.get(session, generation_id)
        self._files = files
        self._generation_id = generation_id
        self._size = generation.vector_size
        self._of = teaches_from(generation.model)
        self.kind = kind

    def read(self, session: Session, image_ids: Sequence[int]) -> tuple[list[int], NDArray[np.float32]]:
        """Return the ids of those pictures that have features, in the same order, and the features, (n, D) float32."""
        known = features.kept(session, self._generation_id, image_ids)
        ids = [i for i in image_ids if i in known and (self.kind == "vector" or known[i].file is not None)]
        if not ids:
            return [], np.empty((0, 0), np.float32)
        chosen = [known[image_id] for image_id in ids]
        if self.kind == "vector":
            return ids, unpack_vectors(b"".join(each.vector for each in chosen), self._size)
        return ids, self._unpacked([self._row(each) for each in chosen])

    def _row(self, kept: Kept) -> NDArray[np.uint8]:
        assert kept.file is not None
        assert kept.position is not None
        return self._files.row(kept.file, kept.position)

    def _unpacked(self, rows: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        from ram_core.features import unpack_pooled, unpack_tokens  # noqa: PLC0415  (torch)
        from ram_core.lite.network import SIZES  # noqa: PLC0415

        packed = np.stack(rows)
        if self._of == "pooled":
            parts = unpack_pooled(packed, SIZES)
        else:
            tokens = unpack_tokens(packed, self._size).numpy()
            parts = [tokens[:, 0], tokens[:, 1:].mean(axis=1)]
        return np.concatenate([unit(part) for part in parts], axis=1).astype(np.float32)
