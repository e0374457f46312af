"""The columns of a segment in one file: one array after the other, at positions given by a layout.

It is one file because it is written, hashed, copied and mapped as one. A segment in a bucket is three objects, not
twenty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from storage.index.columns import Keys, Tags
from storage.index.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

ALIGNMENT = 64
"""Arrays begin at multiples of this, the size of a cache line."""

_BYTES_AT_ONCE = 16 * 1024**2

_ROWS = ("ids", "archives", "jobs", "modified", "sizes")
_KEYS = ("offsets", "blob", "order")
_TAGS = (
    "offsets",
    "tags",
    "scores",
    "posting_offsets",
    "posting_rows",
    "posting_scores",
    "assigned_units",
    "assigned_counts",
    "bitmap_offsets",
    "bitmaps",
)


def write_columns(rows: Rows, write: Callable[[bytes], None]) -> dict[str, dict[str, Any]]:
    """Pass the bytes of the file to ``write``. Return the layout: type, count and first byte of each array."""
    layout: dict[str, dict[str, Any]] = {}
    end = 0
    for name, array in _arrays(rows):
        padding = -end % ALIGNMENT
        write(bytes(padding))
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        layout[name] = {"type": little.dtype.str, "length": len(array), "at": end + padding}
        data = np.ascontiguousarray(little).view(np.uint8)
        for start in range(0, len(data), _BYTES_AT_ONCE):
            write(data[start : start + _BYTES_AT_ONCE].tobytes())
        end += padding + len(data)
    write(bytes(ALIGNMENT))  # an empty last array needs a valid position, and an empty file cannot be mapped
    return layout


def map_columns(path: Path, layout: Mapping[str, Mapping[str, Any]]) -> Rows:
    """Map the columns of a file that was checked before.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is shorter than the layout says, or the layout lacks an array.
    """
    data = np.memmap(path, dtype=np.uint8, mode="r")

    def array(group: str, name: str) -> NDArray[Any]:
        try:
            facts = layout[f"{group}.{name}"]
        except KeyError as error:
            raise ValueError(f"the layout has no column {group}.{name}") from error
        dtype = np.dtype(facts["type"])
        end = facts["at"] + facts["length"] * dtype.itemsize
        if end > len(data):
            raise ValueError(f"{path} ends before column {group}.{name}")
        found: NDArray[Any] = data[facts["at"] : end].view(np.ndarray).view(dtype)
        return found

    return Rows(
        **{name: array("rows", name) for name in _ROWS},
        keys=Keys(**{name: array("keys", name) for name in _KEYS}),
        tags=Tags(**{name: array("tags", name) for name in _TAGS}),
    )


def _arrays(rows: Rows) -> list[tuple[str, NDArray[Any]]]:
    groups: list[tuple[str, object, tuple[str, ...]]] = [
        ("rows", rows, _ROWS),
        ("keys", rows.keys, _KEYS),
        ("tags", rows.tags, _TAGS),
    ]
    return [(f"{group}.{name}", getattr(owner, name)) for group, owner, names in groups for name in names]
