"""Keywords that people give images, under ``/v1/keywords`` and ``/v1/images/{image_id}/keywords``."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from ramq.schemas.keywords import KeywordActOut, KeywordCountOut, NewKeywordName, NewKeywords
from ramq.schemas.views import ImageOut, PageOut
from ramq.services.keywords import STEP_SECONDS
from ramq.web.deps import (
    MAX_ID,
    MAX_TEXT,
    MAYBE_BLANK,
    FiltersDep,
    Id,
    Limit,
    ServicesDep,
    caller_of,
    query_string,
)
from ramq.wiring import Services
from storage.errors import UsageError
from storage.results.keyword_acts import ActView

MOST_PAGES = 1_000_000

Word = Annotated[str, Path(min_length=1, max_length=MAX_TEXT, description="a keyword")]

router = APIRouter(prefix="/v1", tags=["keywords"])


@router.get("/keywords")
def list_keywords(
    services: ServicesDep,
    beginning: Annotated[str, Query(max_length=MAX_TEXT, description="only those that begin so, in any case")] = "",
    limit: Limit = 100,
    cursor: Annotated[
        int, Query(ge=0, le=MOST_PAGES, description="`next_cursor` of the previous page"), MAYBE_BLANK
    ] = 0,
) -> PageOut[KeywordCountOut]:
    """List the keywords that people gave, the most frequent first."""
    return PageOut[KeywordCountOut].model_validate(services.keywords.list(beginning, limit=limit, offset=cursor))


@router.get("/keywords/acts")
def list_keyword_acts(
    services: ServicesDep,
    limit: Limit = 50,
    cursor: Annotated[
        int | None, Query(ge=1, le=MAX_ID, description="`next_cursor` of the previous page"), MAYBE_BLANK
    ] = None,
) -> PageOut[KeywordActOut]:
    """List who gave, removed and renamed keywords when, the newest first."""
    return PageOut[KeywordActOut].model_validate(services.keywords.history(limit=limit, before=cursor))


@router.get("/keywords/acts/{act_id}")
def get_keyword_act(services: ServicesDep, act_id: Id) -> KeywordActOut:
    """Return what a person did to the keywords of some images, and how far it is."""
    return KeywordActOut.model_validate(services.keywords.act(act_id))


@router.post("/keywords/acts")
def change_keywords(request: Request, services: ServicesDep, asked: FiltersDep, new: NewKeywords) -> KeywordActOut:
    """Give keywords to images, or remove them: from those that are named, or from all that a search finds.

    The search is in the query string, as for `/v1/search`. It must be valid: nothing of it is searched as words. The
    request works for two seconds. If the answer is `unfinished`, send `continue` until it is `done`; what was done
    until then stays, and can be undone.
    """
    has_search = bool(query_string(asked.others) or (asked.q or "").strip())
    if sum([new.images is not None, has_search, new.everything]) != 1:
        raise UsageError("name images, or give a search in the query string, or everything: one of the three")
    by = caller_of(request)
    if new.images is not None:
        act = services.keywords.begin(new.images, add=new.add, remove=new.remove, with_tags=new.with_tags, by=by)
    else:
        query = services.search.read(asked.others, asked.q, is_strict=True)
        act = services.keywords.begin_for_all(
            query,
            add=new.add,
            remove=new.remove,
            asked=asked_in_words(query_string(query), asked.q),
            with_tags=new.with_tags,
            by=by,
        )
    return _stepped(services, act)


@router.post("/keywords/acts/{act_id}/continue")
def continue_keyword_act(services: ServicesDep, act_id: Id) -> KeywordActOut:
    """Do the next two seconds of an unfinished change of keywords, or of its undoing."""
    return _stepped(services, services.keywords.act(act_id))


@router.post("/keywords/acts/{act_id}/undo")
def undo_keyword_act(request: Request, services: ServicesDep, act_id: Id) -> KeywordActOut:
    """Undo a change of keywords as a whole. If the answer is `undoing`, send `continue` until it is `undone`.

    Images then have the keywords that they would have without it: what others did before it or since stays.
    """
    return _stepped(services, services.keywords.begin_undo(act_id, caller_of(request)))


@router.post("/keywords/acts/{act_id}/redo")
def redo_keyword_act(request: Request, services: ServicesDep, act_id: Id) -> KeywordActOut:
    """Do again what was undone. If the answer is `unfinished`, send `continue` until it is `done`.

    Images then have the keywords that they would have if it had not been undone.
    """
    return _stepped(services, services.keywords.begin_redo(act_id, caller_of(request)))


@router.post("/keywords/rename")
def rename_keyword(request: Request, services: ServicesDep, new: NewKeywordName) -> KeywordActOut:
    """Give all images that have one keyword from a person another one instead. Keywords in files stay."""
    return _stepped(services, services.keywords.begin_rename(new.old, new.new, caller_of(request)))


@router.put("/images/{image_id}/keywords/{word:path}")
def put_keyword(request: Request, services: ServicesDep, image_id: Id, word: Word) -> ImageOut:
    """Give an image a keyword."""
    services.keywords.go_on(services.keywords.begin([image_id], add=[word], by=caller_of(request)).id)
    return ImageOut.model_validate(services.images.get(image_id))


@router.delete("/images/{image_id}/keywords/{word:path}")
def delete_keyword(request: Request, services: ServicesDep, image_id: Id, word: Word) -> ImageOut:
    """Remove a keyword that a person gave an image."""
    services.keywords.go_on(services.keywords.begin([image_id], remove=[word], by=caller_of(request)).id)
    return ImageOut.model_validate(services.images.get(image_id))


def asked_in_words(parameters: str, q: str | None) -> str:
    """Return a search for the history: what was typed, if that is all of it, else its parameters."""
    is_typed = parameters.startswith("q=") and "&" not in parameters
    return (q or "").strip() if is_typed else parameters


def _stepped(services: Services, act: ActView) -> KeywordActOut:
    return KeywordActOut.model_validate(services.keywords.go_on(act.id, seconds=STEP_SECONDS))
