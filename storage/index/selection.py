"""The images of a generation that meet a condition, over all parts of the index, without asking PostgreSQL."""

from __future__ import annotations

import os
from bisect import insort
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from heapq import merge
from itertools import islice, pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from pyroaring import BitMap

from storage.errors import UsageError
from storage.index.bitmaps import bitmap_of, rows_in
from storage.index.by_lists import look_up
from storage.index.condition import OneOf
from storage.index.evaluate import FEW, best_by_tags, count_tag, count_tags, has_bitmaps, matching, score_sums
from storage.results.packing import require_unit_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from storage.index.by_lists import Found
    from storage.index.condition import Condition
    from storage.index.evaluate import Terms
    from storage.index.index import View
    from storage.index.part import Part
    from storage.index.remote import RemoteSelection
    from storage.index.vectors import Vectors

_ROWS_AT_ONCE = 4096

_LARGE = 100_000
"""With this many rows of a part, using another thread pays off. Starting one costs a fraction of a millisecond."""

MOST_LISTED = 50_000
"""The ids of so many remote images are read, to select the same images in another index."""

MOST_TESTED = 16_384
"""Of more remote images, this many rows of the other index, the nearest ones, are tested. Milvus returns no more."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Selection:
    """Images of one view. Immutable, and valid as long as it is held, whatever is published meanwhile.

    Attributes:
        parts: each part with its selected rows; None: all live rows.
        is_narrowed: whether a condition selected them.
        remote: the selected images outside of segments; None: there are none.
        is_cut: whether further images match that are less near to a vector; see ``of_images``.
    """

    parts: tuple[tuple[Part, BitMap | None], ...]
    is_narrowed: bool
    remote: RemoteSelection | None = None
    is_cut: bool = False

    @classmethod
    def of(cls, view: View, condition: Condition | None) -> Selection:
        """Return the images that meet ``condition`` (None: all)."""
        remote = None if view.remote is None else view.remote.select(condition)
        parts = tuple((part, part.live) for part in view.parts)
        if condition is None:
            return cls(parts, is_narrowed=False, remote=remote)

        def chosen(part: Part, live: BitMap | None) -> tuple[Part, BitMap]:
            found = matching(part.rows, condition)
            return part, found if live is None else found & live

        return cls(tuple(_of_each(parts, chosen)), is_narrowed=True, remote=remote)

    @classmethod
    def of_images(cls, view: View, found: Selection, query: NDArray[np.float32]) -> Selection:
        """Return the rows of a view whose images are in ``found``, a selection of another view.

        If these are remote and more than ``MOST_LISTED``, only the rows among the ``MOST_TESTED`` of the view that are
        nearest to ``query`` (D,) are selected (``is_cut``). Then what is near is exact, and what is far is missing.

        Raises:
            UsageError: none of these nearest rows match.
        """
        if not found.is_narrowed:
            return cls.of(view, None)
        if found.remote is None or len(found) <= MOST_LISTED:
            return cls.of(view, OneOf(found.ids(), view.source.rows_each))
        everything = cls.of(view, None)
        nearest, _ = everything.nearest(query, MOST_TESTED)
        images = nearest // view.source.rows_each
        matching = nearest[np.isin(images, found.among(np.unique(images)).ids())]
        is_cut = len(nearest) < len(everything)
        if is_cut and not len(matching):
            raise UsageError(
                f"{len(found):,} images match, but none of the {MOST_TESTED:,} nearest ones does, and with an index in "
                "Milvus no more are compared: add a tag or a filter"
            )
        return replace(cls.of(view, OneOf(np.sort(matching))), is_cut=is_cut)

    def among(self, image_ids: NDArray[np.int64]) -> Selection:
        """Return the images that are also in ``image_ids``."""
        wanted = np.sort(image_ids)

        def chosen(part: Part, selected: BitMap | None) -> tuple[Part, BitMap]:
            found = bitmap_of(part.rows_of(wanted).astype(np.uint32))
            return part, found if selected is None else found & selected

        remote = None if self.remote is None else self.remote.among(wanted.tolist())
        return Selection(tuple(_of_each(self.parts, chosen)), is_narrowed=True, remote=remote)

    def without(self, image_ids: NDArray[np.int64]) -> Selection:
        """Return the images that are not in ``image_ids`` (ascending)."""

        def left(part: Part, selected: BitMap | None) -> tuple[Part, BitMap]:
            rows = BitMap(range(len(part.rows))) if selected is None else selected
            return part, rows - bitmap_of(part.rows_of(image_ids).astype(np.uint32))

        remote = None if self.remote is None else self.remote.without(image_ids.tolist())
        return replace(self, parts=tuple(_of_each(self.parts, left)), is_narrowed=True, remote=remote)

    def __len__(self) -> int:
        here = sum(len(part.rows) if rows is None else len(rows) for part, rows in self.parts)
        return here if self.remote is None else here + len(self.remote)

    @property
    def total(self) -> int | None:
        """How many match; None if not all of them are here (``is_cut``)."""
        return None if self.is_cut else len(self)

    def ids(self) -> NDArray[np.int64]:
        """Return the ids, ascending."""
        here = [part.rows.ids if rows is None else part.rows.ids[rows_in(rows)] for part, rows in self.parts]
        if self.remote is not None:
            here.append(self.remote.ids())
        runs = [run for run in here if len(run)]
        ids = np.concatenate([np.empty(0, dtype=np.int64), *runs])
        if any(run[-1] > following[0] for run, following in pairwise(runs)):
            ids.sort(kind="stable")  # merges ascending runs
        return ids

    def __contains__(self, image_id: int) -> bool:
        for part, selected in self.parts:
            found = part.rows_of(np.array([image_id], dtype=np.int64))
            if len(found) and (selected is None or int(found[0]) in selected):
                return True
        return self.remote is not None and image_id in self.remote

    def count_tags(self, units: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return for each tag how many of the images have it with a score above its ``units`` (T,), as (T,)."""
        counts = np.zeros(len(units), dtype=np.int64) if self.remote is None else self.remote.count_tags(units)
        for part, selected in self.parts:
            if self.is_narrowed or selected is None:
                counts += count_tags(part.rows, selected, units)
            else:
                # The part stores the counts of all rows, and dead rows are few.
                dead = BitMap(range(len(part.rows))) - selected
                counts += count_tags(part.rows, None, units) - count_tags(part.rows, dead, units)
        return counts

    def most_common(
        self, units: NDArray[np.int32], limit: int, after: tuple[int, int] | None = None
    ) -> list[tuple[int, int]]:
        """Return up to ``limit`` (tag, count) of ``count_tags``: see ``most_common``."""
        if self.is_narrowed and self._is_broad(units):
            return self._most_common_of_many(units, limit, after)
        return most_common(self.count_tags(units), limit, after)

    def _is_broad(self, units: NDArray[np.int32]) -> bool:
        """Return whether so many rows are selected that counting their tags is slow, and all tags have bitmaps."""
        if self.remote is not None:
            return False
        rows = sum(len(part.rows) for part, _ in self.parts)
        return FEW * len(self) >= rows and all(has_bitmaps(part.rows, units) for part, _ in self.parts)

    def _most_common_of_many(
        self, units: NDArray[np.int32], limit: int, after: tuple[int, int] | None
    ) -> list[tuple[int, int]]:
        """Count tags, beginning with the most frequent one over all rows, until no other can be among the first."""
        of_all = sum((count_tags(part.rows, None, units) for part, _ in self.parts), np.zeros(len(units), np.int64))
        most: list[tuple[int, int]] = []  # (count, -tag), ascending
        for tag_id in np.argsort(-of_all, kind="stable").tolist():
            if of_all[tag_id] == 0 or (len(most) == limit and of_all[tag_id] < most[0][0]):
                break
            count = sum(count_tag(part.rows, selected, tag_id, int(units[tag_id])) for part, selected in self.parts)
            if count and is_following((tag_id, count), after):
                insort(most, (count, -tag_id))
                del most[:-limit]
        return [(-negative, count) for count, negative in reversed(most)]

    def best_by_tags(
        self, terms: Terms, k: int, after: tuple[int, int] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return up to ``k`` (image ids, score sums), best first; see ``evaluate.best_by_tags``."""
        found = [best_by_tags(part.rows, selected, terms, k, after) for part, selected in self.parts]
        if self.remote is not None:
            found.append(self.remote.best_by_tags(terms, k, after))
        ids = np.concatenate([np.empty(0, dtype=np.int64), *(ids for ids, _ in found)])
        sums = np.concatenate([np.empty(0, dtype=np.int64), *(sums for _, sums in found)])
        best = np.lexsort((-ids, -sums))[:k]
        return ids[best], sums[best]

    def nearest(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return up to ``k`` (image ids, cosine similarities), best first, equal ones by id.

        Args:
            query: (D,) of length 1.
            k: at least 1.

        Raises:
            ValueError: the query is not a unit vector of the generation's size, or ``k`` is below 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        require_unit_length(np.atleast_2d(query))

        found = self._nearest_here(query, k)
        if self.remote is not None:
            found.append(self.remote.nearest(query, k))
        all_ids = np.concatenate([np.empty(0, dtype=np.int64), *(ids for ids, _ in found)])
        all_scores = np.concatenate([np.empty(0, dtype=np.float32), *(scores for _, scores in found)])
        best = np.lexsort((all_ids, -all_scores))[:k]
        return all_ids[best], all_scores[best]

    def _nearest_here(self, query: NDArray[np.float32], k: int) -> list[Found]:
        """Return the (image ids, cosine similarities) of each part among which the best ``k`` of all are."""
        # Parts with lists are searched together. Of those that are not, or if scans are faster, each by itself.
        listed: list[tuple[Part, BitMap | None]] = []
        alone: list[tuple[Part, BitMap | None]] = []
        for part, selected in self.parts:
            rows = part.live_among(selected if self.is_narrowed else None)
            (listed if part.vectors.is_looked_up(rows) else alone).append((part, rows))
        found = look_up([(part.vectors, rows) for part, rows in listed], query, k, _of_vectors) if listed else None
        if found is None:
            listed, alone = [], [*listed, *alone]

        def exactly(part: Part, rows: BitMap | None) -> Found:
            return part.vectors.search(query, k, rows, by_lists=False)

        found = (found or []) + _of_each(tuple(alone), exactly)
        parts = (part for part, _ in (*listed, *alone))
        return [(part.rows.ids[rows], scores) for part, (rows, scores) in zip(parts, found, strict=True)]

    def cosines(self, query: NDArray[np.float32], image_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the cosine similarity of images of this selection, in any order, with ``query`` (D,)."""
        order = np.argsort(image_ids)
        cosines = np.empty(len(image_ids), dtype=np.float32)
        for part, _ in self.parts:
            rows = part.rows_of(image_ids[order])
            of = order[np.searchsorted(image_ids[order], part.rows.ids[rows])]
            cosines[of] = part.vectors.codes(rows).astype(np.float32) @ query
        if self.remote is not None:
            for image_id, cosine in self.remote.cosines(query, image_ids.tolist()).items():
                cosines[image_ids == image_id] = cosine
        return cosines

    def by_id(self, terms: Terms) -> Iterator[tuple[int, int]]:
        """Yield every (image id, score sum), ids ascending, in bounded memory."""
        remote = () if self.remote is None else self.remote.by_id(terms)
        return merge(*(_by_id(part, selected, terms) for part, selected in self.parts), remote)


def most_common(counts: NDArray[np.int64], limit: int, after: tuple[int, int] | None = None) -> list[tuple[int, int]]:
    """Return up to ``limit`` (tag, count), the most frequent first, equal ones by id; no 0.

    ``after``: the last one of the page before.
    """
    most = np.argsort(-counts, kind="stable").tolist()
    following = ((tag_id, int(counts[tag_id])) for tag_id in most if counts[tag_id])
    return list(islice((each for each in following if is_following(each, after)), limit))


def is_following(one: tuple[int, int], after: tuple[int, int] | None) -> bool:
    """Return whether a (tag, count) comes after another one in order of frequency, or there is no other one."""
    return after is None or (-one[1], one[0]) > (-after[1], after[0])


def _of_each(
    parts: tuple[tuple[Part, BitMap | None], ...], of: Callable[[Part, BitMap | None], Result]
) -> list[Result]:
    """Return the result of ``of`` for each part. Large parts run in parallel, as NumPy and FAISS allow it."""
    if sum(len(part.rows) >= _LARGE for part, _ in parts) <= 1:
        return [of(part, selected) for part, selected in parts]
    return list(_threads().map(lambda pair: of(*pair), parts))


def _of_vectors(of: Callable[[Vectors], Result], parts: Iterable[Vectors]) -> Iterable[Result]:
    """Return the result of ``of`` for each part, as ``_of_each`` does."""
    all_parts = list(parts)
    is_shared = sum(len(vectors) >= _LARGE for vectors in all_parts) > 1
    return _threads().map(of, all_parts) if is_shared else map(of, all_parts)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="search")


def _by_id(part: Part, selected: BitMap | None, terms: Terms) -> Iterator[tuple[int, int]]:
    chosen = np.arange(len(part.rows), dtype=np.uint32) if selected is None else rows_in(selected)
    for start in range(0, len(chosen), _ROWS_AT_ONCE):
        rows = chosen[start : start + _ROWS_AT_ONCE]
        sums = score_sums(part.rows, rows, terms)
        yield from zip(part.rows.ids[rows].tolist(), sums.tolist(), strict=True)
