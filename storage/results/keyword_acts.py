"""Acts of people on keywords: each gives words to some images, or removes them, and can be undone as a whole.

An act says of each of its images which words it has now, also if that changes nothing there. The last act that speaks
of an image and a word counts, in the order in which acts began. Undoing an act takes out what it said. Each image then
has the keywords that it would have if the act had never been: what others did before or afterwards stays. Its images
are kept as parts, so that it can be redone: it says the same again, at its old place in the order.

An act is done in parts of ``IMAGES_AT_ONCE``. Each is one transaction, so an act that is interrupted has done a whole
number of parts, and can be continued or undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, NamedTuple

from sqlalchemy import func, select, text

from storage.database import driver_connection
from storage.errors import ConflictError, NotFoundError
from storage.results import keyword_tags, keywords
from storage.results.keywords import Spoken
from storage.tables import KeywordAct
from storage.texts import fold_seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

IMAGES_AT_ONCE = 1_000
"""Images of a part. Workers that write some of them wait for its transaction."""

_PLANNING = {"key": int.from_bytes(b"kwds"), "of": 1}
"""Keys of the advisory lock that transactions share which plan an act. Others do not see the act yet."""

_SAY = """
    INSERT INTO keyword_said (image_id, fold, act_id, word, is_present)
    SELECT image_id, fold, %(act_id)s, word, is_present
    FROM unnest(%(ids)s::bigint[], %(folds)s::text[], %(words)s::text[], %(present)s::bool[])
        AS said (image_id, fold, word, is_present)
    ORDER BY image_id, fold ON CONFLICT (image_id, fold, act_id) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class ActSpec:
    """What an act does.

    Attributes:
        added: keywords to give (``keywords.checked``).
        removed: keywords to remove.
        said_by: who does it.
        if_any: only images that have one of these keywords; None: any.
        tags: for each added keyword the name of the tag to add with it, or an empty text; or nothing.
        query: the search that chose the images, for people.
    """

    added: Sequence[str]
    removed: Sequence[str]
    said_by: str
    if_any: Sequence[str] | None = None
    tags: Sequence[str] = ()
    query: str | None = None


ActState = Literal["unfinished", "done", "undoing", "undone"]


@dataclass(frozen=True, slots=True)
class ActView:
    """An act, for people.

    Attributes:
        added: the keywords that it gives.
        removed: the keywords that it removes.
        tags: the tags that it added with them.
        is_rename: whether it only concerns images that have what it removes.
        query: the search that chose the images.
        images: how many images were chosen.
        seen: how many of them are done.
        changed: how many of these got or lost a keyword.
        full: how many have too many keywords already, and stayed as they were.
        state: ``unfinished`` and ``undoing`` ones can be continued.
    """

    id: int
    added: list[str]
    removed: list[str]
    tags: list[str]
    is_rename: bool
    query: str | None
    images: int
    seen: int
    changed: int
    full: int
    said_by: str
    said_at: datetime
    state: ActState
    undone_by: str | None
    undone_at: datetime | None
    redone_by: str | None

    @property
    def what(self) -> str:
        """What it does, in words: ``give dog, park``, ``rename brige to bridge``."""
        added, removed = ", ".join(self.added), ", ".join(self.removed)
        if self.is_rename and added:
            return f"rename {removed or 'its spellings'} to {added}"
        parts = [f"give {added}" if added else "", f"remove {removed}" if removed else ""]
        return " and ".join(filter(None, parts))

    @property
    def state_in_words(self) -> str:
        """Its state, and by whom it was undone or redone."""
        if self.undone_by is not None:
            return f"{self.state} by {self.undone_by}"
        return self.state if self.redone_by is None else f"{self.state}, redone by {self.redone_by}"


def begin(session: Session, spec: ActSpec, parts: Iterable[Sequence[int]]) -> int:
    """Plan an act, and return its id. Nothing is changed yet. ``parts``: ids, at most ``IMAGES_AT_ONCE`` each."""
    session.execute(text("SELECT pg_advisory_xact_lock_shared(:key, :of)"), _PLANNING)
    act = KeywordAct(
        added=list(spec.added),
        removed=list(spec.removed),
        if_any=None if spec.if_any is None else [fold_seen(word) for word in spec.if_any],
        tags=list(spec.tags),
        query=spec.query,
        said_by=spec.said_by,
    )
    session.add(act)
    session.flush()
    images = 0
    for number, ids in enumerate(parts):
        images += len(ids)
        session.execute(
            text(
                """
                INSERT INTO keyword_part (act_id, number, image_ids) SELECT :act_id, :number,
                    (SELECT range_agg(int8range(id, id, '[]')) FROM unnest(CAST(:ids AS bigint[])) AS id)
                """
            ),
            {"act_id": act.id, "number": number, "ids": list(ids)},
        )
    act.images = images
    session.flush()
    return act.id


def forget(session: Session, act_id: int) -> None:
    """Forget an act that has done nothing."""
    session.execute(
        text(
            """DELETE FROM keyword_act WHERE id = :id AND undone_by IS NULL
               AND NOT EXISTS (SELECT FROM keyword_said WHERE act_id = :id)"""
        ),
        {"id": act_id},
    )


def go_on(session: Session, act_id: int) -> bool:
    """Do the next part of an act, or undo the next part of one that is being undone. Return whether any is left.

    Raises:
        NotFoundError: there is no such act.
    """
    if act_id >= 2**63:
        raise _unknown(act_id)
    undone = session.scalar(text("SELECT undone_by FROM keyword_act WHERE id = :id"), {"id": act_id}) is not None
    part = _next_part(session, act_id, is_undo=undone)
    # Images are locked before acts, as by who erases images, so that neither waits for the other.
    ids = _lock_images(session, part.image_ids)
    act = _locked(session, act_id)
    if undone is not (act.undone_by is not None):  # somebody began to undo it meanwhile
        return True
    return _undo_part(session, act, ids) if undone else _do_part(session, act, part, ids)


def begin_undo(session: Session, act_id: int, said_by: str) -> bool:
    """Begin to undo an act: what was not done yet is not done any more. Return False if somebody did so already.

    Raises:
        NotFoundError: there is no such act.
    """
    act = _locked(session, act_id)
    if act.undone_by is not None:
        return False
    act.undone_by, act.redone_by = said_by, None
    session.flush()
    return True


def begin_redo(session: Session, act_id: int, said_by: str) -> bool:
    """Begin to do again what was undone, or was begun to be undone. Return False if it is not undone.

    Raises:
        NotFoundError: there is no such act.
        ConflictError: of which images it spoke is not known any more.
    """
    act = _locked(session, act_id)
    if act.undone_by is None:
        return False
    left = session.scalar(
        text(
            """SELECT sum(upper(r) - lower(r)) FROM keyword_part CROSS JOIN LATERAL unnest(image_ids) AS r
               WHERE act_id = :id"""
        ),
        {"id": act_id},
    )
    if left is None and act.undone_at is not None and act.changed:
        raise ConflictError(
            f"which images the change {act_id} was about is not known any more, because an earlier version of ramq "
            "undid it; do it anew"
        )
    act.undone_by = act.undone_at = act.finished_at = None
    act.redone_by = said_by
    # Images of which it said nothing are not looked at again: they got nothing, and would get nothing now.
    act.seen, act.changed = act.images - int(left or 0), 0
    session.flush()
    return True


def _locked(session: Session, act_id: int) -> KeywordAct:
    act = session.get(KeywordAct, act_id, with_for_update=True, populate_existing=True) if act_id < 2**63 else None
    if act is None:
        raise _unknown(act_id)
    return act


def _unknown(act_id: int) -> NotFoundError:
    return NotFoundError(f"there is no change of keywords {act_id}; `ramq keyword history` lists them")


class _Part(NamedTuple):
    """Images of an act that come next. ``number``: of the row; None: there is none."""

    number: int | None
    image_ids: Sequence[int]


def _next_part(session: Session, act_id: int, *, is_undo: bool) -> _Part:
    if is_undo:
        ids = session.scalars(
            text("SELECT DISTINCT image_id FROM keyword_said WHERE act_id = :id ORDER BY image_id LIMIT :limit"),
            {"id": act_id, "limit": IMAGES_AT_ONCE},
        )
        return _Part(None, ids.all())
    row = session.execute(
        text(
            """SELECT number, ARRAY(SELECT generate_series(lower(r), upper(r) - 1) FROM unnest(image_ids) AS r) AS ids
               FROM keyword_part WHERE act_id = :id ORDER BY number LIMIT 1"""
        ),
        {"id": act_id},
    ).one_or_none()
    return _Part(None, []) if row is None else _Part(row.number, row.ids)


def _do_part(session: Session, act: KeywordAct, part: _Part, ids: Sequence[int]) -> bool:
    mine = session.scalar(
        text("DELETE FROM keyword_part WHERE act_id = :id AND number = :number RETURNING number"),
        {"id": act.id, "number": part.number},
    )
    if mine is not None:  # else another process did it meanwhile, or there is none
        crowded = _say(session, act, ids)
        tagged = keyword_tags.add(session, act, ids) if any(act.tags) else set()
        changed = keywords.settle(session, ids) | tagged
        act.seen += len(part.image_ids)
        act.changed += len(changed)
        act.full += crowded
    is_left = bool(session.scalar(text("SELECT EXISTS (SELECT FROM keyword_part WHERE act_id = :id)"), {"id": act.id}))
    if not is_left and act.finished_at is None:
        act.finished_at = session.scalar(select(func.clock_timestamp()))
    session.flush()
    return is_left


def _lock_images(session: Session, image_ids: Sequence[int]) -> list[int]:
    """Lock images in order, as workers do, so that two acts do not decide on them at once. Erased ones are left out."""
    rows = session.scalars(
        text("SELECT id FROM image WHERE id = ANY(:ids) ORDER BY id FOR UPDATE"), {"ids": list(image_ids)}
    )
    return list(rows)


def _say(session: Session, act: KeywordAct, ids: Sequence[int]) -> int:
    """Keep what an act says of images. Return how many would have too many keywords: nothing is said of these.

    That an image has not a word is only kept where somebody said otherwise, or may still do so for an older act:
    without that it never counts.
    """
    added = [(fold_seen(word), word, True) for word in act.added]
    removed = [(fold_seen(word), word, False) for word in act.removed]
    awaited = _awaited(session, act) if removed else set()
    before = keywords.spoken(session, ids)
    crowded = 0
    rows: list[tuple[int, str, str, bool]] = []
    for image_id in ids:
        known = before.get(image_id, [])
        about = {one.fold for one in known} | awaited
        said = sorted([*added, *(one for one in removed if one[0] in about)])
        if added and len(known) + len(added) > keywords.MAX_OF_IMAGE:
            mine = [Spoken(act.id, *one, act.if_any, act.said_by, act.said_at) for one in said]
            now = len(keywords.after(sorted([*known, *mine], key=attrgetter("act_id"))))
            if now > max(keywords.MAX_OF_IMAGE, len(keywords.after(known))):
                crowded += 1
                continue
        rows += [(image_id, *one) for one in said]
    if rows:
        columns = zip(("ids", "folds", "words", "present"), map(list, zip(*rows, strict=True)), strict=True)
        driver_connection(session).execute(_SAY, {"act_id": act.id, **dict(columns)})
    return crowded


def _awaited(session: Session, act: KeywordAct) -> set[str]:
    """Return the words that older acts may still give, unfinished or redone, as they are compared."""
    # First the lock and then the acts: what is planned no more is to be seen.
    is_planning = session.scalar(
        text(
            """SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND (classid, objid) = (:key, :of)
               AND objsubid = 2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""
        ),
        _PLANNING,
    )
    if is_planning:  # an act that may be older, and give any word
        return {fold_seen(word) for word in act.removed}
    older = session.scalars(
        text(
            """SELECT added FROM keyword_act WHERE id < :id AND (finished_at IS NULL OR undone_by IS NOT NULL)
               AND EXISTS (SELECT FROM keyword_part WHERE act_id = keyword_act.id)"""
        ),
        {"id": act.id},
    )
    return {fold_seen(word) for words in older for word in words}


def _undo_part(session: Session, act: KeywordAct, ids: Sequence[int]) -> bool:
    if ids:
        keyword_tags.take_back(session, act, ids)
        session.execute(
            text(
                """INSERT INTO keyword_part (act_id, number, image_ids)
                   SELECT :act_id, (SELECT coalesce(max(number), -1) + 1 FROM keyword_part WHERE act_id = :act_id),
                       (SELECT range_agg(int8range(id, id, '[]')) FROM unnest(CAST(:ids AS bigint[])) AS id)"""
            ),
            {"act_id": act.id, "ids": list(ids)},
        )
        session.execute(
            text("DELETE FROM keyword_said WHERE act_id = :id AND image_id = ANY(:ids)"),
            {"id": act.id, "ids": list(ids)},
        )
        keywords.settle(session, ids)
        return True
    if act.undone_at is None:
        act.undone_at = session.scalar(select(func.clock_timestamp()))
        session.flush()
    return False


def view(session: Session, act_id: int) -> ActView:
    """Return an act. Raises ``NotFoundError``."""
    act = session.get(KeywordAct, act_id) if act_id < 2**63 else None
    if act is None:
        raise _unknown(act_id)
    return _view(act)


def views(session: Session, limit: int, before: int | None = None) -> list[ActView]:
    """Return acts, the newest first. ``before``: those whose id is below it."""
    statement = select(KeywordAct).order_by(KeywordAct.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(KeywordAct.id < before)
    return [_view(act) for act in session.scalars(statement)]


def _view(act: KeywordAct) -> ActView:
    state: ActState = "done" if act.finished_at is not None else "unfinished"
    if act.undone_by is not None:
        state = "undoing" if act.undone_at is None else "undone"
    return ActView(
        id=act.id,
        added=act.added,
        removed=act.removed,
        tags=[name for name in act.tags if name],
        is_rename=act.if_any is not None,
        query=act.query,
        images=act.images,
        seen=act.seen,
        changed=act.changed,
        full=act.full,
        said_by=act.said_by,
        said_at=act.said_at,
        state=state,
        undone_by=act.undone_by,
        undone_at=act.undone_at,
        redone_by=act.redone_by,
    )
