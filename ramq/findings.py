"""What the checks of ``ramq doctor`` return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from storage.texts import without_secrets

if TYPE_CHECKING:
    from storage.errors import RamqError


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        state: ``ok``, ``note`` (it works, but you may want to know this) or ``fault``.
        next: the command to run next, or empty if there is nothing to do.
    """

    name: str
    state: Literal["ok", "note", "fault"]
    detail: str
    next: str = ""


def fault(name: str, error: RamqError, next_command: str) -> Finding:
    """Return the finding of an error."""
    return Finding(name, "fault", without_secrets(str(error)), next_command)
