"""Quotas and what is used of them under ``/v1/quotas``."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from ramq.schemas.quotas import KindName, NewQuota, QuotaOut, UseOut
from ramq.schemas.views import PageOut
from ramq.services.quotas import Whom
from ramq.web.deps import MAX_ID, ServicesDep, caller_of
from storage.ledger.quotas import QuotaView

router = APIRouter(prefix="/v1/quotas", tags=["quotas"])

# Blank ones are refused: somebody may have meant less than the quota of all users.
_User = Annotated[str | None, Query(max_length=64, pattern=r"^[^\x00]*\S[^\x00]*$", description="of this user")]
_Token = Annotated[int | None, Query(ge=1, le=MAX_ID)]
_Archive = Annotated[
    str | None, Query(max_length=4_096, pattern=r"^[^\x00]*\S[^\x00]*$", description="of this archive: id or URI")
]


@router.get("")
def list_quotas(services: ServicesDep) -> PageOut[QuotaOut]:
    """List the quotas, those of all users first."""
    return PageOut[QuotaOut](items=[_out(quota) for quota in services.quotas.list()])


@router.get("/use")
def list_use(services: ServicesDep) -> PageOut[UseOut]:
    """List what users, and archives with a quota, use: users first, those with the most images in flight first."""
    return PageOut[UseOut](items=[UseOut.model_validate(each) for each in services.quotas.use()])


@router.get("/mine")
def get_own_use(request: Request, services: ServicesDep) -> UseOut:
    """Return what the user of this token uses, and the user's quotas."""
    return UseOut.model_validate(services.quotas.of(caller_of(request)))


@router.put("/{kind}")
def set_quota(request: Request, services: ServicesDep, kind: KindName, new: NewQuota) -> QuotaOut:
    """Set a quota: for all users without an own one, or for one user, token or archive. It counts at once."""
    whom = Whom(new.user, new.token, new.archive)
    return _out(services.quotas.put(kind, new.amount, whom, by=caller_of(request)))


@router.delete("/{kind}")
def unset_quota(
    request: Request,
    services: ServicesDep,
    kind: KindName,
    user: _User = None,
    token: _Token = None,
    archive: _Archive = None,
) -> QuotaOut:
    """Remove a quota, and return it. A user without an own one has that of all users."""
    return _out(services.quotas.drop(kind, Whom(user, token, archive), by=caller_of(request)))


def _out(quota: QuotaView) -> QuotaOut:
    return QuotaOut(kind=quota.kind, subject=quota.subject, name=quota.name, amount=quota.shown)
