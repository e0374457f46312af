"""The part of the client that is about images with the same bytes, and near copies."""

from __future__ import annotations

from ramq.client_reviews import ReviewCalls
from ramq.schemas.duplicates import CopyGroupsOut
from ramq.schemas.near_copies import NearGroupsOut, NearStateOut


class DuplicateCalls(ReviewCalls):
    """Calls about images with the same bytes, and near copies."""

    def duplicates(
        self, archive: str | int | None = None, *, limit: int = 50, cursor: str | None = None
    ) -> CopyGroupsOut:
        """Return groups of images with the same bytes, those with the most images first.

        ``archive``: count only the images of this archive, by id or URI. ``cursor``: of the page before.
        """
        return self._ask(CopyGroupsOut, "GET", "/v1/duplicates", {"archive": archive, "limit": limit, "cursor": cursor})

    def near_copies(
        self,
        archive: str | int | None = None,
        *,
        distance: int | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> NearGroupsOut:
        """Return groups of near copies that the last search for them found, those with the most images first.

        ``distance``: count only images whose hash differs in so many bits at most, 0 to 8. Others as in ``duplicates``.
        """
        asked = {"archive": archive, "distance": distance, "limit": limit, "cursor": cursor}
        return self._ask(NearGroupsOut, "GET", "/v1/duplicates/near", asked)

    def near_state(self) -> NearStateOut:
        """Return when near copies were searched last, and which images are not in the result."""
        return self._ask(NearStateOut, "GET", "/v1/duplicates/near/state")

    def find_near_copies(self) -> NearStateOut:
        """Ask the workers to search for near copies. ``near_state`` tells when they have."""
        return self._ask(NearStateOut, "POST", "/v1/duplicates/near/search")
