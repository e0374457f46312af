"""Watches under ``/v1/watches``: add, list, steer and remove them, and the events that stores send."""

import base64
import binascii

from fastapi import APIRouter, Request, Response, status
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from ramq.schemas.views import PageOut
from ramq.schemas.watches import AddedWatchOut, NewWatch, S3EventNotification, TakenOut, WatchOut
from ramq.services.job_wishes import JobWishes
from ramq.services.watches import SecretError
from ramq.web.deps import Id, ServicesDep, absolute_source, caller_of, reading
from ramq.web.tokens import bearer_token

router = APIRouter(prefix="/v1/watches", tags=["watches"])


@router.post("", status_code=status.HTTP_201_CREATED)
def add_watch(request: Request, services: ServicesDep, new: NewWatch, response: Response) -> AddedWatchOut:
    """Watch an archive, or a part of one: list it now and then every so often, and look where events say so."""
    wishes = JobWishes(new.model, new.caption, new.priority, None, new.stages, new.selection, new.pages)
    with reading(new.source):
        added = services.watches.add(
            absolute_source(new.source),
            wishes,
            every=new.every,
            events=new.events,
            settle_seconds=new.settle_seconds,
            by=caller_of(request),
        )
    response.headers["Location"] = f"/v1/watches/{added.watch.id}"
    return AddedWatchOut.model_validate(added)


@router.get("")
def list_watches(services: ServicesDep) -> PageOut[WatchOut]:
    """List the watches, oldest first."""
    return PageOut[WatchOut](items=[WatchOut.model_validate(watch) for watch in services.watches.list()])


@router.get("/{watch_id}")
def get_watch(services: ServicesDep, watch_id: Id) -> WatchOut:
    """Return one watch."""
    return WatchOut.model_validate(services.watches.get(watch_id))


@router.delete("/{watch_id}")
def remove_watch(services: ServicesDep, watch_id: Id) -> WatchOut:
    """Watch no longer. The archive, its results and the jobs stay. Return the watch as it was."""
    return WatchOut.model_validate(services.watches.remove(watch_id))


@router.post("/{watch_id}/secret")
def renew_secret(services: ServicesDep, watch_id: Id) -> AddedWatchOut:
    """Make a new secret for the events of the watch. The old one no longer counts."""
    return AddedWatchOut.model_validate(services.watches.renew_secret(watch_id))


@router.post(
    "/{watch_id}/events",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": S3EventNotification.model_json_schema()}},
        }
    },
)
async def take_events(request: Request, services: ServicesDep, watch_id: Id) -> TakenOut:
    """Take the event notifications of a store. The secret of the watch is the bearer token, or the basic password."""
    limit, caller = request.app.state.limit, f"secret {request.client.host if request.client else ''}"
    if limit.is_spent(caller):
        raise HTTPException(429, "Too many wrong secrets from this address.", headers={"Retry-After": "60"})
    body = await request.body()
    try:
        taken = await run_in_threadpool(services.watches.take, watch_id, _secret(request), body)
    except SecretError:
        limit.wait_seconds(caller)
        raise
    return TakenOut.model_validate(taken)


def _secret(request: Request) -> str:
    if (token := bearer_token(request.headers)) is not None:
        return token
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


@router.post("/{watch_id}/pause")
def pause_watch(services: ServicesDep, watch_id: Id) -> WatchOut:
    """Begin no further jobs. Events in a queue stay there, and events that are sent are kept."""
    return WatchOut.model_validate(services.watches.pause(watch_id))


@router.post("/{watch_id}/resume")
def resume_watch(services: ServicesDep, watch_id: Id) -> WatchOut:
    """Go on with a watch that is paused, or that waits after failures."""
    return WatchOut.model_validate(services.watches.resume(watch_id))
