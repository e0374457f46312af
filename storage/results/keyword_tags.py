"""Tags that acts on keywords add with the words, and what becomes of them when such an act is undone.

An act notes of each image what people had said of the tag before: ``keyword_said.tag_before``. An act of the same tag
that comes to it notes the same, so the tag stays as long as one of them does. What somebody says of the tag itself
stands (``results.corrections``): the notes are forgotten then, and no act takes it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.results import corrections, vectors
from storage.results.corrections import Said
from storage.texts import fold_seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

    from storage.tables import KeywordAct

# Rows of an act of the same tag on the same image, which is not undone.
_OTHER = """
    FROM keyword_said AS other JOIN keyword_act AS act ON act.id = other.act_id
    WHERE other.image_id = {image_id} AND other.act_id <> :act_id AND other.tag_before IS NOT NULL
        AND EXISTS (SELECT FROM unnest(act.tags) AS tag WHERE lower(tag) = lower(:name))
"""
_NOTE = f"""
    UPDATE keyword_said AS mine SET tag_before = CASE
        WHEN before.is_present THEN (SELECT other.tag_before {_OTHER.format(image_id="mine.image_id")} LIMIT 1)
        WHEN before.image_id IS NULL THEN '{{}}'::jsonb
        ELSE jsonb_build_object('spelling', spelling, 'said_by', said_by, 'said_at', said_at) END
    FROM unnest(CAST(:ids AS bigint[])) AS own (id)
    LEFT JOIN correction AS before ON before.image_id = own.id AND before.name = lower(:name)
    WHERE mine.image_id = own.id AND fold = :fold AND act_id = :act_id
    RETURNING mine.image_id, before.is_present IS NOT TRUE AS is_new
"""  # noqa: S608  (constants)
_OWN = """keyword_said.image_id = correction.image_id AND keyword_said.act_id = :act_id AND fold = :fold
    AND keyword_said.image_id = ANY(:ids) AND correction.name = lower(:name)
    AND correction.is_present AND correction.said_by = :said_by AND tag_before IS NOT NULL"""
_HAND_ON = f"""
    UPDATE correction SET said_by = next.said_by, said_at = next.said_at FROM keyword_said
    CROSS JOIN LATERAL (
        SELECT act.said_by, act.said_at {_OTHER.format(image_id="keyword_said.image_id")} ORDER BY act.id DESC LIMIT 1
    ) AS next
    WHERE {_OWN} RETURNING correction.image_id
"""  # noqa: S608  (constants)
_DELETE = f"""
    DELETE FROM correction USING keyword_said WHERE {_OWN} AND tag_before = '{{}}' RETURNING correction.image_id
"""  # noqa: S608  (constants)
_RESTORE = f"""
    UPDATE correction SET is_present = false, spelling = tag_before ->> 'spelling',
        said_by = tag_before ->> 'said_by', said_at = CAST(tag_before ->> 'said_at' AS timestamptz)
    FROM keyword_said WHERE {_OWN} AND tag_before ? 'said_by' RETURNING correction.image_id
"""  # noqa: S608  (constants)


def add(session: Session, act: KeywordAct, ids: Sequence[int]) -> set[int]:
    """Add the tags that go with the words, and note what people had said of them. Return the images that changed."""
    changed: set[int] = set()
    for word, name in _tags(act):
        values = {"ids": list(ids), "name": name, "fold": fold_seen(word), "act_id": act.id}
        new = [row.image_id for row in session.execute(text(_NOTE), values).all() if row.is_new]
        if new:
            corrections.put_with_act(session, new, Said(name, name, is_present=True), act.said_by)
            changed.update(new)
    return changed


def take_back(session: Session, act: KeywordAct, ids: Sequence[int]) -> None:
    """Let the tags that an act added be as before, but where they are there because of another act, too."""
    for word, name in _tags(act):
        values = {"act_id": act.id, "fold": fold_seen(word), "name": name, "said_by": act.said_by}
        kept = set(session.scalars(text(_HAND_ON), {**values, "ids": list(ids)}))
        alone = {**values, "ids": [image_id for image_id in ids if image_id not in kept]}
        gone = [*session.scalars(text(_DELETE), alone), *session.scalars(text(_RESTORE), alone)]
        vectors.touch(session, sorted({*gone, *kept}))


def _tags(act: KeywordAct) -> Iterator[tuple[str, str]]:
    return ((word, name) for word, name in zip(act.added, act.tags, strict=False) if name)
