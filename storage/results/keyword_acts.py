"""Acts of people on keywords: each gives words to some images, or removes them, and can be undone as a whole.

An act says of each image that it changes which words it has now. The last act that speaks of an image and a word
counts, in the order in which acts began. Undoing an act takes out what it said, so that each image has the keywords
that it would have if the act had never been: what others did before or afterwards stays.

An act is done in parts of ``IMAGES_AT_ONCE``. Each is one transaction, so an act that is interrupted has done a whole
number of parts, and can be continued or undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import func, select, text

from storage.errors import NotFoundError
from storage.results import corrections, keywords, vectors
from storage.results.corrections import Said
from storage.tables import KeywordAct
from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

IMAGES_AT_ONCE = 1_000
"""Images of a part. Workers that write some of them wait for its transaction."""

_SAY = """
    WITH said AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:folds AS text[]), CAST(:words AS text[]), CAST(:present AS bool[]))
            AS said (fold, word, is_present)
    ), now AS MATERIALIZED (
        SELECT DISTINCT ON (known.image_id, known.fold) known.image_id, known.fold, known.word, known.is_present,
            said_by
        FROM keyword_said AS known JOIN keyword_act ON keyword_act.id = known.act_id
        WHERE known.image_id = ANY(:ids) AND known.fold = ANY(CAST(:every AS text[]))
        ORDER BY known.image_id, known.fold, known.act_id DESC
    ), news AS MATERIALIZED (
        SELECT target.id AS image_id, said.fold, said.word, said.is_present,
            said.is_present AND now.is_present IS NOT TRUE AS is_new
        FROM unnest(CAST(:ids AS bigint[])) AS target (id) CROSS JOIN said
        LEFT JOIN now ON now.image_id = target.id AND now.fold = said.fold
        WHERE CASE WHEN said.is_present THEN now.is_present IS NOT TRUE OR :with_tags
                OR (now.word, now.said_by) <> (said.word, CAST(:said_by AS text)) ELSE now.is_present END
            AND (CAST(:if_any AS text[]) IS NULL OR EXISTS (SELECT FROM now AS own WHERE own.image_id = target.id
                AND own.is_present AND own.fold = ANY(CAST(:if_any AS text[]))))
    ), crowded AS MATERIALIZED (
        SELECT image_id FROM news LEFT JOIN keyword USING (image_id) WHERE is_new
        GROUP BY image_id, keyword.words HAVING count(*) + coalesce(cardinality(keyword.words), 0) > :most
    ), written AS (
        INSERT INTO keyword_said (image_id, fold, act_id, word, is_present)
        SELECT image_id, fold, :act_id, word, is_present FROM news
        WHERE NOT EXISTS (SELECT FROM crowded WHERE crowded.image_id = news.image_id) ORDER BY image_id, fold
        ON CONFLICT (image_id, fold, act_id) DO NOTHING RETURNING image_id
    )
    SELECT ARRAY(SELECT DISTINCT image_id FROM written) AS changed, (SELECT count(*) FROM crowded) AS crowded
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
        """Its state, and by whom it was undone."""
        return f"{self.state} by {self.undone_by}" if self.undone_by is not None else self.state


def begin(session: Session, spec: ActSpec, parts: Iterable[Sequence[int]]) -> int:
    """Plan an act, and return its id. Nothing is changed yet. ``parts``: ids, at most ``IMAGES_AT_ONCE`` each."""
    act = KeywordAct(
        added=list(spec.added),
        removed=list(spec.removed),
        if_any=None if spec.if_any is None else [fold(word) for word in spec.if_any],
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
    act = _locked(session, act_id)
    return _undo_part(session, act) if act.undone_by is not None else _do_part(session, act)


def begin_undo(session: Session, act_id: int, said_by: str) -> bool:
    """Begin to undo an act: what was not done yet is not done any more. Return False if somebody did so already.

    Raises:
        NotFoundError: there is no such act.
    """
    act = _locked(session, act_id)
    if act.undone_by is not None:
        return False
    act.undone_by = said_by
    session.execute(text("DELETE FROM keyword_part WHERE act_id = :id"), {"id": act_id})
    session.flush()
    return True


def _locked(session: Session, act_id: int) -> KeywordAct:
    act = session.get(KeywordAct, act_id, with_for_update=True) if act_id < 2**63 else None
    if act is None:
        raise NotFoundError(f"there is no change of keywords {act_id}; `ramq keyword history` lists them")
    return act


def _do_part(session: Session, act: KeywordAct) -> bool:
    row = session.execute(
        text(
            """SELECT number, ARRAY(SELECT generate_series(lower(r), upper(r) - 1) FROM unnest(image_ids) AS r) AS ids
               FROM keyword_part WHERE act_id = :id ORDER BY number LIMIT 1"""
        ),
        {"id": act.id},
    ).one_or_none()
    if row is not None:
        ids = _lock_images(session, row.ids)
        said, crowded = _say(session, act, ids)
        changed = set(said)
        if any(act.tags):
            changed |= _add_tags(session, act, ids)
        keywords.settle(session, changed)
        act.seen += len(row.ids)
        act.changed += len(changed)
        act.full += crowded
        session.execute(
            text("DELETE FROM keyword_part WHERE act_id = :id AND number = :number"),
            {"id": act.id, "number": row.number},
        )
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


def _say(session: Session, act: KeywordAct, ids: Sequence[int]) -> tuple[list[int], int]:
    folds = [fold(word) for word in (*act.added, *act.removed)]
    row = session.execute(
        text(_SAY),
        {
            "act_id": act.id,
            "ids": list(ids),
            "folds": folds,
            "words": [*act.added, *act.removed],
            "present": [True] * len(act.added) + [False] * len(act.removed),
            "every": [*folds, *(act.if_any or ())],
            "if_any": act.if_any,
            "said_by": act.said_by,
            "with_tags": any(act.tags),
            "most": keywords.MAX_OF_IMAGE,
        },
    ).one()
    return row.changed, row.crowded


def _add_tags(session: Session, act: KeywordAct, ids: Sequence[int]) -> set[int]:
    """Add the tags that go with the words, and note what people had said of them. Return the images that changed."""
    changed: set[int] = set()
    for word, name in zip(act.added, act.tags, strict=True):
        if not name:
            continue
        noted = session.scalars(
            text(
                """
                UPDATE keyword_said SET tag_before = CASE WHEN before.image_id IS NULL THEN '{}'::jsonb
                    ELSE jsonb_build_object('spelling', spelling, 'said_by', said_by, 'said_at', said_at) END
                FROM unnest(CAST(:ids AS bigint[])) AS own (id)
                LEFT JOIN correction AS before ON before.image_id = own.id AND before.name = lower(:name)
                WHERE keyword_said.image_id = own.id AND fold = :fold AND act_id = :act_id
                    AND before.is_present IS NOT TRUE
                RETURNING keyword_said.image_id
                """
            ),
            {"ids": list(ids), "name": name, "fold": fold(word), "act_id": act.id},
        ).all()
        if noted:
            corrections.put(session, noted, [Said(name, name, is_present=True)], act.said_by)
            changed.update(noted)
    return changed


def _undo_part(session: Session, act: KeywordAct) -> bool:
    ids = session.scalars(
        text("SELECT DISTINCT image_id FROM keyword_said WHERE act_id = :id ORDER BY image_id LIMIT :limit"),
        {"id": act.id, "limit": IMAGES_AT_ONCE},
    ).all()
    if ids:
        locked = _lock_images(session, ids)
        _take_tags_back(session, act, locked)
        session.execute(
            text("DELETE FROM keyword_said WHERE act_id = :id AND image_id = ANY(:ids)"),
            {"id": act.id, "ids": locked},
        )
        keywords.settle(session, locked)
        return True
    if act.undone_at is None:
        act.undone_at = session.scalar(select(func.clock_timestamp()))
        session.flush()
    return False


def _take_tags_back(session: Session, act: KeywordAct, ids: Sequence[int]) -> None:
    """Let the tags that the act added be as before, where nobody else said something of them since."""
    for word, name in zip(act.added, act.tags, strict=False):
        if not name:
            continue
        values = {"ids": list(ids), "act_id": act.id, "fold": fold(word), "name": name, "said_by": act.said_by}
        own = """keyword_said.image_id = correction.image_id AND act_id = :act_id AND fold = :fold
            AND keyword_said.image_id = ANY(:ids) AND correction.name = lower(:name)
            AND correction.is_present AND correction.said_by = :said_by"""
        gone = session.scalars(
            text(
                f"""DELETE FROM correction USING keyword_said WHERE {own} AND tag_before = '{{}}'
                    RETURNING correction.image_id"""  # noqa: S608  (constants)
            ),
            values,
        ).all()
        turned = session.scalars(
            text(
                f"""UPDATE correction SET is_present = false, spelling = tag_before ->> 'spelling',
                    said_by = tag_before ->> 'said_by', said_at = CAST(tag_before ->> 'said_at' AS timestamptz)
                    FROM keyword_said WHERE {own} AND tag_before ? 'said_by'
                    RETURNING correction.image_id"""  # noqa: S608  (constants)
            ),
            values,
        ).all()
        vectors.touch(session, sorted({*gone, *turned}))


def view(session: Session, act_id: int) -> ActView:
    """Return an act. Raises ``NotFoundError``."""
    act = session.get(KeywordAct, act_id) if act_id < 2**63 else None
    if act is None:
        raise NotFoundError(f"there is no change of keywords {act_id}; `ramq keyword history` lists them")
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
    )
