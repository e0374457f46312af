"""Cursors: the position at the end of a page, as one opaque word."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from storage.errors import UsageError
from storage.search.fields import BIGINT

if TYPE_CHECKING:
    from collections.abc import Sequence


def encode_cursor(values: Sequence[int], bound: str = "") -> str:
    """Pack the position at the end of a page, and what it is ``bound`` to, into one opaque word."""
    content = [bound, *values] if bound else list(values)
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, length: int, bound: str = "") -> tuple[int, ...]:
    """Unpack a cursor of ``length`` numbers. Raises ``UsageError`` for one of another query, or otherwise bound."""
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        values = None
    is_bound = isinstance(values, list) and bool(values) and isinstance(values[0], str)
    numbers = values[1:] if is_bound else values
    fits = isinstance(numbers, list) and len(numbers) == length and is_bound == bool(bound)
    if not fits or not all(type(value) is int and 0 <= value < BIGINT for value in numbers):
        raise UsageError("the cursor does not belong to this search: use next_cursor of the previous page")
    if is_bound and values[0] != bound:
        raise UsageError(
            "the cursor does not belong to this search, or another generation is in use now: begin with the first page"
        )
    return tuple(numbers)
