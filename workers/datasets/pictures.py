"""Features of whole pictures: what a generation has kept of them, or their vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import structlog

from storage.database import unit_of_work
from storage.results import features, generations
from storage.results.packing import unpack_vectors
from workers.messages import teaches_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from storage.results.features import Kept
    from workers.datasets.phase import Tools

Kind = Literal["kept", "vector"]

log = structlog.get_logger()


class Pictures:
    """Reads features of pictures.

    Args:
        tools: the database, and the files of kept features.
        generation_id: of recognition.
        kind: ``kept``: those that are kept for heads, such as the pooled ones of ``lite``; ``vector``: the vectors.
    """

    def __init__(self, tools: Tools, generation_id: int, kind: Kind) -> None:
        with unit_of_work(tools.engine) as session:
            generation = generations.get(session, generation_id)
        self._tools = tools
        self._generation_id = generation_id
        self._size = generation.vector_size
        self._of = teaches_from(generation.model)
        self.kind = kind

    def known(self, image_ids: Sequence[int]) -> dict[int, Kept]:
        """Return what is kept of those of these pictures that have features, without reading files."""
        with unit_of_work(self._tools.engine) as session:
            found = features.kept(session, self._generation_id, image_ids)
        return {i: found[i] for i in image_ids if i in found and (self.kind == "vector" or found[i].file is not None)}

    def read(self, image_ids: Sequence[int]) -> tuple[list[int], NDArray[np.float32]]:
        """Return the ids of those pictures that have features, in the same order, and the features, (n, D) float32.

        Pictures whose features are in a damaged file have none. Files may be far away, so no transaction is open while
        they are read.
        """
        from ram_core.teaching.inputs import inputs  # noqa: PLC0415  (torch)

        known = self.known(image_ids)
        ids = list(known)
        if self.kind == "vector":
            if not ids:
                return [], np.empty((0, 0), np.float32)
            return ids, unpack_vectors(b"".join(each.vector for each in known.values()), self._size)
        places = [(each.file or "", each.position or 0) for each in known.values()]
        rows, damaged = self._tools.files.sound_rows(places)
        for error in damaged.values():
            log.warning("features are damaged", error=str(error))
        ids = [image_id for image_id, (name, _) in zip(ids, places, strict=True) if name not in damaged]
        return ids, inputs(rows, self._of, self._size) if ids else np.empty((0, 0), np.float32)
