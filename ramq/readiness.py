"""Whether what a server needs is available."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.errors import RamqError

if TYPE_CHECKING:
    from collections.abc import Callable


def state_of(check: Callable[[], object]) -> str:
    """Return ``ok``, or the one-line error that ``check`` raises."""
    try:
        check()
    except RamqError as error:
        return str(error)
    return "ok"
