"""The published images of a generation in Milvus, as one view sees them, and those that meet a condition."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.errors import UsageError
from storage.index.milvus import filters
from storage.tables import SCORE_SCALE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from storage.index.condition import Condition
    from storage.index.evaluate import Terms
    from storage.index.milvus.client import Milvus

MOST_READ = 50_000
"""Limit of rows whose scores are read to sort by several tags or to count all tags. Takes a second or two."""

_SAMPLED_RANGES = 16

_SLICE = 10_000  # ids; at most what one answer of Milvus can hold


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection without the images that are newer in PostgreSQL or erased.

    Attributes:
        milvus: the connection.
        name: its name.
        assigned_units: (T,) the vocabulary's own thresholds, in score units.
        dead: ids of the images to ignore here, ascending.
    """

    milvus: Milvus
    name: str
    assigned_units: NDArray[np.int32]
    dead: NDArray[np.int64]

    def without(self, image_ids: NDArray[np.int64]) -> Collection:
        """Return the collection without these images."""
        return replace(self, dead=np.union1d(self.dead, image_ids))

    def select(self, condition: Condition | None) -> CollectionSelection:
        """Return the images that meet a condition (None: all)."""
        meets = filters.EVERYTHING if condition is None else filters.filter_of(condition, self.assigned_units)
        return CollectionSelection(self, filters.both(meets, filters.none_of(self.dead.tolist())))

    def count_of(self, image_ids: NDArray[np.int64]) -> int:
        """Return how many of these images the collection has, ignored ones included."""
        slices = (image_ids[start : start + _SLICE].tolist() for start in range(0, len(image_ids), _SLICE))
        return sum(self.milvus.count(self.name, filters.one_of(some)) for some in slices)

    def sample(self, count: int) -> NDArray[np.float32]:
        """Return about ``count`` vectors (S, D), spread over the collection."""
        everything = self.select(None)
        newest = [row["pk"] for row in everything.rows((), limit=1)]
        if not newest:
            return np.empty((0, 0), dtype=np.float32)
        each = -(-count // _SAMPLED_RANGES)
        starts = np.linspace(newest[0], 0, _SAMPLED_RANGES, endpoint=False).astype(np.int64).tolist()
        found: dict[int, list[float]] = {}
        for start in starts:
            found |= {row["pk"]: row["vector"] for row in everything.rows(("vector",), f"pk >= {start}", limit=each)}
        return np.array([found[pk] for pk in sorted(found)][:count], dtype=np.float32)


@dataclass(frozen=True)
class CollectionSelection:
    """Images of a collection.

    Unlike mapped columns, a collection changes under its readers: images deleted while a selection is read are missing
    in it.
    """

    rows_of: Collection
    filter: str

    def __len__(self) -> int:
        return self._count

    def __contains__(self, image_id: int) -> bool:
        return self.count(filters.one_of([image_id])) > 0

    def ids(self) -> NDArray[np.int64]:
        """Return the ids of all images, ascending. Requests grow with their number, not with the collection's."""
        return np.fromiter((-row["pk"] for row in self.rows(())), dtype=np.int64)[::-1]

    def among(self, image_ids: list[int]) -> CollectionSelection:
        """Return the images that are also in ``image_ids``."""
        return CollectionSelection(self.rows_of, filters.both(self.filter, filters.one_of(image_ids)))

    def without(self, image_ids: list[int]) -> CollectionSelection:
        """Return the images that are not in ``image_ids``."""
        return CollectionSelection(self.rows_of, filters.both(self.filter, filters.none_of(image_ids)))

    @cached_property
    def _count(self) -> int:
        return self.count()

    def count(self, more: str = filters.EVERYTHING) -> int:
        """Return how many of the images meet a further filter."""
        return self.rows_of.milvus.count(self.rows_of.name, filters.both(self.filter, more))

    def rows(
        self, fields: Iterable[str], more: str = filters.EVERYTHING, limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield ``pk`` and fields of the images that meet a further filter, newest image first."""
        return self.rows_of.milvus.rows(self.rows_of.name, filters.both(self.filter, more), list(fields), limit)

    def count_tags(self, units: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return for each tag how many of the images have it with a score above its ``units`` (T,), as (T,).

        Raises:
            UsageError: there are too many images.
        """
        self._require_few("to count their tags")
        counts = np.zeros(len(units), dtype=np.int64)
        for row in self.rows(("scores",)):
            above = [int(tag) for tag, score in row["scores"].items() if score > units[int(tag)]]
            counts[above] += 1
        return counts

    def best_by_tags(
        self, terms: Terms, k: int, after: tuple[int, int] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return up to ``k`` (image ids, score sums), best first, equal ones newest first; see ``evaluate``.

        Raises:
            UsageError: there are too many images to sort them by several terms.
        """
        if not terms:
            older = filters.EVERYTHING if after is None else f"pk > {-after[1]}"
            ids = [-row["pk"] for row in self.rows((), older, limit=k)]
            return np.array(ids, dtype=np.int64), np.zeros(len(ids), dtype=np.int64)
        if len(terms) == 1:
            best = self._best_by_term(terms, k, after)
        else:
            self._require_few("to sort by several tags")
            best = list(self._sums(terms))
            if after is not None:
                best = [(total, image_id) for total, image_id in best if (total, image_id) < after]
        best = sorted(best, reverse=True)[:k]
        ids_and_sums = np.array([(image_id, total) for total, image_id in best], dtype=np.int64).reshape(-1, 2)
        return ids_and_sums[:, 0], ids_and_sums[:, 1]

    def _best_by_term(self, terms: Terms, k: int, after: tuple[int, int] | None) -> list[tuple[int, int]]:
        """Return the ``k`` best by one term, in any order. Few rows are read, however many images there are.

        The k-th best score is found by counting. All images above that score are read, and the newest ones at it.
        """
        (term,) = terms
        rest = filters.EVERYTHING
        if after is not None:
            total, image_id = after
            is_older = filters.both(filters.best_below(term, total + 1), f"pk > {-image_id}")
            rest = f"({filters.best_below(term, total)} or {is_older})"
        low, high = 0, SCORE_SCALE + 1  # at least k images (or all) reach low, fewer reach high
        while high - low > 1:
            middle = (low + high) // 2
            if self.count(filters.both(rest, filters.best_at_least(term, middle))) >= k:
                low = middle
            else:
                high = middle
        best = list(self._sums(terms, filters.both(rest, filters.best_at_least(term, low + 1))))
        level = filters.both(rest, filters.best_at_least(term, low), filters.best_below(term, low + 1))
        return best + [(low, -row["pk"]) for row in self.rows((), level, limit=k - len(best))]

    def nearest(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return up to ``k`` (image ids, cosine similarities with ``query`` (D,)), best first."""
        return self.rows_of.milvus.nearest(self.rows_of.name, self.filter, query, k)

    def cosines(self, query: NDArray[np.float32], image_ids: Iterable[int]) -> dict[int, float]:
        """Return the cosine similarity with ``query`` (D,) of those of these images that are in the selection."""
        chosen = self.rows_of.select(None).rows(("vector",), filters.one_of(list(image_ids)))
        return {-row["pk"]: float(np.asarray(row["vector"], dtype=np.float32) @ query) for row in chosen}

    def by_id(self, terms: Terms) -> Iterator[tuple[int, int]]:
        """Yield every (image id, score sum), ids ascending, in bounded memory."""
        newest = next((row["pk"] for row in self.rows((), limit=1)), 0)
        # Rows come only in descending order of id. Therefore the range of ids is read in slices, oldest first.
        for end in range(0, newest - 1, -_SLICE):
            found = self._sums(terms, f"pk <= {end} and pk > {end - _SLICE}")
            yield from sorted((image_id, total) for total, image_id in found)

    def _sums(self, terms: Terms, more: str = filters.EVERYTHING) -> Iterator[tuple[int, int]]:
        """Yield (score sum, image id), see ``evaluate.score_sums``."""
        named = [[str(tag_id) for tag_id in term] for term in terms]
        for row in self.rows(("scores",) if named else (), more):
            best = (max(row["scores"].get(tag, 0) for tag in term) for term in named)
            yield sum(min(units, SCORE_SCALE) for units in best), -row["pk"]  # tags added by people are stored above it

    def _require_few(self, purpose: str) -> None:
        if len(self) > MOST_READ:
            raise UsageError(
                f"{len(self):,} images are too many {purpose} with an index in Milvus (limit {MOST_READ:,}): "
                "add a tag or a filter"
            )
