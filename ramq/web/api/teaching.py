"""Teaching under ``/v1``: learn tags on a few pictures, apply them, list them, and ask what to label next."""

from fastapi import APIRouter, Request

from ramq.schemas.teaching import (
    NewTeaching,
    SuggestionsOut,
    TaughtOut,
    TaughtTagOut,
    WantedLabels,
)
from ramq.schemas.views import PageOut
from ramq.services.teach_views import Wanted
from ramq.web.deps import ServicesDep, caller_of, teaching_turns_of
from storage.errors import UsageError

MOST_TAGS = 10
"""Tags that one request teaches: each may take half a minute."""

router = APIRouter(prefix="/v1/teach", tags=["teaching"])


@router.get("")
def list_taught_tags(services: ServicesDep) -> PageOut[TaughtTagOut]:
    """List the tags that people taught, by name, each as it was taught last."""
    items = [TaughtTagOut.model_validate(tag) for tag in services.teaching.taught()]
    return PageOut[TaughtTagOut](items=items)


@router.post("")
def teach(request: Request, services: ServicesDep, new: NewTeaching) -> TaughtOut:
    """Learn tags on images that people named, and judge them on held-out ones. With `apply`, start jobs that give them.

    The jobs read no picture. Their results are a new generation: see `/v1/generations`.

    A request teaches at most 10 tags, and the server answers one at a time: others wait, or get the status 429. It does
    not try the names of new tags, for which it would load RAM; only the command `ramq teach` does.
    """
    if new.tag is None:
        wanted = services.teaching.corrected(new.least)
    else:
        wanted = [Wanted(new.tag.tag, new.tag.yes, new.tag.no)]
    if len(wanted) > MOST_TAGS:
        raise UsageError(
            f"{len(wanted)} tags have enough corrections, and a request teaches at most {MOST_TAGS}: run `ramq teach "
            "--from-corrections`, which has no limit, or ask for more images with `least`"
        )
    with teaching_turns_of(request).turn():
        done = services.teaching.teach(
            wanted, precision=new.precision, apply=new.apply, skip_missing=new.skip_missing, by=caller_of(request)
        )
    return TaughtOut.model_validate(done)


@router.post("/suggestions")
def suggest_images(request: Request, services: ServicesDep, wanted: WantedLabels) -> SuggestionsOut:
    """Say which images to label next: those of which a tag is least certain, and which differ from one another."""
    with teaching_turns_of(request).turn():
        found = services.teaching.suggest(wanted.tag, wanted.count, yes=wanted.yes, no=wanted.no)
    return SuggestionsOut.model_validate(found)
