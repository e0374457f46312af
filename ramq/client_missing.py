"""The part of the client that is about images whose files are missing."""

from __future__ import annotations

from ramq.client_duplicates import DuplicateCalls
from ramq.schemas.missing import MissingPageOut
from ramq.schemas.views import ImageOut


class MissingCalls(DuplicateCalls):
    """Calls about images of which people said something and whose files are missing."""

    def missing(
        self, archive: str | int | None = None, *, limit: int = 50, cursor: str | None = None
    ) -> MissingPageOut:
        """Return images of which people said something and whose files are missing, by number.

        ``archive``: only images of this archive, by id or URI. ``cursor``: of the page before.
        """
        return self._ask(MissingPageOut, "GET", "/v1/missing", {"archive": archive, "limit": limit, "cursor": cursor})

    def continue_image(self, image_id: int, at: int) -> ImageOut:
        """Say that a missing image is the same picture as another one: it continues there."""
        return self._ask(ImageOut, "POST", f"/v1/images/{image_id}/continue", json={"at": at})
