"""The part of the client that is about images with the same bytes."""

from __future__ import annotations

from ramq.client_reviews import ReviewCalls
from ramq.schemas.duplicates import CopyGroupsOut


class DuplicateCalls(ReviewCalls):
    """Calls about images with the same bytes."""

    def duplicates(
        self, archive: str | int | None = None, *, limit: int = 50, cursor: str | None = None
    ) -> CopyGroupsOut:
        """Return groups of images with the same bytes, those with the most images first.

        ``archive``: count only the images of this archive, by id or URI. ``cursor``: of the page before.
        """
        return self._ask(CopyGroupsOut, "GET", "/v1/duplicates", {"archive": archive, "limit": limit, "cursor": cursor})
