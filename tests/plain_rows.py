"""Rows of the index as plain Python sees them: what columns are made from, and what they are compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from storage.results.projection import RawRows

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class PlainRow:
    """One image. ``tags`` maps tag ids to scores."""

    id: int
    key: bytes = b""
    tags: dict[int, int] = field(default_factory=dict)
    archive: int = 1
    job: int = 1
    modified: int = 0
    size: int = 1


def raw(rows: Sequence[PlainRow]) -> RawRows:
    """Return the rows, in the order in which they come, as they are read from the database."""
    tags = [(tag, score) for row in rows for tag, score in sorted(row.tags.items())]
    return RawRows(
        ids=np.array([row.id for row in rows], dtype=np.int64),
        archives=np.array([row.archive for row in rows], dtype=np.int32),
        jobs=np.array([row.job for row in rows], dtype=np.int64),
        modified=np.array([row.modified for row in rows], dtype=np.int64),
        sizes=np.array([row.size for row in rows], dtype=np.int64),
        key_offsets=np.cumsum([0, *(len(row.key) for row in rows)], dtype=np.int64),
        key_bytes=np.frombuffer(b"".join(row.key for row in rows), dtype=np.uint8),
        tag_offsets=np.cumsum([0, *(len(row.tags) for row in rows)], dtype=np.int64),
        tags=np.array([tag for tag, _ in tags], dtype=np.int16),
        scores=np.array([score for _, score in tags], dtype=np.int16),
    )


def plain(rows: RawRows) -> list[PlainRow]:
    """Return what ``raw`` was given."""
    found = []
    for n in range(len(rows)):
        tags = slice(rows.tag_offsets[n], rows.tag_offsets[n + 1])
        found.append(
            PlainRow(
                id=int(rows.ids[n]),
                key=rows.key_bytes[rows.key_offsets[n] : rows.key_offsets[n + 1]].tobytes(),
                tags=dict(zip(rows.tags[tags].tolist(), rows.scores[tags].tolist(), strict=True)),
                archive=int(rows.archives[n]),
                job=int(rows.jobs[n]),
                modified=int(rows.modified[n]),
                size=int(rows.sizes[n]),
            )
        )
    return found
