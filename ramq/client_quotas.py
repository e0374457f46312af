"""The part of the client that is about quotas: see ``ramq.client.Client``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramq.client_jobs import JobCalls
from ramq.schemas.quotas import QuotaOut, UseOut
from ramq.schemas.views import PageOut

if TYPE_CHECKING:
    from ramq.schemas.quotas import KindName


class QuotaCalls(JobCalls):
    """Requests under ``/v1/quotas``. All but ``my_quotas`` need a token with the role admin."""

    def quotas(self) -> list[QuotaOut]:
        """Return the quotas, those of all users first."""
        return self._ask(PageOut[QuotaOut], "GET", "/v1/quotas").items

    def quota_use(self) -> list[UseOut]:
        """Return what users, and archives with a quota, use."""
        return self._ask(PageOut[UseOut], "GET", "/v1/quotas/use").items

    def my_quotas(self) -> UseOut:
        """Return what the user of this client's token uses, and the user's quotas."""
        return self._ask(UseOut, "GET", "/v1/quotas/mine")

    def set_quota(
        self,
        kind: KindName,
        amount: float | str | None,
        *,
        user: str | None = None,
        token: int | None = None,
        archive: str | None = None,
    ) -> QuotaOut:
        """Set a quota for one user, token or archive, or for all users without an own one. None: no limit."""
        body = {"amount": amount, "user": user, "token": token, "archive": archive}
        return self._ask(QuotaOut, "PUT", f"/v1/quotas/{kind}", json=body)

    def unset_quota(
        self, kind: KindName, *, user: str | None = None, token: int | None = None, archive: str | None = None
    ) -> QuotaOut:
        """Remove a quota, and return it."""
        whom = {"user": user, "token": token, "archive": archive}
        return self._ask(QuotaOut, "DELETE", f"/v1/quotas/{kind}", whom)
