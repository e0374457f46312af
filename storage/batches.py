"""Long sequences, a few items at a time."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Item = TypeVar("Item")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield items in lists of ``size``; the last one may be shorter. Of ``items``, only these are read ahead.

    ``itertools.batched`` does this from Python 3.12 on.
    """
    left = iter(items)
    while some := list(islice(left, size)):
        yield some
