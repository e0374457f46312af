"""Made-up images for filtered searches: who meets which filter, and which of them are nearest, by a scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.search_data import CHUNK, TAGS, Chunk, Maker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SHARES = (0.0001, 0.001, 0.01, 0.1, 0.5)
LIMIT = 10
_OTHERS, _FILLERS_FROM, _FILLERS_EACH = 10, 4100, 40
_NOISE = 0.02
"""Deviation of the likeness by which the tags of like images are given; that of the likeness itself is about twice
this."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on images, as people use them.

    Attributes:
        kind: ``tag``: a tag, whatever the vectors; ``like tag``: a tag of images whose vectors are alike, as real tags
            are, so that most queries are far from all of them; ``archive``; ``prefix``: of keys; ``none``.
        number: place in ``SHARES``.
    """

    kind: str
    number: int = 0

    @property
    def share(self) -> float:
        """The share of the images that meet it."""
        return 1.0 if self.kind == "none" else SHARES[self.number]

    @property
    def name(self) -> str:
        """What the result calls it."""
        return "none" if self.kind == "none" else f"{self.kind} {self.share:.2%}"

    @property
    def tag(self) -> int:
        """Its tag, if it is one."""
        return self.number + (len(SHARES) if self.kind == "like tag" else 0)

    @property
    def archive(self) -> int:
        """The id of its archive, if it is one."""
        return self.number + 1

    @property
    def prefix(self) -> str:
        """The prefix of its keys, if it is one."""
        return f"{self.number:02}/"


FILTERS = (
    Filter("none"),
    *(Filter(kind, number) for kind in ("tag", "like tag", "archive", "prefix") for number in range(len(SHARES))),
)


class Images:
    """Vectors, tags, archives and keys of N images in memory, the same for the same number.

    Args:
        rows: N.
        width: D, numbers in a vector.
    """

    def __init__(self, rows: int, width: int) -> None:
        self.maker = Maker(width)
        numbers = range(-(-rows // CHUNK))
        self.vectors = np.concatenate([self.maker.chunk(number).vectors for number in numbers])[:rows]
        rng = np.random.default_rng(7)
        self.archives, self.folders = (_groups(rng, rows) for _ in range(2))
        self._has = np.zeros((rows, 2 * len(SHARES)), dtype=np.bool_)
        for number, share in enumerate(SHARES):
            count = max(LIMIT, round(share * rows))
            self._has[rng.choice(rows, count, replace=False), number] = True
            direction = rng.standard_normal(width).astype(np.float32)
            direction /= np.linalg.norm(direction)
            likeness = self.vectors.astype(np.float32) @ direction + _NOISE * rng.standard_normal(rows)
            self._has[np.argsort(-likeness)[:count], number + len(SHARES)] = True
        self._rng = rng

    def chunks(self) -> Iterator[Chunk]:
        """Yield the images in pieces of ``CHUNK``, with 20 tags each, all of them above their thresholds."""
        rng = np.random.default_rng(8)
        columns = self._has.shape[1]
        for start in range(0, len(self.vectors), CHUNK):
            has = self._has[start : start + CHUNK]
            count = len(has)
            fillers = _FILLERS_FROM + _FILLERS_EACH * np.arange(columns) + rng.integers(0, _FILLERS_EACH, has.shape)
            others = 100 + np.sort(rng.integers(0, 3_900, (count, _OTHERS)), axis=1) + np.arange(_OTHERS)
            tags = np.sort(np.concatenate([np.where(has, np.arange(columns), fillers), others], axis=1), axis=1)
            assert tags.max() < TAGS
            yield Chunk(
                first=start + 1,
                vectors=self.vectors[start : start + CHUNK],
                tags=tags.astype(np.int16),
                scores=rng.integers(7_000, 10_000, tags.shape).astype(np.int16),
                days=rng.integers(0, 10_000, count),
                archives=self.archives[start : start + CHUNK].astype(np.int32) + 1,
                folders=self.folders[start : start + CHUNK],
            )

    def meeting(self, asked: Filter) -> NDArray[np.int64]:
        """Return the rows (from 0) that meet a filter."""
        if asked.kind == "none":
            return np.arange(len(self.vectors))
        if asked.kind in {"archive", "prefix"}:
            return np.flatnonzero((self.archives if asked.kind == "archive" else self.folders) == asked.number)
        return np.flatnonzero(self._has[:, asked.tag])

    def truth(self, asked: Filter, queries: NDArray[np.float32]) -> Truth:
        """Return what a search with this filter should find."""
        rows = self.meeting(asked)
        cosines = np.concatenate(
            [
                queries @ self.vectors[rows[start : start + CHUNK]].astype(np.float32).T
                for start in range(0, len(rows), CHUNK)
            ],
            axis=1,
        )
        count = min(LIMIT, len(rows))
        worst = -np.sort(-np.partition(cosines, -count, axis=1)[:, -count:], axis=1)[:, -1]
        return Truth(self.vectors, queries, set((rows + 1).tolist()), worst, count)


@dataclass(frozen=True, slots=True)
class Truth:
    """What searches with one filter should find.

    Attributes:
        vectors: (N, D) of all images.
        queries: (Q, D).
        meeting: ids of the images that meet the filter.
        worst: (Q,) the cosine of the last of the nearest ``count``.
        count: how many there are.
    """

    vectors: NDArray[np.float16]
    queries: NDArray[np.float32]
    meeting: set[int]
    worst: NDArray[np.float32]
    count: int

    def recall(self, number: int, found: list[int]) -> float:
        """Return the share of the nearest that one search found. Of equally near images any will do."""
        rows = np.array([image_id - 1 for image_id in dict.fromkeys(found) if image_id in self.meeting], dtype=np.int64)
        near = self.vectors[rows].astype(np.float32) @ self.queries[number] >= self.worst[number] - 1e-5
        return min(1.0, int(near.sum()) / self.count)


def _groups(rng: np.random.Generator, rows: int) -> NDArray[np.int64]:
    """Return (N,) in which of disjoint groups each image is; the last one has what the shares leave."""
    group = np.full(rows, len(SHARES))
    order = rng.permutation(rows)
    start = 0
    for number, share in enumerate(SHARES):
        count = max(LIMIT, round(share * rows))
        group[order[start : start + count]] = number
        start += count
    return group


def directory_bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
