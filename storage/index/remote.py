"""Interface of published rows outside of segments, as a reader of the index uses it; see ``milvus.collection``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from storage.index.condition import Condition
    from storage.index.evaluate import Terms


class RemoteRows(Protocol):
    """The published rows of a generation, without those that are newer in PostgreSQL or erased."""

    @property
    def name(self) -> str:
        """Name of the rows in the remote system."""

    @property
    def dead(self) -> NDArray[np.int64]:
        """Ids of the images to ignore here, ascending."""

    def without(self, image_ids: NDArray[np.int64]) -> RemoteRows:
        """Return the rows without these images."""

    def select(self, condition: Condition | None) -> RemoteSelection:
        """Return the rows that meet a condition (None: all)."""

    def count_of(self, image_ids: NDArray[np.int64]) -> int:
        """Return how many of these images there are, ignored ones included."""

    def sample(self, count: int) -> NDArray[np.float32]:
        """Return about ``count`` vectors (S, D), spread over all rows."""


class RemoteSelection(Protocol):
    """Selected rows. Terms and scores are those of ``evaluate``."""

    def __len__(self) -> int: ...

    def __contains__(self, image_id: int) -> bool: ...

    def ids(self) -> NDArray[np.int64]:
        """Return the ids of all images, ascending. Takes long if they are many."""

    def among(self, image_ids: list[int]) -> RemoteSelection:
        """Return the images that are also in ``image_ids``."""

    def without(self, image_ids: list[int]) -> RemoteSelection:
        """Return the images that are not in ``image_ids``."""

    def count_tags(self, units: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return for each tag how many images have it with a score above its ``units`` (T,), as (T,)."""

    def best_by_tags(
        self, terms: Terms, k: int, after: tuple[int, int] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return up to ``k`` (image ids, score sums), best first, equal ones newest first."""

    def nearest(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return up to ``k`` (image ids, cosine similarities with ``query`` (D,)), best first."""

    def cosines(self, query: NDArray[np.float32], image_ids: Iterable[int]) -> dict[int, float]:
        """Return the cosine similarity with ``query`` (D,) of those of these images that are in the selection."""

    def by_id(self, terms: Terms) -> Iterator[tuple[int, int]]:
        """Yield every (image id, score sum), ids ascending."""
