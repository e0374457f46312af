"""The first phase of ``build`` and ``import``: the command, or the server, that was asked reads the sources itself.

Only it can see the files of the person who asked. It adds pictures block by block, and then moves the step on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from storage.datasets import gathering
from storage.errors import UsageError
from workers.datasets.phase import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from storage.datasets.versions import VersionView


class Gather(Phase):
    """Waits for whoever reads the sources, as long as something is heard of them."""

    def is_ready(self, session: Session, version: VersionView) -> str | None:
        """Wait. Raises ``UsageError`` if nothing was heard for too long."""
        if not gathering.is_alive(session, version.id):
            raise UsageError(
                f"the command that read the sources of {version.name} ended before it was done; cancel this version "
                f"(`ramq dataset cancel {version.name}`) and run it again"
            )
        return version.note or "the sources are being read"

    def plan(self, _session: Session, _version: VersionView) -> Sequence[dict[str, Any]]:
        """Not called: this phase is never ready."""
        return []
