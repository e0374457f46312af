"""The part of the client that is about deletions."""

from __future__ import annotations

from ramq.client_missing import MissingCalls
from ramq.schemas.erasures import ErasureOut, WithdrawalOut
from ramq.schemas.views import DeletionOut, PageOut


class ErasureCalls(MissingCalls):
    """Calls about deletions."""

    def erasures(self) -> list[ErasureOut]:
        """Return every deletion, oldest first."""
        return self._ask(PageOut[ErasureOut], "GET", "/v1/erasures").items

    def resume_erasure(self, deletion_id: int) -> DeletionOut:
        """Erase the images that an interrupted deletion has left."""
        return self._ask(DeletionOut, "POST", f"/v1/erasures/{deletion_id}/resume")

    def withdraw_erasure(self, deletion_id: int) -> WithdrawalOut:
        """End an interrupted deletion. The images that it has left stay."""
        return self._ask(WithdrawalOut, "POST", f"/v1/erasures/{deletion_id}/withdraw")
