"""The part of the client that is about images with the same bytes, and near copies."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from ramq.client_reviews import ReviewCalls
from ramq.schemas.duplicates import CopyGroupsOut
from ramq.schemas.near_copies import NearGroupsOut, NearStateOut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class DuplicateCalls(ReviewCalls):
    """Calls about images with the same bytes, and near copies."""

    def _receive(self, path: str, wanted: Mapping[str, object], file: IO[bytes]) -> None:
        raise NotImplementedError  # the client has it

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

    def export_near_copies(
        self,
        file: IO[bytes],
        archive: str | int | None = None,
        *,
        distance: int | None = None,
        images: Sequence[int] = (),
        format: str = "csv",  # noqa: A002  (its name in the API)
    ) -> None:
        """Write the images of all groups of near copies into a file, one per row: ``csv`` or ``jsonl``.

        ``images``: only these; none: all. Others as in ``near_copies``.

        Raises:
            UnreachableError: the connection broke before the file was complete.
        """
        wanted = {"archive": archive, "distance": distance, "image": images, "format": format}
        self._receive("/v1/duplicates/near/export", wanted, file)
