"""Deletions under ``/v1``: list them, and go on with one that was interrupted, or end it."""

from fastapi import APIRouter

from ramq.schemas.erasures import ErasureOut, WithdrawalOut
from ramq.schemas.views import DeletionOut, PageOut
from ramq.web.deps import Id, ServicesDep

router = APIRouter(prefix="/v1/erasures", tags=["images"])


@router.get("")
def list_erasures(services: ServicesDep) -> PageOut[ErasureOut]:
    """List the deletions, oldest first. `finished_at` of one that was interrupted is null."""
    return PageOut[ErasureOut](items=[ErasureOut.model_validate(view) for view in services.erasures.list()])


@router.post("/{deletion_id}/resume")
def resume_erasure(services: ServicesDep, deletion_id: Id) -> DeletionOut:
    """Erase the images that an interrupted deletion has left."""
    return DeletionOut.model_validate(services.erasures.resume(deletion_id))


@router.post("/{deletion_id}/withdraw")
def withdraw_erasure(services: ServicesDep, deletion_id: Id) -> WithdrawalOut:
    """End an interrupted deletion. The images that it has left stay, and the log of deletions names them no more."""
    was = services.erasures.withdraw(deletion_id)
    return WithdrawalOut(deletion_id=deletion_id, erased=len(was.erased_ids), stay=was.stay)
