"""The columns of one part of the index: all that a search needs of each image, without asking PostgreSQL.

A *part* is a published segment or some newer rows in memory; both have the same columns. Row numbers are positions in
``ids`` and mean nothing outside their part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyroaring import BitMap

NO_DATE = np.iinfo(np.int64).min
"""Value in ``Rows.modified`` if the object store gave no date."""


class TagColumns(Protocol):
    """The tags of the rows, in both directions. Scores are in units of ``1 / SCORE_SCALE``, above the model's floor."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(N + 1,): the tags of row n are ``tags[offsets[n] : offsets[n + 1]]``, ascending."""

    @property
    def tags(self) -> NDArray[np.int16]:
        """(M,)."""

    @property
    def scores(self) -> NDArray[np.int16]:
        """(M,)."""

    @property
    def assigned_units(self) -> NDArray[np.int32]:
        """(T,): each tag's own threshold at the time when the part was made."""

    @property
    def assigned_counts(self) -> NDArray[np.int32]:
        """(T,): rows, dead ones included, whose score is above ``assigned_units``."""

    def postings(self, tag_id: int) -> tuple[NDArray[np.uint32], NDArray[np.int16]]:
        """Return (rows, scores) of a tag: (K,), (K,), rows ascending; empty if no row has the tag."""

    def above(self, tag_id: int, units: int) -> BitMap:
        """Return the rows whose score of the tag is above ``units``. The bitmap may be cached: do not change it."""


class KeyColumn(Protocol):
    """The keys of the rows."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(N + 1,): the key of row n is ``blob[offsets[n] : offsets[n + 1]]``."""

    @property
    def blob(self) -> NDArray[np.uint8]:
        """UTF-8."""

    @property
    def order(self) -> NDArray[np.uint32]:
        """(N,) rows, ascending by the bytes of their keys."""

    def key(self, row: int) -> bytes:
        """Return the key of a row."""

    def below(self, prefix: bytes) -> NDArray[np.uint32]:
        """Return the rows whose key begins with ``prefix`` (UTF-8), in any order and any archive."""

    def named(self, word: str, *, is_beginning: bool) -> BitMap:
        """Return the rows whose file name has a word. The bitmap is cached and must not be changed."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The columns.

    Attributes:
        ids: (N,) int64, ascending: the image of each row.
        archives: (N,) int32: its archive.
        jobs: (N,) int64: the job that wrote its record.
        modified: (N,) int64: when its object was last modified, microseconds since 1970 UTC, or ``NO_DATE``.
        sizes: (N,) int64: bytes of its object.
        keys: its key.
        tags: its tags and scores.
    """

    ids: NDArray[np.int64]
    archives: NDArray[np.int32]
    jobs: NDArray[np.int64]
    modified: NDArray[np.int64]
    sizes: NDArray[np.int64]
    keys: KeyColumn
    tags: TagColumns

    def __len__(self) -> int:
        return len(self.ids)
