"""A page of a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items, and the cursor that asks for those after them (None: these were the last).

    ``total`` is how many there are on all pages together; None where that is not known.
    """

    items: list[Item]
    next_cursor: str | None = None
    total: int | None = None
