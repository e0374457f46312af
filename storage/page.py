"""A page of a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items of a list, and the cursor of the next page (None: this is the last page).

    ``total`` is the number of items on all pages; None if unknown.
    """

    items: list[Item]
    next_cursor: str | None = None
    total: int | None = None
